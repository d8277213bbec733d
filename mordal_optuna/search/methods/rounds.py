"""Rounds of jobs against the scores of a study: what is left to do, and what was scored.

A score is listed by pair and task. With one task its name is empty, and the score is that of the
study.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mordal_optuna.search.jobs import Job, usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import CandidateHistory, History
    from mordal_optuna.search.joint.board import Move

# A pair, the name of a task, and the pair's score on it.
Scored: TypeAlias = "tuple[Candidate, str, Measurement]"


def jobs_of_moves(
    moves: Sequence[Move], history: History, tasks: Sequence[str], *, tied: bool = False
) -> Iterator[Job]:
    """The rungs of moves that lack a score on a task, with the tasks that they lack.

    Args:
        moves: moves of any rounds.
        history: history of the study.
        tasks: names of the study's tasks; one empty name if there is one task.
        tied: whether the jobs are tied, see `Job`.
    """
    for move in moves:
        record = history.of(move.candidate)
        if usable(record):
            for rung, asked in move.steps(tasks):
                missing = tuple(task for task in asked if not record.on_task(task, rung))
                if missing:
                    every = len(missing) == len(tasks)
                    asks = () if every else missing
                    yield Job(move.candidate, rung, "joint", asks, tied=tied)


def is_complete(moves: Sequence[Move], history: History, tasks: Sequence[str]) -> bool:
    """Whether nothing of a round is left to do."""
    return next(jobs_of_moves(moves, history, tasks), None) is None


def scores_of_moves(
    moves: Sequence[Move], history: History, tasks: Sequence[str]
) -> tuple[Scored, ...]:
    """The scores that a round asked for, in the order of its moves."""
    return tuple(
        (move.candidate, task, measurement)
        for move in moves
        for rung, asked in move.steps(tasks)
        for task in asked
        if (measurement := _new(history.of(move.candidate), task, rung))
    )


def lost(moves: Sequence[Move], history: History, tasks: Sequence[str]) -> frozenset[Candidate]:
    """Candidates that a complete round asked for and that could not be trained or scored."""
    return frozenset(
        move.candidate
        for move in moves
        for rung, asked in move.steps(tasks)
        if not all(history.of(move.candidate).on_task(task, rung) for task in asked)
    )


def carried_scores(history: History, tasks: Sequence[str]) -> tuple[Scored, ...]:
    """The scores that were carried over from an earlier study, by the pairs' names."""
    return tuple(
        (candidate, task, measurement)
        for candidate, record in sorted(history.candidates.items())
        for scored in record.rungs
        for task in tasks
        if (measurement := record.on_task(task, scored.samples))
        and _is_carried(record, task, scored.samples)
    )


def _new(record: CandidateHistory, task: str, rung: int) -> Measurement | None:
    return None if _is_carried(record, task, rung) else record.on_task(task, rung)


def _is_carried(record: CandidateHistory, task: str, rung: int) -> bool:
    return rung in record.carried or (rung, task) in record.carried_partial
