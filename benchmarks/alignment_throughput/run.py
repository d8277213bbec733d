"""Samples per second and peak memory of our loop, TRL's SFTTrainer and a plain Trainer.

    uv run --with trl python -m benchmarks.alignment_throughput.run                # one CPU thread
    uv run --with trl python -m benchmarks.alignment_throughput.run --setup 7b     # one GPU

All loops use the same model, LoRA, data, order, batch size and precision. Each runs in a separate
process, in turns, after two uncounted steps. The losses of all steps are compared. `7b` is
CLIP-L/14-336 and a 7B Llama with random weights, in bf16 with LoRA of rank 128.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parent
UNCOUNTED, ROUNDS = 2, 3
LOOPS = ("ours", "ours, packed", "ours, features on disk", "trl", "transformers")


@dataclass(frozen=True)
class Setup:
    """What all loops train, and on what.

    Attributes:
        shape: name of the sizes in `parts`.
        device: torch device.
        bf16: whether weights are in bf16 and computed in it; fp32 otherwise.
        batch: samples of an optimiser step.
        micro: samples of a forward pass.
        steps: counted optimiser steps.
        results: name of the file of the results.
    """

    shape: str
    device: str
    bf16: bool
    batch: int
    micro: int
    steps: int
    results: str


SETUPS = {
    "small": Setup("SMALL", "cpu", False, 16, 4, 10, "results.json"),
    "7b": Setup("LARGE", "cuda", True, 32, 4, 6, "results-7b.json"),
}


def ours(
    setup: Setup, vlm: Any, data: Any, times: list[float], *, batching: str, cache: Path | None
) -> Any:
    """Losses of our trainer.

    Args:
        setup: sizes and device.
        vlm: the pair.
        data: the conversations.
        times: receives the time after each step.
        batching: `grouped` or `packed`.
        cache: folder with the encoder's features from an earlier training; None uses no cache.
    """
    import torch

    from benchmarks.alignment_throughput.parts import recipe
    from mordal_optuna.alignment.features import FeatureCache
    from mordal_optuna.alignment.parallel import open_accelerator
    from mordal_optuna.alignment.train import Trainer

    device = torch.device(setup.device)
    features = FeatureCache(cache, {}, budget_bytes=8 << 30) if cache else None
    precision = "bf16" if setup.bf16 else "fp32"
    trainer = Trainer(
        vlm,
        settings=recipe(setup.batch, setup.micro, precision, batching=batching),
        data=data,
        seed=0,
        accelerator=open_accelerator(device),
        device=device,
        cache=features,
        threads=1,
    )
    trainer.run(len(data), lambda _: times.append(now(setup)))
    return trainer.losses


def now(setup: Setup) -> float:
    """The time in seconds, once the device has finished its work."""
    if setup.device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def texts(vlm: Any, sample: Any) -> tuple[str, str]:
    """Prompt and completion, rendered with our template."""
    prompt = vlm.processor.apply_chat_template(
        list(sample.messages[:1]), add_generation_prompt=True, tokenize=False
    )
    whole = vlm.processor.apply_chat_template(list(sample.messages), tokenize=False)
    return prompt, whole[len(prompt) :]


def arguments(setup: Setup) -> dict[str, Any]:
    """Arguments of both Hugging Face trainers."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": setup.micro,
        "gradient_accumulation_steps": setup.batch // setup.micro,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": setup.device == "cpu",
        "bf16": setup.bf16,
        "gradient_checkpointing": False,
        "remove_unused_columns": False,
        "disable_tqdm": True,
    }


def in_order(base: type) -> type:
    """A trainer class that keeps the order of the data, as ours does."""
    from torch.utils.data import SequentialSampler

    class Ordered(base):
        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset or self.train_dataset)

    return Ordered


