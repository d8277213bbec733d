"""`mordal export`: a candidate of a study that has ended, as a Hugging Face folder.

The highest checkpoint that is kept of the candidate is exported, whichever study has written it.
Its card begins with what exactly these weights score; what the search projects for more training
follows and is called so.

Training a candidate on to all samples adds no trial: a search that has ended keeps its answer,
whose score was compared with others at the same rung. The checkpoint and its scores are kept where
those of trials are, and the study notes them among the winner's further scores.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from mordal_optuna.driver import (
    alone_in,
    has_stopped,
    named_candidates,
    open_bench,
    open_study,
    stored_result,
)
from mordal_optuna.errors import MordalError, SearchError
from mordal_optuna.reporting import words
from mordal_optuna.search.attributes import FURTHER_SCORES
from mordal_optuna.study.ownership import alone_on
from mordal_optuna.study.result import FurtherScore
from mordal_optuna.study.resuming import check_candidate
from mordal_optuna.workbench.measurements import measurement_of

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.result import StudyResult
    from mordal_optuna.workbench.align_and_score import ScoredCheckpoint
    from mordal_optuna.workbench.workbench import Workbench


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        candidate: the pair.
        samples: alignment samples of its weights.
        full_samples: D.
        scores: lines of its card: first what these weights score, then projections.
        needs: what the folder needs beyond transformers' own class, a sentence each.
        seconds_to_full: device-seconds that training it on to D and scoring it there would take,
            by what its training and scoring have taken so far; 0 at D.
    """

    candidate: Candidate
    samples: int
    full_samples: int
    scores: tuple[str, ...]
    needs: tuple[str, ...]
    seconds_to_full: float


def export_candidate(
    settings: StudySettings,
    folder: Path,
    progress: Progress,
    *,
    name: str | None = None,
    train: bool = False,
) -> Exported:
    """Write a candidate of a study that has ended as a Hugging Face folder.

    Args:
        settings: the study.
        folder: new, or empty.
        progress: is told of stages, bars and notes.
        name: of the candidate, ENCODER + LLM; the winner by default.
        train: first train it on all alignment samples, from its highest checkpoint on.

    Raises:
        ConfigError: if the name is none of the pool.
        SearchError: if the study has not ended.
        BusyError: if it is to be trained, and another process works in the same folder or runs
            the study.
        ModelError: if the folder holds something already.
        CheckpointError: if it is not to be trained, and no checkpoint of it is there.
        InputsChangedError: if data or models that it was made of have changed.
        MordalError: if it cannot be assembled, trained or scored.
    """
    named = named_candidates(settings, [name] if name else [])
    settings.workdir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as guards:
        if train:
            guards.enter_context(alone_in(settings.workdir))
            guards.enter_context(alone_on(settings.storage_url(), settings.study))
        study = open_study(settings)
        if not has_stopped(study):
            raise SearchError(f"study {settings.study!r} has not ended; run it to its end first")
        result = stored_result(study, settings)
        candidate = named[0] if named else result.winner.candidate
        bench = open_bench(settings, progress)
        try:
            bench.check_export(folder)
            check_candidate(study, settings, bench.inputs, candidate)
            standing = _stand(bench, result, candidate, progress, train=train)
        except MordalError:
            bench.dismiss()
            raise
        bench.dismiss()
        if train:
            _note(study, result, candidate, standing)
        lines = card_lines(result, candidate, standing)
        progress.stage(f"writing {candidate} after {standing.samples:,} samples to {folder}")
        needs = bench.export(candidate, folder, lines)
    price = seconds_to(result.full_samples, standing)
    return Exported(
        candidate, standing.samples, result.full_samples, tuple(lines), tuple(needs), price
    )


