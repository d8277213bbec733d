"""Make the grid: build the pool, train and score every pair, write grid files and tables.

    OMP_NUM_THREADS=1 uv run --extra rivals python -m benchmarks.minigrid.run

An interrupted run can be continued: finished jobs have files, those of trained pairs in
`benchmarks/minigrid/pairs`, which may be committed at any time. Run nothing else meanwhile, since
costs are wall-clock seconds of one thread. `--only N` stops after N trained pairs.

Every pair is trained with the study's seed first, which is the grid that methods search. Two more
seeds of all pairs follow; the grid files are written with those that are done. Runs under other
schedules come last.

    uv run python -m benchmarks.minigrid.run --collect-seeds

adds further runs that are in `pairs` to the grid files, and builds, trains and writes nothing
else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.minigrid.make.collect import collect, collect_schedules, collect_seeds
from benchmarks.minigrid.make.files import Files, Job
from benchmarks.minigrid.make.jobs import opened, run
from benchmarks.minigrid.make.setting import STUDY, build_pool
from benchmarks.minigrid.tables import write
from mordal_optuna.config import read_study
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parents[1]
# Random seeds of all pairs besides the study's.
SEEDS = (1, 2)
# Indices of the encoders and LLMs whose pairs are also trained under other schedules; fixed before
# any result was known. Their further seeds come first.
CHOSEN = (0, 3, 6)
# Learning-rate schedules besides the study's.
SCHEDULES = ("linear", "cooldown", "ema")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all jobs that are not done yet, then write grid files and tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--processes", type=int, default=2, help="0 works in this process")
    parser.add_argument("--only", type=int, default=None)
    parser.add_argument(
        "--collect-seeds", action="store_true", help="only add finished runs to the grid files"
    )
    given = parser.parse_args(arguments)
    if given.collect_seeds:
        files = Files(given.out / "pairs", given.out / "features")
        count = collect_seeds(files, given.out / "grids", tasks=TASKS, seeds=SEEDS)
        print(f"{count} runs with further seeds in {given.out / 'grids' / 'seeds.npz'}")
        return
    build_pool(given.study, workers=given.processes)
    settings = read_study(given.study)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    _make(given, Files(given.out / "pairs", settings.workdir / "features"))


def _make(given: argparse.Namespace, files: Files) -> None:
    """Run the jobs of an existing pool, and write grid files and tables."""
    setting = opened(given.study)
    encoders, llms = setting.names
    chosen = [(v, m) for v in _some(encoders) for m in _some(llms)]
    own = [Job("train", *pair) for pair in setting.pairs]
    pairs = [*chosen, *(pair for pair in setting.pairs if pair not in chosen)]
    further = [Job("train", *pair, seed=seed) for seed in SEEDS for pair in pairs]
    todo = [job for job in (*own, *further) if not files.done(job)]
    for jobs in (
        [Job("encode", v) for v in encoders],
        [Job("compare", *pair) for pair in setting.pairs],
        todo[: given.only],
    ):
        work([job for job in jobs if not files.done(job)], given.study, files, given.processes)
    if not all(files.done(job) for job in own):
        return
    collect(setting, files, given.out / "grids", seeds=SEEDS)
    if not all(files.done(job) for job in further):
        return
    other = [Job("train", *pair, schedule=name) for name in SCHEDULES for pair in chosen]
    work([job for job in other if not files.done(job)], given.study, files, given.processes)
    collect_schedules(setting, files, given.out / "grids", schedules=SCHEDULES, chosen=chosen)
    if given.out == HERE:
        write.main(["--processes", str(max(given.processes, 1))])


def _some(names: Sequence[str]) -> list[str]:
    return [names[n] for n in CHOSEN if n < len(names)]


def work(jobs: Sequence[Job], study_file: Path, files: Files, processes: int) -> None:
    """Run jobs in parallel, one thread each, and print a line per finished job.

    Args:
        jobs: the jobs.
        study_file: path of the study file.
        files: files of the jobs.
        processes: number of processes; 0 runs the jobs in this process.
    """
    if not jobs:
        return
    # Images are checked once here, before all processes read the alignment set.
    opened(study_file).data  # noqa: B018
    start = time.perf_counter()
    for number, (job, took) in enumerate(_finished(jobs, study_file, files, processes), start=1):
        since = (time.perf_counter() - start) / 60
        left = since / number * (len(jobs) - number)
        print(
            f"{job.name}: {took:.0f} s; {number} of {len(jobs)} in {since:.1f} minutes, about "
            f"{left:.0f} left",
            flush=True,
        )


def _finished(
    jobs: Sequence[Job], study_file: Path, files: Files, processes: int
) -> Iterator[tuple[Job, float]]:
    """Jobs with their seconds, in the order in which they finish."""
    if not processes:
        yield from ((job, run(job, study_file, files)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running = {pool.submit(run, job, study_file, files): job for job in jobs}
        for future in as_completed(running):
            yield running[future], future.result()


if __name__ == "__main__":
    main()
