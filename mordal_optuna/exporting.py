"""`mordal export`: write a candidate of a finished study as a Hugging Face folder.

The candidate's highest checkpoint is exported, whichever study has written it. The model card
lists first the scores that were measured with exactly these weights, then the search's
projections, marked as such.

`--train` trains the candidate on all samples first. That adds no trial, since a finished search
keeps its winner, whose score was compared with others at the same rung. The checkpoint and its
scores are stored where those of trials are; the study lists the scores among the winner's further
scores.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from mordal_optuna.driver import (
    has_stopped,
    named_candidates,
    open_bench,
    open_study,
    stored_result,
)
from mordal_optuna.errors import SearchError
from mordal_optuna.files.folders import make_folder
from mordal_optuna.files.locking import alone_in
from mordal_optuna.reporting import words
from mordal_optuna.search.attributes import FURTHER_SCORES
from mordal_optuna.study.ownership import alone_on
from mordal_optuna.study.result import FurtherScore
from mordal_optuna.study.resuming import check_candidate, resumed_settings, with_template_date
from mordal_optuna.workbench.commits import pinned
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
    from mordal_optuna.workbench.measurements import ScoredCheckpoint
    from mordal_optuna.workbench.workbench import Workbench


@dataclass(frozen=True)
class Exported:
    """An export that was written.

    Attributes:
        candidate: the pair.
        samples: number of alignment samples that the weights were trained on.
        full_samples: D, the number of samples of one full alignment.
        scores: lines of the model card: measured scores of these weights, then projections.
        needs: what the folder needs beyond transformers' own class, a sentence each.
        seconds_to_full: estimated device-seconds to train the candidate up to D and score it
            there; 0 at D.
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
    """Write a candidate of a finished study as a Hugging Face folder.

    Args:
        settings: the study file's settings.
        folder: new or empty folder.
        progress: receives progress updates.
        name: name of the candidate, `ENCODER + LLM`; None exports the winner.
        train: whether to train it on all alignment samples first, from its highest checkpoint.

    Returns:
        What was written.

    Raises:
        ConfigError: if the name is not a candidate of the pool.
        SearchError: if the study has not ended.
        BusyError: if `train` is True, and another process works in the same folder or on the
            study.
        ModelError: if the folder is not empty.
        CheckpointError: if `train` is False and the candidate has no checkpoint.
        InputsChangedError: if data or models that the candidate was made from have changed.
        MordalError: if the candidate cannot be assembled, trained or scored.
    """
    named = named_candidates(settings, [name] if name else [])
    make_folder(settings.workdir)
    with ExitStack() as locks:
        if train:
            locks.enter_context(alone_in(settings.workdir))
            locks.enter_context(alone_on(settings.storage_url(), settings.study))
        study = open_study(settings)
        if not has_stopped(study):
            raise SearchError(f"study {settings.study!r} has not ended; run it to its end first")
        settings = pinned(study, resumed_settings(study, settings))
        result = stored_result(study, settings)
        candidate = named[0] if named else result.winner.candidate
        bench = open_bench(with_template_date(study, settings), progress)
        try:
            bench.check_export(folder)
            check_candidate(study, settings, bench.inputs, candidate)
            checkpoint = _scored_checkpoint(bench, result, candidate, progress, train=train)
        except BaseException as error:
            bench.stop_followers(error)
            raise
        bench.stop_followers()
        if train:
            _store_scores(study, result, candidate, checkpoint)
        lines = card_lines(result, candidate, checkpoint)
        progress.stage(f"writing {candidate} after {checkpoint.samples:,} samples to {folder}")
        needs = bench.export(candidate, folder, lines)
    seconds = seconds_to(result.full_samples, checkpoint)
    return Exported(
        candidate, checkpoint.samples, result.full_samples, tuple(lines), tuple(needs), seconds
    )


