"""What a checkpoint and a resume cost, as shares of a rung.

    uv run python -m benchmarks.nine runs/nine
    uv run python -m benchmarks.resume.run runs/nine

A pair of nine.py is trained to 192, 384, ... 1,536 samples. Writing a rung's checkpoint is
timed inside; then a new session goes on from it: joining the parts again, which any start needs,
and reading the checkpoint. Encoders' features are on disk, as for all but the first LLM.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks import nine
from benchmarks.machine import machine
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent

RESULTS = Path(__file__).parent / "results.json"
RUNGS = (192, 384, 768, 1536)


class Timed(CheckpointStore):
    """Notes how long writing and reading take."""

    seconds: dict[str, float]

    def save(self, *given: Any) -> str:
        """Write a checkpoint."""
        start = perf_counter()
        digest = super().save(*given)
        self.seconds["write"] = perf_counter() - start
        return digest

    def load(self, *given: Any) -> Any:
        """Read a checkpoint."""
        start = perf_counter()
        found = super().load(*given)
        self.seconds["read"] = perf_counter() - start
        return found


def main() -> None:
    """Train, write, read; the table."""
    torch.set_num_threads(1)
    settings = nine.study(Path(sys.argv[1]))
    data = AlignmentSet.read(settings.alignment, seed=0, progress=Silent())
    parts = settings.models().parts(Candidate("clip-s", "qwen2-s"))
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Timed(folder)
        on = Machine(torch.device("cpu"), features=Path(folder) / "f", feature_bytes=1 << 30)

        def opened() -> AlignmentSession:
            return AlignmentSession(
                *parts,
                settings=settings.alignment,
                seed=0,
                data=data,
                checkpoints=store,
                machine=on,
            )

        store.seconds = {}
        opened().advance(RUNGS[-1], Silent())  # fills the features
        for rung in RUNGS:
            for path in Path(folder).glob("*/*/checkpoint.json"):
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