def card_lines(result: StudyResult, candidate: Candidate, standing: ScoredCheckpoint) -> list[str]:
    """The scores of a model card: measured ones of these weights first, then what else is known.

    Args:
        result: of the study.
        candidate: the pair.
        standing: the weights that are exported, with their scores.
    """
    lines = [
        _measured(score, documents, standing.samples)
        for score, documents in zip(standing.scores, standing.documents, strict=True)
    ]
    curve = result.curves.get(candidate, ())
    at = next((point.score for point in curve if point.samples == standing.samples), None)
    if at is not None and at != standing.scores[0].value:
        lines.append(
            f"the search measured {100 * at:.1f} % on {result.task} after as many samples, with "
            "weights that differ by rounding"
        )
    full = next((point for point in curve if point.samples == result.full_samples), None)
    if full and standing.samples < full.samples:
        lines.append(
            f"the study has {words.measured(full, result.task)}, with other weights, whose "
            "checkpoint is not there any more"
        )
    estimate = next(e for e in result.ranking if e.candidate == candidate)
    return [*lines, _believed(estimate, standing.samples, result.full_samples)]


def seconds_to(full_samples: int, standing: ScoredCheckpoint) -> float:
    """Device-seconds that a candidate's training up to D and its scores there would take.

    Args:
        full_samples: D.
        standing: where it stands now.
    """
    left = full_samples - standing.samples
    if not left:
        return 0.0
    evaluation = sum(score.seconds for score in standing.scores)
    return standing.train_seconds * left / standing.samples + evaluation


def _stand(
    bench: Workbench,
    result: StudyResult,
    candidate: Candidate,
    progress: Progress,
    *,
    train: bool,
) -> ScoredCheckpoint:
    """Go to the candidate's highest checkpoint, or to D, and score it there."""
    if not train:
        progress.stage(f"looking up, or measuring, what the weights of {candidate} score")
        standing = bench.stand(candidate, train=False)
        scored = [point.samples for point in result.curves.get(candidate, ())]
        if scored and scored[-1] > standing.samples:
            progress.note(
                f"{candidate} was scored at {scored[-1]:,} samples, but no whole checkpoint of "
                f"that is left; the one at {standing.samples:,} samples is exported"
            )
        return standing
    progress.stage(f"training {candidate} on all {result.full_samples:,} samples; scoring it")
    begun = perf_counter()
    standing = bench.stand(candidate, train=True)
    progress.note(
        f"{candidate} at {standing.samples:,} samples: "
        + "; ".join(map(_told, standing.scores))
        + f" (took {perf_counter() - begun:.1f} s)"
    )
    return standing


def _note(
    study: Study, result: StudyResult, candidate: Candidate, standing: ScoredCheckpoint
) -> None:
    """Keep with the study what its winner scores after all samples, if that is news.

    The report shows it among the winner's further scores, each with its samples.
    """
    if candidate != result.winner.candidate or result.winner.samples >= standing.samples:
        return
    scores = [FurtherScore(s.task, measurement_of(s, standing.samples)) for s in standing.scores]
    study.set_user_attr(FURTHER_SCORES, [score.to_json() for score in scores])


def _measured(score: Score, documents: int, samples: int) -> str:
    """A score of the weights that are exported."""
    asked = f"{score.documents:,}"
    if score.documents < documents:
        asked += f" of {documents:,}"
    return (
        f"{_told(score)} ({asked} documents{words.drawn(score.guessed)}), measured with exactly "
        f"these weights ({samples:,} samples)"
    )


def _told(score: Score) -> str:
    return f"{words.score(score.value, score.stderr, score.documents)} on {score.task}"


def _believed(estimate: Estimate, samples: int, full_samples: int) -> str:
    """What all scores of the study together say of the candidate after D."""
    value = f"{words.percent(estimate.value)} % ({words.interval(estimate)})"
    if samples == full_samples:
        return f"all scores of the study together say {value}"
    source = f"{estimate.samples:,} samples" if estimate.samples else "other pairs"
    return (
        f"projected after {full_samples:,} samples: {value}, {estimate.provenance} from {source}; "
        "not measured"
    )