def card_lines(
    result: StudyResult, candidate: Candidate, checkpoint: ScoredCheckpoint
) -> list[str]:
    """The scores of a model card: measured ones of the exported weights first, then the rest.

    Args:
        result: the study's result.
        candidate: the pair.
        checkpoint: the exported weights' checkpoint, with its scores.
    """
    lines = [
        _measured(score, documents, checkpoint.samples)
        for score, documents in zip(checkpoint.scores, checkpoint.documents, strict=True)
    ]
    curve = result.curves.get(candidate, ())
    curves = {t.name: t.curves.get(candidate, ()) for t in result.tasks} or {result.task: curve}
    for score, (task, points) in zip(checkpoint.scores, curves.items(), strict=False):
        searched = next((p.score for p in points if p.samples == checkpoint.samples), None)
        if searched is not None and searched != score.value:
            lines.append(
                f"the search measured {100 * searched:.1f} % on {task} after as many samples, "
                "with weights that differ by rounding"
            )
    full = next((point for point in curve if point.samples == result.full_samples), None)
    if full and checkpoint.samples < full.samples:
        lines.append(
            f"the study has {words.measured(full, result.task)}, with other weights, whose "
            "checkpoint is not there any more"
        )
    rankings = {f"{t.name}: ": t.ranking for t in result.tasks} or {"": result.ranking}
    for task, ranking in rankings.items():
        estimate = next(e for e in ranking if e.candidate == candidate)
        lines.append(task + _estimated(estimate, checkpoint.samples, result.full_samples))
    return lines


def seconds_to(full_samples: int, checkpoint: ScoredCheckpoint) -> float:
    """Estimate the device-seconds to train a candidate up to D and score it there.

    Training is assumed to take as long per sample as so far, scoring as long as last time.

    Args:
        full_samples: D, the number of samples of one full alignment.
        checkpoint: the candidate's highest checkpoint, with its scores.
    """
    left = full_samples - checkpoint.samples
    if not left:
        return 0.0
    evaluation = sum(score.seconds for score in checkpoint.scores)
    return checkpoint.train_seconds * left / checkpoint.samples + evaluation


def _scored_checkpoint(
    bench: Workbench,
    result: StudyResult,
    candidate: Candidate,
    progress: Progress,
    *,
    train: bool,
) -> ScoredCheckpoint:
    """The candidate's highest checkpoint, or the one at D, with its scores."""
    if not train:
        progress.stage(f"looking up, or measuring, what the weights of {candidate} score")
        checkpoint = bench.score_checkpoint(candidate, train=False)
        scored = [point.samples for point in result.curves.get(candidate, ())]
        if scored and scored[-1] > checkpoint.samples:
            progress.note(
                f"{candidate} was scored at {scored[-1]:,} samples, but no whole checkpoint of "
                f"that is left; the one at {checkpoint.samples:,} samples is exported"
            )
        return checkpoint
    progress.stage(f"training {candidate} on all {result.full_samples:,} samples; scoring it")
    start = perf_counter()
    checkpoint = bench.score_checkpoint(candidate, train=True)
    progress.note(
        f"{candidate} at {checkpoint.samples:,} samples: "
        + "; ".join(map(_as_text, checkpoint.scores))
        + f" (took {perf_counter() - start:.1f} s)"
    )
    return checkpoint


def _store_scores(
    study: Study, result: StudyResult, candidate: Candidate, checkpoint: ScoredCheckpoint
) -> None:
    """Store the winner's scores with the study if the checkpoint is higher than the search's.

    The report shows them among the winner's further scores, each with its samples.
    """
    if candidate != result.winner.candidate or result.winner.samples >= checkpoint.samples:
        return
    samples = checkpoint.samples
    scores = [FurtherScore(s.task, measurement_of(s, samples)) for s in checkpoint.scores]
    study.set_user_attr(FURTHER_SCORES, [score.to_json() for score in scores])


def _measured(score: Score, documents: int, samples: int) -> str:
    """A score that was measured with the exported weights."""
    scored = f"{score.documents:,}"
    if score.documents < documents:
        scored += f" of {documents:,}"
    return (
        f"{_as_text(score)} ({scored} documents{words.drawn(score.guessed)}), measured with "
        f"exactly these weights ({samples:,} samples)"
    )


def _as_text(score: Score) -> str:
    return f"{words.score(score.value, score.stderr, score.documents)} on {score.task}"


def _estimated(estimate: Estimate, samples: int, full_samples: int) -> str:
    """The candidate's estimated score at D, from all scores of the study."""
    value = f"{words.percent(estimate.value)} % ({words.interval(estimate)})"
    if samples == full_samples:
        return f"all scores of the study together say {value}"
    source = f"{estimate.samples:,} samples" if estimate.samples else "other pairs"
    return (
        f"projected after {full_samples:,} samples: {value}, {estimate.provenance} from {source}; "
        "not measured"
    )
