"""Tokens per second, shares of the device's peak, and peak memory of our loop.

    python -m benchmarks.alignment_throughput.gpu [--micro 8] [--tokens 16384] [--out FILE]

On a GPU: CLIP-L/14-336 and a 7B Llama with random weights, LoRA of rank 128, bf16. On a CPU the
same with tiny shapes, to show that it runs. Peaks are the fastest matrix product measured, and the
dense bf16 rate of the device's datasheet. Needs no network.

Operations counted (multiplications and additions separately; without recomputation):
    frozen linear layers   2 N forward, 2 N backward to their inputs, per token
    LoRA                   2 n forward, 4 n backward, per token
    attention              4 t d L forward, twice that backward, per token at mean position t
    head                   2 V d forward and backward, per target token
    encoder                2 N forward, per patch (frozen, no backward)
    projector              2 n forward, 4 n backward, per patch
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils.chat_template_utils import render_jinja_template

from benchmarks.alignment_throughput.parts import (
    LARGE,
    TINY,
    Shape,
    drawn,
    models_of,
    recipe,
    tokenizer_of,
)
from mordal_optuna.alignment.conversation import IGNORED, Conversations
from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.alignment.peaks import of_name
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import LoraSettings
from mordal_optuna.models.assemble import Vlm, join_models
from mordal_optuna.models.families import llm_family, vision_family
from mordal_optuna.models.towers import Encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.alignment_throughput.parts import Drawn

UNCOUNTED = 2


class NoiseEncoder(Encoder):
    """Encoder that reads random pixels instead of images, so that no image library is needed."""

    def read(self, pictures: Sequence[Any]) -> torch.Tensor:
        """Random pixels, pictures x 3 x side x side."""
        side = self.tower.config.image_size
        return torch.randn(len(pictures), 3, side, side, dtype=self.tower.dtype)


class PlainProcessor:
    """Tokenizer and LLaVA's layout of a conversation, without an image processor."""

    chat_template = (
        "<s>{% for message in messages %}"
        "{{ ' ASSISTANT : ' if message.role == 'assistant' else ' USER : ' }}"
        "{% for part in message.content %}"
        "{{ '<image> ' if part.type == 'image' else part.text }}{% endfor %}"
        "{{ ' </s>' if message.role == 'assistant' else '' }}{% endfor %}"
        "{{ ' ASSISTANT :' if add_generation_prompt else '' }}"
    )

    def __init__(self, shape: Shape) -> None:
        self.tokenizer = tokenizer_of(shape)
        self.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, Any]],
        add_generation_prompt: bool = False,  # noqa: FBT001, FBT002 - signature of transformers
        tokenize: bool = False,  # noqa: ARG002, FBT001, FBT002
    ) -> str:
        """Render a conversation, with the start of an answer if one is asked for."""
        (text,), _ = render_jinja_template(
            [list(messages)],
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
        )
        return str(text)


def joined(shape: Shape, device: torch.device, attention: str | None) -> Vlm:
    """A pair with random weights, in bf16."""
    tower, llm = models_of(shape, device, torch.bfloat16, attention)
    encoder = NoiseEncoder(tower, None, vision_family("clip", tower.config))
    processor = PlainProcessor(shape)
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    lora = LoraSettings(rank=shape.lora_rank, alpha=2 * shape.lora_rank)
    model = join_models(
        encoder,
        llm,
        image_id,
        name="llama",
        lora=lora,
        seed=0,
        device=device,
    )
    patches = (shape.vision["image_size"] // shape.vision["patch_size"]) ** 2
    family = llm_family("llama", model.config.text_config)
    return Vlm(model, processor, patches, encoder, family)


def peak_operations(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the fastest of several large matrix products."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(20):
        wait(device)
        start = time.perf_counter()
        _ = a @ a
        wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def wait(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def counts(vlm: Vlm, data: Drawn, start: int) -> tuple[int, int, float]:
    """Numbers of tokens and of target tokens, and the sum over tokens of attended positions.

    Args:
        vlm: the pair.
        data: the conversations.
        start: index of the first counted conversation.
    """
    reader = Conversations(vlm, max_length=4096)
    tokens = targets = 0
    attended = 0.0
    for index in range(start, len(data)):
        ids, labels = reader.expand(reader.encode(data.sample(index)))  # type: ignore[arg-type]
        tokens += len(ids)
        targets += int((labels[1:] != IGNORED).sum())
        attended += len(ids) ** 2 / 2
    return tokens, targets, attended


def operations(vlm: Vlm, shape: Shape, samples: int, counted: tuple[int, int, float]) -> float:
    """Number of operations, counted as the module says.

    Args:
        vlm: the pair.
        shape: its sizes.
        samples: number of samples.
        counted: result of `counts`.
    """
    tokens, targets, attended = counted
    sizes: dict[str, int] = dict.fromkeys(("llm", "lora", "encoder", "projector"), 0)
    for name, parameter in vlm.model.named_parameters():
        if "lora_" in name:
            sizes["lora"] += parameter.numel()
        elif "vision_tower" in name:
            sizes["encoder"] += parameter.numel()
        elif "projector" in name:
            sizes["projector"] += parameter.numel()
        elif "language_model.layers" in name:
            sizes["llm"] += parameter.numel()
    patches = samples * vlm.image_tokens
    width, layers = shape.llm["hidden_size"], shape.llm["num_hidden_layers"]
    return (
        4 * sizes["llm"] * tokens
        + 6 * sizes["lora"] * tokens
        + 12 * width * layers * attended
        + 4 * shape.llm["vocab_size"] * width * targets
        + 2 * sizes["encoder"] * patches
        + 6 * sizes["projector"] * patches
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train some steps and print one JSON object.

    Args:
        arguments: those of the command line; None reads them there.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=None)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batching", choices=["grouped", "packed"], default="grouped")
    parser.add_argument("--attention", default=None)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(arguments)
    gpu = torch.cuda.is_available()
    device = torch.device("cuda:0" if gpu else "cpu")
    shape = LARGE if gpu else TINY
    peak = peak_operations(device, torch.bfloat16)
    vlm = joined(shape, device, options.attention)
    data = drawn(shape, options.batch * (UNCOUNTED + options.steps))
    settings = recipe(
        options.batch,
        options.micro,
        "bf16",
        micro_batch_tokens=options.tokens,
        batching=options.batching,
        learning_rate=1e-4,
        gradient_checkpointing=options.checkpointing,
    )
    trainer = Trainer(
        vlm,
        settings=settings,
        data=data,  # type: ignore[arg-type]
        seed=0,
        accelerator=open_accelerator(device),
        device=device,
    )
    times: list[float] = []

    def advance(_: int) -> None:
        wait(device)
        times.append(time.perf_counter())

    trainer.run(len(data), advance)
    counted = counts(vlm, data, options.batch * UNCOUNTED)
    seconds = times[-1] - times[UNCOUNTED - 1]
    samples = options.batch * options.steps
    done = operations(vlm, shape, samples, counted)
    name = torch.cuda.get_device_name(device) if gpu else platform.processor() or "CPU"
    nominal = of_name(name)
    result: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "shape": "CLIP-L/14-336 + 7B" if gpu else "tiny",
        "options": {k: v for k, v in vars(options).items() if k != "out"},
        "tokens_per_second": counted[0] / seconds,
        "samples_per_second": samples / seconds,
        "matrix_product_peak": peak,
        "share_of_peak": done / seconds / peak,
        "share_of_datasheet": done / seconds / nominal if nominal else None,
        "peak_memory_gb": torch.cuda.max_memory_allocated(device) / 1e9 if gpu else None,
        "losses": trainer.losses,
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
