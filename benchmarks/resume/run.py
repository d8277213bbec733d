"""Cost of writing a checkpoint and of resuming from one, as shares of a rung's training.

    uv run python -m benchmarks.nine runs/nine
    uv run python -m benchmarks.resume.run runs/nine

A pair of nine.py is trained to 192, 384, ... 1,536 samples, and writing each rung's checkpoint is
timed. Then a new session resumes from it: it assembles the model, as any start does, and reads the
checkpoint. Encoder features are on disk already, as for all LLMs but the first.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import nine
from benchmarks.machine import machine
from benchmarks.pairs import open_session
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from mordal_optuna.alignment.manifests import Manifest
    from mordal_optuna.alignment.session import AlignmentSession

RESULTS = Path(__file__).parent / "results.json"
RUNGS = (192, 384, 768, 1536)
CANDIDATE = Candidate("clip-s", "qwen2-s")


class Timed(CheckpointStore):
    """A checkpoint store that records the seconds of the last write and the last read."""

    seconds: dict[str, float]

    def save(self, *arguments: Any) -> Manifest:
        """Write a checkpoint."""
        start = perf_counter()
        manifest = super().save(*arguments)
        self.seconds["write"] = perf_counter() - start
        return manifest

    def load(self, *arguments: Any) -> Any:
        """Read a checkpoint."""
        start = perf_counter()
        loaded = super().load(*arguments)
        self.seconds["read"] = perf_counter() - start
        return loaded


def main() -> None:
    """Time training, writing and resuming at every rung; print and write the results."""
    torch.set_num_threads(1)
    settings = nine.study(Path(sys.argv[1]))
    data = AlignmentSet.read(settings.alignment, seed=0, progress=Silent())
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Timed(folder)
        cpu = Machine(torch.device("cpu"), features=Path(folder) / "f", feature_bytes=1 << 30)

        def opened() -> AlignmentSession:
            return open_session(settings, CANDIDATE, data, checkpoints=store, machine=cpu, seed=0)

        store.seconds = {}
        opened().advance(RUNGS[-1], Silent())  # fills the feature cache
        for rung in RUNGS:
            for path in Path(folder).glob("*/*/checkpoint*.json"):
                store.files.delete(path.parts[-3], int(path.parts[-2]))
            session = opened()
            session.advance(settings.alignment.batch_size, Silent())
            start = perf_counter()
            session.advance(rung, Silent())
            train = perf_counter() - start - store.seconds["write"]
            start = perf_counter()
            opened().advance(rung, Silent())
            rows.append(
                {
                    "samples": rung,
                    "train": train,
                    "write": store.seconds["write"],
                    "resume": perf_counter() - start,
                    "read": store.seconds["read"],
                }
            )
    print(" samples  training s  writing s  share  resuming s  share  of which reading s")
    for row in rows:
        print(
            f"{row['samples']:8,}{row['train']:12.2f}{row['write']:11.3f}"
            f"{100 * row['write'] / row['train']:6.1f}%{row['resume']:12.3f}"
            f"{100 * row['resume'] / row['train']:6.1f}%{row['read']:20.3f}"
        )
    print(f"median writing {statistics.median(r['write'] for r in rows):.3f} s")
    about = machine("torch", "transformers", "peft", "safetensors")
    RESULTS.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
