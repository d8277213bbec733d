"""Assemble the grid files from the files of the jobs; `tables.data` describes the formats."""

from __future__ import annotations

import json
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.minigrid.make.files import Job
from benchmarks.minigrid.make.jobs import BUDGET_RATIO
from mordal_optuna.evaluation.documents import standard_error
from mordal_optuna.replay.grid import read_grid
from mordal_optuna.representation.similarity import Cka

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.minigrid.make.files import Files
    from benchmarks.minigrid.make.setting import Setting
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.representation.cka import Estimator


def collect(setting: Setting, files: Files, folder: Path, *, seeds: Sequence[int]) -> None:
    """Write the grid files of all tasks.

    Args:
        setting: the study.
        files: files of the jobs; all jobs of the grid's own seed must be done.
        folder: receives the grid files.
        seeds: further random seeds, besides the study's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in setting.tasks:
        _write_task(setting, files, task, folder)
    collect_seeds(files, folder, tasks=[task.name for task in setting.tasks], seeds=seeds)
    _write_rivals(setting, files, folder)
    _write_warmups(setting, files, folder)


def collect_seeds(
    files: Files, folder: Path, *, tasks: Sequence[str], seeds: Sequence[int]
) -> int:
    """Write the runs with further seeds that are done, be they few or all.

    Only the files of trained pairs and the tasks' grid files are read, so that neither the pool
    nor the features are needed.

    Args:
        files: files of the jobs.
        folder: folder of the grid files.
        tasks: names of the tasks, which have grid files.
        seeds: further random seeds, besides the study's.

    Returns:
        Number of runs.

    Raises:
        GridError: if a task has no grid file.
    """
    grid = read_grid(folder / f"{tasks[0]}.json")
    planned = [
        Job("train", c.vision_encoder, c.llm, seed=seed) for c in grid.candidates for seed in seeds
    ]
    done = [job for job in planned if files.done(job)]
    listed: dict[str, Any] = {"runs": [[job.encoder, job.llm, job.seed] for job in done]}
    _dump(folder / "seeds.json", listed | {"samples": list(grid.curves[0].samples)})
    measured = [files.read(job)["tasks"] for job in done]
    values = {}
    for task in tasks:
        values[task] = np.array([files.array(job, task) for job in done])
        values[f"{task}/nll"] = np.array([by_task[task]["nll"] for by_task in measured])
        nlls = [files.array(job, f"{task}/nll") for job in done]
        values[f"{task}/p_correct"] = np.array([probabilities(rows).mean(axis=1) for rows in nlls])
    np.savez_compressed(folder / "seeds.npz", **values)  # type: ignore[arg-type]
    return len(done)


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
        "curves": [_curve(files, Job("train", *pair), task) for pair in setting.pairs],
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


def _curve(files: Files, job: Job, task: Task) -> dict[str, Any]:
    trained = files.read(job)
    curve = {k: v for k, v in trained["tasks"][task.name].items() if k != "guessed"}
    named = {"encoder": job.encoder, "llm": job.llm, "samples": trained["samples"]}
    likelihoods = likelihood_columns(files.array(job, f"{task.name}/nll"), task.clusters)
    return {**named, "train_seconds": trained["train_seconds"], **curve, **likelihoods}


def likelihood_columns(nlls: np.ndarray, clusters: Sequence[int] | None) -> dict[str, list[float]]:
    """A curve's columns `p_correct` and `p_correct_stderr`.

    Args:
        nlls: -ln p of the reference answers, rungs x documents.
        clusters: cluster of each document; None if all are independent.
    """
    rows = probabilities(nlls)
    return {
        "p_correct": rows.mean(axis=1).tolist(),
        "p_correct_stderr": [standard_error(row, clusters) for row in rows.tolist()],
    }


def probabilities(nlls: np.ndarray) -> np.ndarray:
    """Likelihoods p of reference answers, from -ln p in any precision."""
    return np.exp(-nlls.astype(np.float64))


def _rows(matrix: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 6) for value in row] for row in matrix]


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
