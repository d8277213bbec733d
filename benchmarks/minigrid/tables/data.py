"""Read and check the committed grid files.

One folder contains, for every task:
    TASK.json           the grid file (`mordal_optuna.replay.grid`), similarities by debiased CKA
    TASK.biased.json    {"vision_similarity", "llm_similarity"} by plain CKA
    TASK.npz            `values`, pairs x rungs x documents, in the order of the grid's candidates
                        and rungs; `nlls`, -ln p of the reference answers, in the same order;
                        `clusters`, the cluster of each document
and for all tasks:
    seeds.json          {"pairs", "seeds", "samples"}: pairs that were trained with further seeds
    seeds.npz           by task: pairs x seeds x rungs x documents, on the same documents; as
                        TASK/nll the mean -ln p, pairs x seeds x rungs
    rivals.json         {"seconds": {rival: all tasks together}, TASK: {rival: one score per pair}}
    warmups.json        {"encoder|llm": device-seconds of the projector's warm-up alone, which
                        serves all tasks; grid files add the seconds of the LLM's features}
    schedules.json      optional: {"pairs", "schedules", "samples",
                        TASK: pairs x schedules x rungs}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.errors import GridError
from mordal_optuna.replay.grid import Grid, read_grid
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mordal_optuna.pool import Candidate

# Largest difference between a score and the mean of its values, which are in half precision.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Rivals:
    """Training-free rankings of one task.

    Attributes:
        scores: one score per pair in the order of the grid, by rival; NaN where there is none.
        seconds: device-seconds of the scores, by rival.
    """

    scores: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Schedules:
    """One task's curves under other learning-rate schedules.

    Attributes:
        pairs: indices into the grid's candidates.
        names: names of the schedules.
        samples: rungs, ascending.
        scores: pairs x schedules x rungs.
    """

    pairs: tuple[int, ...]
    names: tuple[str, ...]
    samples: tuple[int, ...]
    scores: np.ndarray


@dataclass(frozen=True)
class TaskData:
    """All measurements of one task.

    Attributes:
        grid: the grid file.
        biased: the grid with similarities by plain CKA.
        values: scores of documents, pairs x rungs x documents.
        clusters: index of each document's cluster.
        seed_pairs: indices of the candidates that were trained with further seeds.
        seed_scores: scores of these candidates, pairs x seeds x rungs, the grid's seed first.
        rivals: training-free rankings; None where none were computed.
        schedules: curves under other schedules; None where none were run.
        nlls: -ln p of the reference answers, pairs x rungs x documents; None without likelihoods.
        seed_nlls: mean -ln p of the candidates with further seeds, as `seed_scores`.
        warmups: device-seconds of the projectors' warm-ups alone, by pair.
    """

    grid: Grid
    biased: Grid
    values: np.ndarray
    clusters: np.ndarray
    seed_pairs: tuple[int, ...]
    seed_scores: np.ndarray
    rivals: Rivals | None = None
    schedules: Schedules | None = None
    nlls: np.ndarray | None = None
    seed_nlls: np.ndarray | None = None
    warmups: Mapping[Candidate, float] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.grid.task

    @property
    def samples(self) -> tuple[int, ...]:
        """Samples of all rungs."""
        return self.grid.curves[0].samples

    @cached_property
    def scores(self) -> np.ndarray:
        """Scores of the grid file, pairs x rungs."""
        by_pair = {curve.candidate: curve.score for curve in self.grid.curves}
        return np.array([by_pair[candidate] for candidate in self.grid.candidates])


def read_tasks(folder: Path, tasks: tuple[str, ...] = TASKS) -> tuple[TaskData, ...]:
    """Read and check the files of several tasks.

    Args:
        folder: folder of the grid files.
        tasks: names of the tasks.

    Raises:
        GridError: if a file is missing or disagrees with the grid file.
    """
    return tuple(read_task(folder, task) for task in tasks)


def read_task(folder: Path, task: str) -> TaskData:
    """Read and check the files of one task.

    Args:
        folder: folder of the grid files.
        task: name of the task.

    Raises:
        GridError: if a file is missing or disagrees with the grid file.
    """
    grid = read_grid(_existing(folder / f"{task}.json"))
    biased = json.loads(_existing(folder / f"{task}.biased.json").read_text(encoding="utf-8"))
    similarities = {key: biased[key] for key in ("vision_similarity", "llm_similarity")}
    with np.load(_existing(folder / f"{task}.npz")) as stored:
        values, clusters = stored["values"].astype(np.float64), stored["clusters"]
        nlls = stored["nlls"].astype(np.float64)
    _check(grid, values, nlls, clusters)
    # Clusters may be any integers in the file; here they are 0, 1, 2, ...
    clusters = np.unique(clusters, return_inverse=True)[1]
    seed_pairs, seed_scores, seed_nlls = _seeds(
        folder, grid, values.mean(axis=2), nlls.mean(axis=2)
    )
    return TaskData(
        grid,
        Grid.model_validate({**grid.model_dump(), **similarities}),
        values,
        clusters,
        seed_pairs,
        seed_scores,
        _rivals(folder, grid),
        _schedules(folder, grid),
        nlls,
        seed_nlls,
        _warmups(folder, grid),
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise GridError(f"{str(path)!r} does not exist; the tables need it")
    return path


def _check(grid: Grid, values: np.ndarray, nlls: np.ndarray, clusters: np.ndarray) -> None:
    samples = grid.curves[0].samples
    shape = (len(grid.candidates), len(samples), grid.test_documents)
    if values.shape != shape or nlls.shape != shape or clusters.shape != shape[2:]:
        raise GridError(
            f"{grid.task}: values of shape {values.shape} and nlls of {nlls.shape} with "
            f"{len(clusters)} clusters; pairs, "
            f"rungs and documents are {shape}, and every document has its cluster"
        )
    if not grid.grid_seconds:
        raise GridError(
            f"{grid.task}: all seconds are 0; the tables compare methods by their cost"
        )
    means = values.mean(axis=2)
    scores = [[grid.measurement(c, n).score for n in samples] for c in grid.candidates]
    apart = np.abs(means - scores)
    if apart.max() > _TOLERANCE:
        pair, rung = np.unravel_index(int(apart.argmax()), apart.shape)
        raise GridError(
            f"{grid.task}: the values of {grid.candidates[pair]} at {samples[rung]} samples "
            f"average to {means[pair, rung]:.4f}; the grid file's score is "
            f"{scores[pair][rung]:.4f}, and {_TOLERANCE} of difference is allowed"
        )


def _seeds(
    folder: Path, grid: Grid, scores: np.ndarray, nlls: np.ndarray
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Indices of the pairs with further seeds, their scores and their mean -ln p."""
    listed = json.loads(_existing(folder / "seeds.json").read_text(encoding="utf-8"))
    rows = _rows(grid, listed["pairs"], "seeds.json")
    with np.load(_existing(folder / "seeds.npz")) as stored:
        further = stored[grid.task].astype(np.float64).mean(axis=3)
        further_nlls = stored[f"{grid.task}/nll"].astype(np.float64)
    wanted = (len(rows), len(listed["seeds"]), scores.shape[1])
    for array in (further, further_nlls):
        if array.shape != wanted:
            raise GridError(
                f"seeds.npz has {array.shape} for {grid.task}; pairs, seeds and rungs are {wanted}"
            )
    all_scores, all_nlls = (
        np.concatenate((means[list(rows), None], array), axis=1)
        for means, array in ((scores, further), (nlls, further_nlls))
    )
    return rows, all_scores, all_nlls