def clock(setup: Setup, times: list[float]) -> Any:
    """A callback that appends the time after every step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(now(setup))

    return Clock()


def trl(setup: Setup, vlm: Any, data: Any, times: list[float]) -> Any:
    """Losses of TRL's SFTTrainer on prompts, completions and images."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from mordal_optuna.models.images import open_image

    rows = []
    for index in range(len(data)):
        prompt, completion = texts(vlm, data.sample(index))
        pictures = [open_image(p) for p in data.pictures(index)]
        rows.append({"prompt": prompt, "completion": completion, "images": pictures})
    trainer = in_order(SFTTrainer)(
        model=vlm.model,
        args=SFTConfig(**arguments(setup), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=vlm.processor,
        callbacks=[clock(setup, times)],
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def transformers(setup: Setup, vlm: Any, data: Any, times: list[float]) -> Any:
    """Losses of a plain Trainer with a collator as its users write it."""
    from transformers import Trainer, TrainingArguments

    from mordal_optuna.models.images import open_image

    tokenizer = vlm.processor.tokenizer

    def collate(indices: list[int]) -> Any:
        pairs = [texts(vlm, data.sample(index)) for index in indices]
        images = [open_image(data.pictures(index)[0]) for index in indices]
        batch = vlm.processor(
            text=["".join(pair) for pair in pairs],
            images=images,
            padding=True,
            padding_side="right",
            add_special_tokens=False,
            return_tensors="pt",
        )
        labels = batch["input_ids"].clone()
        for row, (_, completion) in enumerate(pairs):
            size = int(batch["attention_mask"][row].sum())
            answer = len(tokenizer(completion, add_special_tokens=False)["input_ids"])
            labels[row, : size - answer] = -100
            labels[row, size:] = -100
        batch["labels"] = labels
        return batch

    trainer = in_order(Trainer)(
        model=vlm.model,
        args=TrainingArguments(**arguments(setup)),
        train_dataset=list(range(len(data))),
        data_collator=collate,
        callbacks=[clock(setup, times)],
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def prepared(setup: Setup) -> tuple[Any, Any]:
    """Conversations about pictures of noise, and the pair to train."""
    import io

    import numpy as np
    import torch
    from PIL import Image
    from transformers import CLIPImageProcessor

    from benchmarks.alignment_throughput import parts
    from mordal_optuna.config import LoraSettings
    from mordal_optuna.models.assemble import join
    from mordal_optuna.models.families import vision_family
    from mordal_optuna.models.towers import Encoder

    shape = getattr(parts, setup.shape)
    data = parts.drawn(shape, setup.batch * (UNCOUNTED + setup.steps))
    side = shape.vision["image_size"]
    for number in range(len(data)):
        noise = np.random.default_rng(number).integers(0, 255, (side // 8, side // 8, 3), "uint8")
        file = io.BytesIO()
        Image.fromarray(noise).resize((side, side)).save(file, "jpeg")
        data.images[number] = file.getvalue()
    device = torch.device(setup.device)
    dtype = torch.bfloat16 if setup.bf16 else torch.float32
    tower, llm = parts.models_of(shape, device, dtype)
    size = {"height": side, "width": side}
    processor = CLIPImageProcessor(size=size, do_center_crop=False)
    vlm = join(
        Encoder(tower, processor, vision_family("clip", tower.config)),
        llm,
        parts.tokenizer_of(shape),
        names=("clip", "llama"),
        lora=LoraSettings(rank=shape.lora_rank, alpha=2 * shape.lora_rank),
        seed=0,
        device=device,
    )
    return data, vlm


def one(setup: Setup, name: str, cache: str) -> None:
    """Run one loop in this process and print its figures."""
    import torch

    torch.set_num_threads(1)
    data, vlm = prepared(setup)
    loops: dict[str, Callable[[list[float]], Any]] = {
        "ours": lambda t: ours(setup, vlm, data, t, batching="grouped", cache=None),
        "ours, packed": lambda t: ours(setup, vlm, data, t, batching="packed", cache=None),
        "ours, features on disk": lambda t: ours(
            setup, vlm, data, t, batching="grouped", cache=Path(cache)
        ),
        "trl": lambda t: trl(setup, vlm, data, t),
        "transformers": lambda t: transformers(setup, vlm, data, t),
    }
    times: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses = loops[name](times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = times[-1] - times[UNCOUNTED - 1]
    gpu = setup.device == "cuda"
    figures = {
        "samples_per_second": setup.batch * setup.steps / seconds,
        "peak_mb": peak / 1024,
        "grown_mb": (peak - before) / 1024,
        "device_peak_mb": torch.cuda.max_memory_allocated() / 2**20 if gpu else None,
        "losses": [float(loss) for loss in losses],
    }
    print("RESULT", json.dumps(figures))


def called(setup: str, name: str, cache: str) -> dict[str, Any]:
    """Run one loop in a separate process and return its figures."""
    module = "benchmarks.alignment_throughput.run"
    command = [sys.executable, "-m", module, "--setup", setup, "--loop", name, "--cache", cache]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    (line,) = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
    figures: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return figures


def main() -> None:
    """Run all loops in turns; print the table and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--setup", choices=SETUPS, default="small")
    parser.add_argument("--loop", choices=LOOPS, help="run this loop alone, in this process")
    parser.add_argument("--cache", default="", help="folder of the features of that loop")
    given = parser.parse_args()
    setup = SETUPS[given.setup]
    if given.loop:
        one(setup, given.loop, given.cache)
        return
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as cache:
        called(given.setup, "ours, features on disk", cache)  # fills the feature cache
        for _ in range(ROUNDS):
            for name in LOOPS:
                runs[name].append(called(given.setup, name, cache))
                print(f"{name}: {runs[name][-1]['samples_per_second']:.2f} samples/s", flush=True)
    rows = {}
    for name, measured in runs.items():
        speeds = sorted(run["samples_per_second"] for run in measured)
        rows[name] = {
            "samples_per_second": speeds[len(speeds) // 2],
            "all": speeds,
            "peak_mb": max(run["peak_mb"] for run in measured),
            "grown_mb": max(run["grown_mb"] for run in measured),
            "device_peak_mb": measured[0]["device_peak_mb"],
            "losses": measured[0]["losses"],
        }
    reference = rows["trl"]
    print(
        f"{'loop':24}{'samples/s':>10}{'x TRL':>7}{'peak MB':>9}{'grown MB':>10}"
        f"{'max |loss - TRL|':>18}"
    )
    for name, row in rows.items():
        apart = max(abs(a - b) for a, b in zip(row["losses"], reference["losses"], strict=True))
        row["largest_loss_difference"] = apart
        ratio = row["samples_per_second"] / reference["samples_per_second"]
        print(
            f"{name:24}{row['samples_per_second']:10.2f}{ratio:7.2f}{row['peak_mb']:9.0f}"
            f"{row['grown_mb']:10.0f}{apart:18.1e}"
        )
    about = machine("torch", "transformers", "peft", "accelerate", "trl")
    results = json.dumps({"machine": about, "loops": rows}, indent=1)
    (FOLDER / setup.results).write_text(results + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
