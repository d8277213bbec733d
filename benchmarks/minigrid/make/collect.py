"""Assemble the grid files from the files of the jobs; `tables.data` describes the formats."""

from __future__ import annotations

import json
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.minigrid.make.files import Job
from benchmarks.minigrid.make.jobs import BUDGET_RATIO
from mordal_optuna.representation.similarity import Cka

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.minigrid.make.files import Files
    from benchmarks.minigrid.make.setting import Setting
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.representation.cka import Estimator


def collect(
    setting: Setting,
    files: Files,
    folder: Path,
    *,
    seeds: Sequence[int],
    chosen: Sequence[tuple[str, str]],
) -> None:
    """Write the grid files of all tasks.

    Args:
        setting: the study.
        files: files of the jobs; all jobs must be done.
        folder: receives the grid files.
        seeds: further random seeds, besides the study's.
        chosen: pairs that were trained with the further seeds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in setting.tasks:
        _write_task(setting, files, task, folder)
    _write_seeds(setting, files, folder, seeds, chosen)
    _write_rivals(setting, files, folder)
    _write_warmups(setting, files, folder)


def collect_schedules(
    setting: Setting,
    files: Files,
    folder: Path,
    *,
    schedules: Sequence[str],
    chosen: Sequence[tuple[str, str]],
) -> None:
    """Write the scores of pairs under other schedules.

    Args:
        setting: the study.
        files: files of the jobs; all jobs must be done.
        folder: folder of the grid files.
        schedules: names of the schedules, as in a study file.
        chosen: pairs that were trained under each schedule.
    """
    content: dict[str, Any] = {"pairs": [list(pair) for pair in chosen]}
    content |= {"schedules": list(schedules), "samples": setting.rungs}
    for task in setting.tasks:
        content[task.name] = [
            [
                files.read(Job("train", *pair, schedule=name))["tasks"][task.name]["score"]
                for name in schedules
            ]
            for pair in chosen
        ]
    _dump(folder / "schedules.json", content)


def _write_task(setting: Setting, files: Files, task: Task, folder: Path) -> None:
    encoders, llms = setting.names
    start = perf_counter()
    debiased = _similarities(setting, files, task, "debiased")
    seconds = perf_counter() - start
    for name in encoders:
        seconds += files.read(Job("encode", name))["feature_seconds"][task.name]
    warm = {}
    for v, m in setting.pairs:
        compared = files.read(Job("compare", v, m))
        warm[f"{v}|{m}"] = compared["warmup_seconds"] + compared["llm_seconds"][task.name]
    content = {
        "task": task.name,
        "full_samples": len(setting.data),
        "test_documents": len(task.documents),
        "encoders": encoders,
        "llms": llms,
        **debiased,
        "warmup_seconds": warm,
        "feature_seconds": seconds,
        "curves": [_curve(files, Job("train", *pair), task.name) for pair in setting.pairs],
    }
    _dump(folder / f"{task.name}.json", content)
    biased = _similarities(setting, files, task, "biased")
    _dump(folder / f"{task.name}.biased.json", biased)
    jobs = [Job("train", *pair) for pair in setting.pairs]
    clusters = task.clusters or range(len(task.documents))
    np.savez_compressed(
        folder / f"{task.name}.npz",
        values=np.stack([files.array(job, task.name) for job in jobs]),
        nlls=np.stack([files.array(job, f"{task.name}/nll") for job in jobs]),
        clusters=np.array(clusters, dtype=np.int32),
    )


def _similarities(
    setting: Setting, files: Files, task: Task, estimator: Estimator
) -> dict[str, Any]:
    encoders, llms = setting.names
    measure = Cka(estimator)
    encoder_features = {v: files.array(Job("encode", v), task.name) for v in encoders}
    by_encoder = {
        v: measure({m: files.array(Job("compare", v, m), task.name) for m in llms})
        for v in encoders
    }
    return {
        "vision_similarity": _rows(measure(encoder_features)),
        "llm_similarity": {name: _rows(matrix) for name, matrix in by_encoder.items()},
    }


def _write_seeds(
    setting: Setting,
    files: Files,
    folder: Path,
    seeds: Sequence[int],
    chosen: Sequence[tuple[str, str]],
) -> None:
    listed = {"pairs": [list(pair) for pair in chosen], "seeds": list(seeds)}
    _dump(folder / "seeds.json", {**listed, "samples": setting.rungs})
    values = {}
    for task in setting.tasks:
        jobs = [[Job("train", *pair, seed=seed) for seed in seeds] for pair in chosen]
        rows = [[files.array(job, task.name) for job in row] for row in jobs]
        values[task.name] = np.array(rows)
        measured = [[files.read(job)["tasks"][task.name]["nll"] for job in row] for row in jobs]
        values[f"{task.name}/nll"] = np.array(measured)
    np.savez_compressed(folder / "seeds.npz", **values)  # type: ignore[arg-type]


def _write_rivals(setting: Setting, files: Files, folder: Path) -> None:
    """Rivals of untrained pairs keep their names; those of pairs at the budget get `@budget`."""
    content: dict[str, Any] = {"seconds": {}}
    untrained = [files.read(Job("compare", *pair)) for pair in setting.pairs]
    trained = [files.read(Job("train", *pair)) for pair in setting.pairs]
    at = setting.rungs.index(len(setting.data) // BUDGET_RATIO)
    # Training the pairs to the budget serves all tasks; the tables divide seconds by the number of
    # tasks.
    spent = sum(job["train_seconds"][at] for job in trained) * len(setting.tasks)
    for jobs, suffix, before in ((untrained, "", 0.0), (trained, "@budget", spent)):
        rivals = [job["rivals"] for job in jobs]
        for rival in rivals[0]["seconds"]:
            seconds = before + sum(pair["seconds"][rival] for pair in rivals)
            content["seconds"][f"{rival}{suffix}"] = seconds
        for task in setting.tasks:
            rows = content.setdefault(task.name, {})
            for rival in rivals[0]["scores"][task.name]:
                scores = [pair["scores"][task.name][rival] for pair in rivals]
                rows[f"{rival}{suffix}"] = [s if np.isfinite(s) else None for s in scores]
    _dump(folder / "rivals.json", content)


def _write_warmups(setting: Setting, files: Files, folder: Path) -> None:
    """Warm-up seconds of the projectors alone, which serve all tasks."""
    seconds = {
        f"{v}|{m}": files.read(Job("compare", v, m))["warmup_seconds"] for v, m in setting.pairs
    }
    _dump(folder / "warmups.json", seconds)


def _curve(files: Files, job: Job, task: str) -> dict[str, Any]:
    trained = files.read(job)
    curve = {k: v for k, v in trained["tasks"][task].items() if k != "guessed"}
    named = {"encoder": job.encoder, "llm": job.llm, "samples": trained["samples"]}
    return {**named, "train_seconds": trained["train_seconds"], **curve}


def _rows(matrix: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in matrix]


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
