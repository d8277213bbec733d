"""Grid files of studies: what a study has measured, read from its database alone.

A replay needs every pair at every rung, which only the method `grid` measures. What another search
did not measure is left out of its file, which a replay then refuses by a sentence, or estimated by
the joint model of all scores (`search/joint`) and marked as an estimate.

Symbols:
    D   number of alignment samples of a full alignment
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mordal_optuna.errors import ConfigError, GridError, SearchError
from mordal_optuna.search.attributes import CONFIG, FULL_SAMPLES, STOPPED_BECAUSE
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import History, HistoryReader
from mordal_optuna.search.joint.posterior import JointModel
from mordal_optuna.study.result import Representation, stored_representation
from mordal_optuna.study.resuming import resumed_settings
from mordal_optuna.study.stored import connected, read_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from optuna.study import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import Similarities
    from mordal_optuna.study.stored import StoredStudy

_LIKELIHOODS = ("nll", "nll_stderr", "p_correct", "p_correct_stderr")
# Pairs and rungs that are estimated at once.
_CHUNK = 4096

Curves = dict["Candidate", dict[int, Measurement]]


@dataclass(frozen=True)
class StudyScores:
    """All scores of a study, and the comparison of its models.

    Attributes:
        study: name of the study.
        tasks: names of its target tasks.
        candidates: all pairs of its pool, encoder by encoder.
        history: its scores; those of several tasks are by task.
        full_samples: D.
        representation: the comparison of the models; None if they were not compared.
        ended: whether the search has ended.
    """

    study: str
    tasks: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    history: History
    full_samples: int
    representation: Representation | None
    ended: bool


@dataclass(frozen=True)
class GridContent:
    """A grid file of one task.

    Attributes:
        content: content of the JSON file, in the format of `grid.Grid`.
        pairs: number of pairs of the pool.
        scored: number of pairs with a score.
        missing: number of scores that a replay needs and the study did not measure.
        filled: whether estimates stand in their place.
    """

    content: Mapping[str, Any]
    pairs: int
    scored: int
    missing: int
    filled: bool


def read_scores(settings: StudySettings, *, compared_in: str | None = None) -> StudyScores:
    """Read the scores of a study from its database; nothing is written, no model is opened.

    Args:
        settings: the study file's settings.
        compared_in: name of a study in the same database that has compared the same models, whose
            comparison is taken; None for that of the study itself.

    Raises:
        ConfigError: if the database's address is none, or `compared_in` has compared no models,
            or others.
        SearchError: if the study has not begun.
        StudyMismatchError: if it began with another configuration.
        StoreError: if the database cannot be used; hides the password.
    """
    name = settings.study
    with connected(settings.storage_url(), key=settings.storage_key) as connection:
        study = read_study(connection, name) if connection else None
        other = read_study(connection, compared_in) if connection and compared_in else None
    if study is None or not {CONFIG, FULL_SAMPLES} <= study.user_attrs.keys():
        raise SearchError(f"study {name!r} has no score yet; run it first")
    # Only attributes are read, which a stored study has as well.
    settings = resumed_settings(cast("Study", study), settings)
    pool = settings.models()
    representation = stored_representation(cast("Study", study))
    if compared_in:
        representation = _comparison_in(other, compared_in, pool.encoder_names, pool.llm_names)
    return StudyScores(
        study=name,
        tasks=tuple(task.name for task in settings.targets),
        candidates=tuple(pool.candidates),
        history=HistoryReader().read(study.trials, minimize=study.minimize),
        full_samples=study.user_attrs[FULL_SAMPLES],
        representation=representation,
        ended=study.user_attrs.get(STOPPED_BECAUSE) is not None,
    )


def _comparison_in(
    study: StoredStudy | None, name: str, encoders: Sequence[str], llms: Sequence[str]
) -> Representation:
    found = stored_representation(cast("Study", study)) if study else None
    if found is None:
        raise ConfigError(
            [
                f"--compared-in: got {name!r}; it must be a study in the same database that has "
                "compared its models"
            ]
        )
    if (*found.tree.vision_encoders,) != (*encoders,) or (*found.tree.llms,) != (*llms,):
        raise ConfigError(
            [
                f"--compared-in: study {name!r} has compared other models than those of this "
                "study's pool; both must list the same ones in the same order"
            ]
        )
    return found


def grid_content(scores: StudyScores, task: str, *, fill: bool) -> GridContent:
    """A grid file of a study's scores on one task.

    Its rungs are those at which any pair was scored, and D. Costs of scores that were not measured
    are estimated from those of the same LLM, or else of the pool. A study stores what all warm-ups
    cost together; each gets an equal part.

    Args:
        scores: the study's scores.
        task: one of its tasks.
        fill: whether estimates stand in the place of scores that were not measured; without, these
            are left out, and so are pairs without any score.

    Raises:
        GridError: if no pair has a score on the task, or scores do not say on how many documents.
    """
    history = scores.history if len(scores.tasks) == 1 else scores.history.of_task(task)
    curves: Curves = {
        c: {m.samples: m for m in record.measurements}
        for c, record in history.candidates.items()
        if record.measurements and c in scores.candidates
    }
    if not curves:
        raise GridError(f"study {scores.study!r} has no score on {task!r}; run it first")
    rungs = sorted({*(r for curve in curves.values() for r in curve), scores.full_samples})
    missing = [(c, r) for c in scores.candidates for r in rungs if r not in curves.get(c, {})]
    scored, documents = len(curves), _documents(scores, curves)
    if fill and missing:
        curves = _filled(scores, curves, missing, documents)
    rows = [
        _curve(c, [curves[c][rung] for rung in sorted(curves[c])], documents, missing)
        for c in scores.candidates
        if c in curves
    ]
    content = {
        "task": task,
        "study": scores.study,
        "full_samples": scores.full_samples,
        "test_documents": documents,
        "encoders": list(dict.fromkeys(c.vision_encoder for c in scores.candidates)),
        "llms": list(dict.fromkeys(c.llm for c in scores.candidates)),
        **_comparison(scores),
        "curves": rows,
    }
    return GridContent(content, len(scores.candidates), scored, len(missing), fill)


def _documents(scores: StudyScores, curves: Curves) -> int:
    """Number of documents of most of the scores at the highest rung."""
    top = max(rung for curve in curves.values() for rung in curve)
    counts = [curve[top].documents for curve in curves.values() if top in curve]
    known = [count for count in counts if count]
    if len(known) < len(counts):
        raise GridError(
            f"the scores of study {scores.study!r} do not say on how many documents they were "
            "measured; a grid file needs that"
        )
    return max(known, key=known.count)


def _comparison(scores: StudyScores) -> dict[str, Any]:
    """What a grid file says about the comparison of the models."""
    found = scores.representation
    if found is None:
        return {}
    compared: dict[str, Any] = {
        "llm_similarity": {name: list(rows) for name, rows in found.llm_similarity.items()},
        "feature_seconds": found.seconds["features"] + found.seconds["similarity"] + found.reused,
    }
    if found.vision_similarity:
        compared["vision_similarity"] = found.vision_similarity
    warmed = [c for c in scores.candidates if c.vision_encoder in found.llm_similarity]
    each = found.seconds["warmup"] / len(warmed) if warmed else 0.0
    compared["warmup_seconds"] = {f"{c.vision_encoder}|{c.llm}": each for c in warmed}
    return compared


def _curve(
    candidate: Candidate,
    points: Sequence[Measurement],
    documents: int,
    missing: Iterable[tuple[Candidate, int]],
) -> dict[str, Any]:
    """The curve of a pair, in columns."""
    absent = {rung for pair, rung in missing if pair == candidate}
    # A clock may run back where a checkpoint was trained again; training only adds up.
    seconds = np.maximum.accumulate([m.train_seconds for m in points]).tolist()
    columns: dict[str, Any] = {
        "encoder": candidate.vision_encoder,
        "llm": candidate.llm,
        "samples": [m.samples for m in points],
        "score": [m.score for m in points],
        "train_seconds": seconds,
        "eval_seconds": [m.eval_seconds for m in points],
    }
    errors = [m.stderr for m in points]
    if all(error is not None and np.isfinite(error) for error in errors):
        columns["stderr"] = errors
    for key in _LIKELIHOODS:
        values = [getattr(m, key) for m in points]
        finite = [v if v is not None and np.isfinite(v) else None for v in values]
        if any(value is not None for value in finite):
            columns[key] = finite
    counts = [m.documents or documents for m in points]
    if set(counts) != {documents}:
        columns["documents"] = counts
    if absent & set(columns["samples"]):
        columns["estimated"] = [m.samples in absent for m in points]
    return columns


def _filled(
    scores: StudyScores,
    curves: Curves,
    missing: Sequence[tuple[Candidate, int]],
    documents: int,
) -> Curves:
    """The curves with an estimate by the joint model for each score that is missing."""
    compared = scores.representation
    similarities = compared.tree.similarities if compared else None
    known = [(c, m) for c, curve in curves.items() for m in curve.values()]
    estimates = _estimates(known, scores.candidates, scores.full_samples, similarities, missing)
    costs = _Costs(curves)
    filled = {c: dict(curves.get(c, {})) for c in scores.candidates}
    at: dict[int, int] = {m.samples: m.documents or documents for _, m in known}
    for (candidate, samples), (score, stderr) in zip(missing, estimates, strict=True):
        filled[candidate][samples] = Measurement(
            samples,
            score,
            stderr,
            at.get(samples, documents),
            costs.training(candidate, samples),
            costs.evaluation(candidate, samples),
        )
    return filled


def _estimates(
    known: Sequence[tuple[Candidate, Measurement]],
    candidates: Sequence[Candidate],
    full_samples: int,
    similarities: Similarities | None,
    wanted: Sequence[tuple[Candidate, int]],
) -> list[tuple[float, float]]:
    """Score and standard error of pairs at numbers of samples, by the joint model."""
    model = JointModel(known, candidates, full_samples, similarities=similarities)
    found: list[tuple[float, float]] = []
    for start in range(0, len(wanted), _CHUNK):
        part = wanted[start : start + _CHUNK]
        mean, variance = model.process.moments(
            model.places([c for c, _ in part], [samples for _, samples in part])
        )
        errors = np.minimum(np.exp(mean), 1.0)
        deviations = errors * model.inflation * np.sqrt(variance)
        found += zip((1.0 - errors).tolist(), deviations.tolist(), strict=True)
    return found


class _Costs:
    """Device-seconds that a pair would have taken, from those that were measured."""

    def __init__(self, curves: Curves) -> None:
        self._curves = curves

    def training(self, candidate: Candidate, samples: int) -> float:
        """From the start up to a rung: between its own rungs, or at its own or the pool's rate."""
        own = sorted(self._curves.get(candidate, {}).values(), key=lambda m: m.samples)
        rungs, seconds = [m.samples for m in own], [m.train_seconds for m in own]
        if own and samples < rungs[-1]:
            return float(np.interp(samples, [0, *rungs], [0.0, *seconds]))
        rate = self._mean(candidate, lambda curve: _top(curve).train_seconds / _top(curve).samples)
        before, done = (seconds[-1], rungs[-1]) if own else (0.0, 0)
        return before + rate * (samples - done)

    def evaluation(self, candidate: Candidate, samples: int) -> float:
        """Of one score at a rung; at another one where nobody was scored there."""
        there = any(samples in curve for curve in self._curves.values())
        return self._mean(
            candidate,
            lambda curve: (
                curve[samples].eval_seconds
                if samples in curve
                else None
                if there
                else fmean(m.eval_seconds for m in curve.values())
            ),
        )

    def _mean(
        self, candidate: Candidate, value: Callable[[dict[int, Measurement]], float | None]
    ) -> float:
        """A value's mean: of the pair itself, else of pairs with its LLM, else of all pairs."""
        values = {c: v for c, curve in self._curves.items() if (v := value(curve)) is not None}
        same = [v for c, v in values.items() if c.llm == candidate.llm]
        own = [values[candidate]] if candidate in values else None
        return fmean(own or same or values.values())


def _top(curve: Mapping[int, Measurement]) -> Measurement:
    return curve[max(curve)]
