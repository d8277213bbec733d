"""Aligns a candidate in processes of its own, to be killed at any moment.

    python aligner.py ZOO FOLDER SEED KILLS

Children are forked after the imports, which take longest. Each goes on with the folder's run
until it is killed or done; a run that is done counts, and the next one starts in a new folder.
Prints one JSON object: where the kills fell, and the digests of the runs that were finished.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.config import AlignmentSettings, LoraSettings
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNGS = (16, 32, 64)
# Longest life of a child before it is killed.
SECONDS = 1.2


def align(zoo: Path, folder: Path) -> None:
    """All rungs, or what is left of them."""
    settings = AlignmentSettings(
        conversations=zoo / "alignment" / "alignment.json",
        images=zoo / "alignment" / "images",
        samples=64,
        batch_size=8,
        micro_batch_size=4,
        learning_rate=1e-3,
        warmup_samples=16,
        schedule="cooldown",
        lora=LoraSettings(rank=4, alpha=8, dropout=0.05),
        precision="fp32",
        max_length=200,
    )
    session = AlignmentSession(
        ModelSource("clip", str(zoo / "encoders" / "clip-t")),
        ModelSource("llama", str(zoo / "llms" / "llama-t")),
        settings=settings,
        seed=0,
        data=AlignmentSet.read(settings, seed=0, progress=Silent(), checked=folder),
        checkpoints=CheckpointStore(folder / "checkpoints"),
        machine=Machine(torch.device("cpu"), features=folder / "features", feature_bytes=1 << 30),
    )
    for rung in RUNGS:
        session.advance(rung, Silent())


def slow_writes(folder: Path) -> None:
    """Let writing take as long as training, and tell by a file that it is going on."""
    place, mark = CheckpointFiles._place, folder / "writing"

    def slowly(self: CheckpointFiles, local: Path, path: str) -> None:
        mark.touch()
        time.sleep(0.02)
        place(self, local, path)
        time.sleep(0.02)
        mark.unlink()

    CheckpointFiles._place = slowly  # type: ignore[method-assign]


def child(zoo: Path, folder: Path) -> int:
    """Start one in a process of its own."""
    process = os.fork()
    if not process:
        status = 1
        try:
            slow_writes(folder)
            align(zoo, folder)
            status = 0
        finally:  # not back into the loop of the parent, whatever happened
            traceback.print_exc()
            os._exit(status)
    return process


def ended_before_writing(process: int, mark: Path) -> int | None:
    """Wait until a child writes, and return None; its status if it ends before."""
    while not mark.exists():
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    return None


def lives(zoo: Path, folder: Path, chance: random.Random, kills: int) -> Iterator[dict[str, bool]]:
    """Kill children until so many kills have hit; the last run is left in peace."""
    hit, number = 0, 0
    while True:
        place = folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        process = child(zoo, place)
        status = None
        if hit % 2 and hit < kills:  # on a busy machine chance alone may never hit the writing
            status = ended_before_writing(process, place / "writing")
        elif hit < kills:
            time.sleep(chance.uniform(0.0, SECONDS))
        if status is None:
            if hit < kills:
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            hit += 1
            yield {"writing": (place / "writing").exists()}
            (place / "writing").unlink(missing_ok=True)
        elif os.WEXITSTATUS(status):
            raise SystemExit("a child failed")
        else:
            number += 1
            if hit >= kills:
                return


def main() -> None:
    """Kill, go on, print."""
    zoo, folder, seed, kills = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    found = list(lives(zoo, folder, random.Random(seed), kills))
    digests = []
    for run in sorted(folder.iterdir()):
        files = CheckpointFiles(run / "checkpoints")
        (address,) = files.runs()
        digests.append({rung: files.manifest(address, rung).digest for rung in RUNGS})
    sys.stdout.write(json.dumps({"kills": found, "digests": digests}))


if __name__ == "__main__":
    main()
