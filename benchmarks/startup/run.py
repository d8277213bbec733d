"""Seconds and memory from opening a study's data to the first optimiser step of a candidate.

    uv run python -m benchmarks.startup.run runs/startup now            # 200,000 conversations
    uv run python -m benchmarks.startup.run runs/startup now 665000

The second argument names the rows in results.json, such as `before` and `now`. Each start is a
process of its own, on two threads. It opens the data, assembles a small pair, and trains it until
the first step of the rung is done. `first` begins with empty caches of the package; `again`
repeats it as a restarted process does. Memory is that of the whole process less that of the same
process with 256 conversations.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESULTS = Path(__file__).parent / "results.json"
BATCH = 16
# Shares of the data that the first rung has: the first rung of a search, and a whole alignment.
RUNGS = (1 / 16, 1.0)
COUNT, FEW = 200_000, 256


class FirstStep(BaseException):
    """Raised after the first optimiser step, through everything."""


class UntilFirstStep:
    """Progress that ends the training after its first step."""

    def stage(self, title: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Show it: nothing must be left out."""
        print(text, file=sys.stderr)

    warn = note

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        """End the process's work when a training has done a step."""

        def advance(done: int) -> None:  # noqa: ARG001
            if title.startswith("align"):
                raise FirstStep

        yield advance


def memory() -> dict[str, float]:
    """Megabytes of this process: its own pages, pages of mapped files, and the peak of both."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = {
        line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("Vm", "Rss"))
    }
    kinds = {"own": "RssAnon", "files": "RssFile", "peak": "VmHWM"}
    return {name: int(values[kind]) / 1024 for name, kind in kinds.items()}


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def start(folder: Path, data: Path, share: float) -> dict[str, Any]:
    """One start, in this process: seconds of its parts, and memory after the first step."""
    import torch

    from benchmarks.startup.made import write_pair
    from mordal_optuna.alignment.checkpoint import CheckpointStore
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.alignment.session import AlignmentSession
    from mordal_optuna.config import AlignmentSettings

    torch.set_num_threads(1)
    sources = write_pair(folder)
    settings = AlignmentSettings(
        conversations=data, images=data.parent, batch_size=BATCH, micro_batch_size=4
    )
    work = folder / "work"
    begin, idle = perf_counter(), cpu()
    read = AlignmentSet.read(settings, seed=0, progress=UntilFirstStep(), checked=work, threads=2)
    opened = perf_counter()
    session = AlignmentSession(
        *sources,
        settings=settings,
        seed=0,
        data=read,
        checkpoints=CheckpointStore(work / "checkpoints"),
        machine=Machine(torch.device("cpu"), features=work / "features", threads=2),
    )
    rung = max(1, round(len(read) * share / BATCH)) * BATCH
    try:
        session.advance(rung, UntilFirstStep())
    except FirstStep:
        pass
    else:
        sys.exit("no step was done")
    done = perf_counter()
    return {
        "rung": rung,
        "open": opened - begin,
        "check": done - opened,
        "seconds": done - begin,
        "cpu": cpu() - idle,
        "memory": memory(),
        "digest": read.digest,
    }


def in_process(folder: Path, data: Path, share: float) -> dict[str, Any]:
    """One start, in a process of its own."""
    caches = {
        "HF_HOME": str(folder / "work" / "hf"),
        "HF_DATASETS_CACHE": str(folder / "work" / "hf" / "datasets"),
    }
    command = [sys.executable, "-m", "benchmarks.startup.run", "--start"]
    ended = subprocess.run(
        [*command, str(folder), str(data), str(share)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **caches, "OMP_NUM_THREADS": "1"},
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def measured(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rows of the table."""
    from benchmarks.startup.made import write_data

    few = write_data(folder, FEW, images=False)
    shutil.rmtree(folder / "work", ignore_errors=True)
    in_process(folder, few, 1.0)
    base = in_process(folder, few, 1.0)["memory"]
    rows = []
    for images in (False, True):
        data = write_data(folder, count, images=images)
        for share in RUNGS:
            shutil.rmtree(folder / "work", ignore_errors=True)
            for caches in ("first", "again"):
                row = in_process(folder, data, share)
                row["memory"] = {kind: row["memory"][kind] - base[kind] for kind in base}
                row = {"conversations": count, "images": images, "start": caches, **row}
                rows.append(row)
                print(shown(row), flush=True)
    return rows


def shown(row: dict[str, Any]) -> str:
    """A row of the table in benchmarks/README.md."""
    kind = "with images" if row["images"] else "text only"
    held = row["memory"]
    return (
        f"| {row['conversations']:,} {kind} | {row['rung']:,} | {row['start']} "
        f"| {row['open']:.1f} | {row['check']:.1f} | {row['seconds']:.1f} | {row['cpu']:.1f} "
        f"| {held['own']:,.0f} | {held['files']:,.0f} | {held['peak']:,.0f} |"
    )


def main() -> None:
    """Measure all starts; print the table and write the results."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else COUNT
    folder.mkdir(parents=True, exist_ok=True)
    rows = measured(folder.resolve(), count)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    about = machine("torch", "transformers", "tokenizers", "datasets", "pyarrow", "pydantic")
    others = results.get(name, {}).get("rows", [])
    kept = [row for row in others if row["conversations"] != count]
    results[name] = {"machine": about, "rows": [*kept, *rows]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--start":
        place, path, part = sys.argv[2:]
        print(json.dumps(start(Path(place), Path(path), float(part))))
    else:
        main()
