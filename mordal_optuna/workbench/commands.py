"""What rank 0 asks the other ranks of a launch to do, one frozen dataclass per command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate


@dataclass(frozen=True)
class OpenWorkbench:
    """The first message of a launch: open the workbench, and follow its commands.

    Attributes:
        settings: the study, with the defaults that it began with; only rank 0 can read those.
    """

    settings: StudySettings


@dataclass(frozen=True)
class Measure:
    """Align a candidate to a rung and score it on the target tasks.

    Attributes:
        candidate: the pair.
        samples: number of alignment samples at the rung.
        tasks: names of the target tasks to score; empty for all.
    """

    candidate: Candidate
    samples: int
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compare:
    """Compare the models of the pool on the target task's images."""


@dataclass(frozen=True)
class ScoreFurther:
    """Score a candidate at a rung on the further tasks of the study file.

    Attributes:
        candidate: the pair.
        samples: number of alignment samples at the rung.
    """

    candidate: Candidate
    samples: int


@dataclass(frozen=True)
class ScoreCheckpoint:
    """Score a candidate's highest checkpoint on all tasks.

    Attributes:
        candidate: the pair.
        train: whether to train it on all alignment samples first.
    """

    candidate: Candidate
    train: bool


Command = Measure | Compare | ScoreFurther | ScoreCheckpoint
