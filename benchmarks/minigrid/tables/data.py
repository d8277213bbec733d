"""Read and check the committed grid files.

One folder contains, for every task:
    TASK.json           the grid file (`mordal_optuna.replay.grid`), similarities by debiased CKA
    TASK.biased.json    {"vision_similarity", "llm_similarity"} by plain CKA
    TASK.npz            `values`, pairs x rungs x documents, in the order of the grid's candidates
                        and rungs; `nlls`, -ln p of the reference answers, in the same order;
                        `clusters`, the cluster of each document
and for all tasks:
    seeds.json          {"runs", "samples"}: [encoder, LLM, seed] of every run with a further
                        random seed; the runs of a pair may be none, one or several
    seeds.npz           by task: runs x rungs x documents, on the same documents, in the order of
                        seeds.json; as TASK/nll the mean -ln p, runs x rungs; as TASK/p_correct
                        the mean p, runs x rungs, which older files have not
    rivals.json         {"seconds": {rival: all tasks together}, TASK: {rival: one score per pair}}
    warmups.json        {"encoder|llm": device-seconds of the projector's warm-up alone, which
                        serves all tasks; grid files add the seconds of the LLM's features}
    schedules.json      optional: {"pairs", "schedules", "samples",
                        TASK: pairs x schedules x rungs}

Symbols:
    P, F    number of pairs, number of runs with further seeds
    S_p     number of runs of pair p, the grid's own among them; at least 1
    T_p     truth of pair p at a rung: the mean score of its S_p runs on the same documents
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

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
        further_pairs: index of the candidate of each run with a further seed, F.
        further_values: scores of documents of these runs, F x rungs x documents.
        rivals: training-free rankings; None where none were computed.
        schedules: curves under other schedules; None where none were run.
        nlls: -ln p of the reference answers, pairs x rungs x documents; None without likelihoods.
        further_nlls: mean -ln p of the runs with further seeds, F x rungs; None without
            likelihoods.
        warmups: device-seconds of the projectors' warm-ups alone, by pair.
        further_p_correct: mean p of the runs with further seeds, F x rungs; None if the file has
            none.
    """

    grid: Grid
    biased: Grid
    values: np.ndarray
    clusters: np.ndarray
    further_pairs: tuple[int, ...]
    further_values: np.ndarray
    rivals: Rivals | None = None
    schedules: Schedules | None = None
    nlls: np.ndarray | None = None
    further_nlls: np.ndarray | None = None
    warmups: Mapping[Candidate, float] = field(default_factory=dict)
    further_p_correct: np.ndarray | None = None

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

    @cached_property
    def run_pairs(self) -> np.ndarray:
        """Index of each run's candidate, P + F: the grid's own runs, then the further ones."""
        own = np.arange(len(self.values))
        return np.concatenate((own, np.array(self.further_pairs, dtype=own.dtype)))

    @cached_property
    def run_values(self) -> np.ndarray:
        """Scores of documents of all runs, (P + F) x rungs x documents, as `run_pairs`."""
        return np.concatenate((self.values, self.further_values))

    @cached_property
    def run_scores(self) -> np.ndarray:
        """Scores of all runs, (P + F) x rungs, as `run_pairs`."""
        return self.run_values.mean(axis=2)

    @cached_property
    def run_counts(self) -> np.ndarray:
        """S_p, number of runs of each pair."""
        return np.bincount(self.run_pairs, minlength=len(self.values))

    @cached_property
    def truth(self) -> np.ndarray:
        """T_p, the mean over each pair's runs, pairs x rungs."""
        return mean_of_runs(self.run_scores, self.run_pairs)


def mean_of_runs(rows: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Means over the runs of each pair.

    Args:
        rows: one row for each run.
        pairs: index of each run's pair; every index from 0 to the highest has a run.

    Returns:
        One row for each pair.
    """
    sums = np.zeros((int(pairs.max()) + 1, *rows.shape[1:]))
    np.add.at(sums, pairs, rows)
    counts = np.bincount(pairs)
    return sums / counts.reshape(-1, *(1,) * (rows.ndim - 1))


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
    further = _seeds(folder, grid)
    return TaskData(
        grid,
        Grid.model_validate({**grid.model_dump(), **similarities}),
        values,
        clusters,
        further.pairs,
        further.values,
        _rivals(folder, grid),
        _schedules(folder, grid),
        nlls,
        further.nlls,
        _warmups(folder, grid),
        further.p_correct,
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


class _Further(NamedTuple):
    """Runs with further seeds, as `TaskData` has them."""

    pairs: tuple[int, ...]
    values: np.ndarray
    nlls: np.ndarray
    p_correct: np.ndarray | None


def _seeds(folder: Path, grid: Grid) -> _Further:
    """Read the runs with further seeds."""
    listed = json.loads(_existing(folder / "seeds.json").read_text(encoding="utf-8"))
    runs = [(encoder, llm, seed) for encoder, llm, seed in listed["runs"]]
    if not runs:
        raise GridError("seeds.json lists no run; the noise of seeds needs at least one")
    wrong = sorted({run for run in runs if runs.count(run) > 1 or run[2] == 0})
    if wrong:
        raise GridError(
            f"seeds.json lists the run {wrong[0]}; each run may be listed once, and seed 0 is the "
            "grid's own"
        )
    rows = _rows(grid, [[encoder, llm] for encoder, llm, _ in runs], "seeds.json")
    with np.load(_existing(folder / "seeds.npz")) as stored:
        values = stored[grid.task].astype(np.float64)
        nlls = stored[f"{grid.task}/nll"].astype(np.float64)
        key = f"{grid.task}/p_correct"
        p_correct = stored[key].astype(np.float64) if key in stored.files else None
    wanted = (len(rows), len(grid.curves[0].samples), grid.test_documents)
    shape = wanted[:2] if p_correct is None else p_correct.shape
    if values.shape != wanted or nlls.shape != wanted[:2] or shape != wanted[:2]:
        raise GridError(
            f"seeds.npz has values of shape {values.shape}, nlls of {nlls.shape} and p_correct "
            f"of {shape} for {grid.task}; runs, rungs and documents are {wanted}"
        )
    return _Further(rows, values, nlls, p_correct)


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
