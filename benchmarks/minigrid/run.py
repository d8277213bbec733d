"""Make the grid: pool, every pair trained fully and scored on all tasks, grid files, tables.

    OMP_NUM_THREADS=1 uv run --extra rivals python -m benchmarks.minigrid.run

goes on where it was: what is done is found in files, those of trained pairs in
`benchmarks/minigrid/pairs`, which can be committed on the way. Run nothing else meanwhile: costs
are wall-clock seconds of one thread. `--only PAIRS` stops after so many trained pairs. Runs under
other schedules come last, when the grid files are there already.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.minigrid import tables
from benchmarks.minigrid.collect import collect, collect_schedules
from benchmarks.minigrid.files import Files, Job
from benchmarks.minigrid.jobs import opened, run
from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.progress import Silent
from mordal_optuna.zoo.build import build
from mordal_optuna.zoo.recipe import recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
# Trained with further seeds: chosen beforehand, by their place in the pool alone.
CHOSEN = (0, 3, 6)
SEEDS = (1, 2)
# Of the learning rate, beside the study's own; the same pairs are trained with each.
SCHEDULES = ("linear", "cooldown", "ema")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what is left to do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--study", type=Path, default=shipped("studies") / "minigrid.yaml")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--processes", type=int, default=2, help="0 works in this process")
    parser.add_argument("--only", type=int, default=None)
    given = parser.parse_args(arguments)
    settings = read_study(given.study)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    if settings.zoo:
        chosen_recipe = recipe(settings.zoo.recipe)
        build(chosen_recipe, settings.zoo.folder, Silent(), workers=given.processes)
    files = Files(given.out / "pairs", settings.workdir / "features")
    setting = opened(given.study)
    encoders, llms = setting.names
    chosen = [(v, m) for v in _some(encoders) for m in _some(llms)]
    trained = [Job("train", *pair) for pair in setting.pairs]
    trained += [Job("train", *pair, seed=seed) for seed in SEEDS for pair in chosen]
    todo = [job for job in trained if not files.done(job)]
    for jobs in (
        [Job("encode", v) for v in encoders],
        [Job("compare", *pair) for pair in setting.pairs],
        todo[: given.only],
    ):
        work([job for job in jobs if not files.done(job)], given.study, files, given.processes)
    if not all(files.done(job) for job in trained):
        return
    collect(setting, files, given.out / "grids", seeds=SEEDS, chosen=chosen)
    other = [Job("train", *pair, schedule=name) for name in SCHEDULES for pair in chosen]
    work([job for job in other if not files.done(job)], given.study, files, given.processes)
    collect_schedules(setting, files, given.out / "grids", schedules=SCHEDULES, chosen=chosen)
    if given.out == HERE:
        tables.main(["--processes", str(max(given.processes, 1))])


def _some(names: Sequence[str]) -> list[str]:
    return [names[n] for n in CHOSEN if n < len(names)]


def work(jobs: Sequence[Job], study_file: Path, files: Files, processes: int) -> None:
    """Do jobs side by side, one thread each, and tell of each."""
    if not jobs:
        return
    opened(study_file).data  # noqa: B018 - its images are checked once, before all look at them
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