def _rivals(folder: Path, grid: Grid) -> Rivals | None:
    path = folder / "rivals.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    scores = {name: np.array(row, dtype=float) for name, row in stored[grid.task].items()}
    for name, row in scores.items():
        if len(row) != len(grid.candidates):
            raise GridError(
                f"rivals.json has {len(row)} scores of {name!r} on {grid.task}; it must have one "
                f"for each of {len(grid.candidates)} pairs"
            )
    tasks = sum(1 for key in stored if key != "seconds")
    return Rivals(scores, {name: stored["seconds"][name] / tasks for name in scores})


def _warmups(folder: Path, grid: Grid) -> dict[Candidate, float]:
    stored = json.loads(_existing(folder / "warmups.json").read_text(encoding="utf-8"))
    warmups = {}
    for candidate in grid.candidates:
        key, most = f"{candidate.vision_encoder}|{candidate.llm}", grid.warmup(candidate)
        if not 0 <= stored.get(key, -1.0) <= most:
            raise GridError(
                f"warmups.json has {stored.get(key)} for {key!r} on {grid.task}; it must be "
                f"between 0 and the {most} seconds of the grid file, which include it"
            )
        warmups[candidate] = stored[key]
    return warmups


def _schedules(folder: Path, grid: Grid) -> Schedules | None:
    path = folder / "schedules.json"
    if not path.is_file():
        return None
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Schedules(
        _rows(grid, stored["pairs"], "schedules.json"),
        tuple(stored["schedules"]),
        tuple(stored["samples"]),
        np.array(stored[grid.task], dtype=float),
    )


def _rows(grid: Grid, pairs: list[list[str]], where: str) -> tuple[int, ...]:
    index = {(c.vision_encoder, c.llm): n for n, c in enumerate(grid.candidates)}
    unknown = [pair for pair in pairs if tuple(pair) not in index]
    if unknown:
        raise GridError(f"{where} names the pair {unknown[0]}; the grid of {grid.task} has none")
    return tuple(index[pair[0], pair[1]] for pair in pairs)
