"""Samples per second and peak memory of our loop, TRL's SFTTrainer and a plain Trainer.

    uv run --with trl python -m benchmarks.alignment_throughput.run

All loops use the same model, LoRA, data, order, batch size and precision. Each runs in a separate
process, in turns, after two uncounted steps. The losses of all steps are compared.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results.json"
BATCH, MICRO, UNCOUNTED, STEPS, ROUNDS = 16, 4, 2, 10, 3
LOOPS = ("ours", "ours, packed", "ours, features on disk", "trl", "transformers")


def ours(vlm: Any, data: Any, times: list[float], *, batching: str, cache: Path | None) -> Any:
    """Losses of our trainer.

    Args:
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

    cpu = torch.device("cpu")
    features = FeatureCache(cache, {}, budget_bytes=1 << 30) if cache else None
    trainer = Trainer(
        vlm,
        settings=recipe(BATCH, MICRO, "fp32", batching=batching),
        data=data,
        seed=0,
        accelerator=open_accelerator(cpu),
        device=cpu,
        cache=features,
        threads=1,
    )
    trainer.run(len(data), lambda _: times.append(time.perf_counter()))
    return trainer.losses


def texts(vlm: Any, sample: Any) -> tuple[str, str]:
    """Prompt and completion, rendered with our template."""
    prompt = vlm.processor.apply_chat_template(
        list(sample.messages[:1]), add_generation_prompt=True, tokenize=False
    )
    whole = vlm.processor.apply_chat_template(list(sample.messages), tokenize=False)
    return prompt, whole[len(prompt) :]


def arguments() -> dict[str, Any]:
    """Arguments of both Hugging Face trainers."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": BATCH // MICRO,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
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


def clock(times: list[float]) -> Any:
    """A callback that appends the time after every step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    return Clock()


def trl(vlm: Any, data: Any, times: list[float]) -> Any:
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
        args=SFTConfig(**arguments(), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=vlm.processor,
        callbacks=[clock(times)],
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def transformers(vlm: Any, data: Any, times: list[float]) -> Any:
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
        args=TrainingArguments(**arguments()),
        train_dataset=list(range(len(data))),
        data_collator=collate,
        callbacks=[clock(times)],
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def prepared() -> tuple[Any, Any]:
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

    data = parts.drawn(parts.SMALL, BATCH * (UNCOUNTED + STEPS))
    side = parts.SMALL.vision["image_size"]
    for number in range(len(data)):
        noise = np.random.default_rng(number).integers(0, 255, (side // 8, side // 8, 3), "uint8")
        file = io.BytesIO()
        Image.fromarray(noise).resize((side, side)).save(file, "jpeg")
        data.images[number] = file.getvalue()
    cpu = torch.device("cpu")
    tower, llm = parts.models_of(parts.SMALL, cpu, torch.float32)
    size = {"height": side, "width": side}
    processor = CLIPImageProcessor(size=size, do_center_crop=False)
    rank = parts.SMALL.lora_rank
    vlm = join(
        Encoder(tower, processor, vision_family("clip", tower.config)),
        llm,
        parts.tokenizer_of(parts.SMALL),
        names=("clip", "llama"),
        lora=LoraSettings(rank=rank, alpha=2 * rank),
        seed=0,
        device=cpu,
    )
    return data, vlm


def one(name: str, cache: str) -> None:
    """Run one loop in this process and print its figures."""
    import torch

    torch.set_num_threads(1)
    data, vlm = prepared()
    loops: dict[str, Callable[[list[float]], Any]] = {
        "ours": lambda t: ours(vlm, data, t, batching="grouped", cache=None),
        "ours, packed": lambda t: ours(vlm, data, t, batching="packed", cache=None),
        "ours, features on disk": lambda t: ours(
            vlm, data, t, batching="grouped", cache=Path(cache)
        ),
        "trl": lambda t: trl(vlm, data, t),
        "transformers": lambda t: transformers(vlm, data, t),
    }
    times: list[float] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses = loops[name](times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = times[-1] - times[UNCOUNTED - 1]
    figures = {
        "samples_per_second": BATCH * STEPS / seconds,
        "peak_mb": peak / 1024,
        "grown_mb": (peak - before) / 1024,
        "losses": [float(loss) for loss in losses],
    }
    print("RESULT", json.dumps(figures))


def called(name: str, cache: str) -> dict[str, Any]:
    """Run one loop in a separate process and return its figures."""
    command = [sys.executable, "-m", "benchmarks.alignment_throughput.run", name, cache]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    (line,) = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
    figures: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return figures


def main() -> None:
    """Run all loops in turns; print the table and write results.json."""
    if len(sys.argv) > 1:
        one(*sys.argv[1:])
        return
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as cache:
        called("ours, features on disk", cache)  # fills the feature cache
        for _ in range(ROUNDS):
            for name in LOOPS:
                runs[name].append(called(name, cache))
                print(f"{name}: {runs[name][-1]['samples_per_second']:.2f} samples/s", flush=True)
    rows = {}
    for name, measured in runs.items():
        speeds = sorted(run["samples_per_second"] for run in measured)
        rows[name] = {
            "samples_per_second": speeds[len(speeds) // 2],
            "all": speeds,
            "peak_mb": max(run["peak_mb"] for run in measured),
            "grown_mb": max(run["grown_mb"] for run in measured),
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
    RESULTS.write_text(json.dumps({"machine": about, "loops": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
