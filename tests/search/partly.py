"""A search for two tasks that may score a rung on one of them: the second is dear and noisy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from mordal_optuna.replay.simulate import PlanSteering, Simulation
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.joint.rules import Stop
from mordal_optuna.search.methods.joint import JointPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.tasks import PartialMeasurement, weighted_mean
from mordal_optuna.study.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.joint.choice import Choice

FULL = 16384
RUNGS = tuple(FULL >> k for k in range(5, -1, -1))
WEIGHTS = {"cheap": 1.0, "dear": 1.0}
# Device-seconds and documents of a score.
SECONDS, DOCUMENTS = {"cheap": 1.0, "dear": 20.0}, {"cheap": 1000, "dear": 20}
TREE = ClusterTree.flat([f"v{n}" for n in range(4)], [f"m{n}" for n in range(5)])


def partly_plan(
    runs: float = 6.0, *, partly: bool = True, choice: Choice | None = None
) -> JointPlan:
    """A plan with a budget in full runs of 164 seconds."""
    return JointPlan(
        TREE,
        RUNGS,
        FULL,
        Ranker(TREE, FULL, tasks=WEIGHTS),
        stop=Stop(None),
        budget=Budget(device_hours=runs * FULL / 100 / 3600),
        choice=choice,
        tasks=WEIGHTS,
        partly=partly,
    )


class TwoTasks:
    """Measures pairs, as the objective and `run_light` ask for it.

    Attributes:
        asked: what was measured, in order; without tasks all of them were.
    """

    def __init__(self) -> None:
        """Measure nothing yet."""
        self.asked: list[tuple[Candidate, int, tuple[str, ...]]] = []

    def __call__(
        self, candidate: Candidate, samples: int, tasks: Sequence[str] = ()
    ) -> Measurement | PartialMeasurement:
        """Measure, as the objective asks for it."""
        self.asked.append((candidate, samples, tuple(tasks)))
        return (
            self.of_tasks(candidate, samples, tasks) if tasks else self.whole(candidate, samples)
        )

    def whole(self, candidate: Candidate, samples: int) -> Measurement:
        """The mean over both tasks."""
        return weighted_mean(self.of_tasks(candidate, samples, tuple(WEIGHTS)).by_task, WEIGHTS)

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The same for `run_light`."""
        self.asked.append((candidate, samples, ()))
        return self.whole(candidate, samples)

    def of_tasks(
        self, candidate: Candidate, samples: int, tasks: Sequence[str]
    ) -> PartialMeasurement:
        """Scores on some tasks; v0 and m0 are the best on `cheap`, v1 on `dear`."""
        i, j = int(candidate.vision_encoder[1:]), int(candidate.llm[1:])
        errors = {"cheap": 0.25 + 0.04 * i + 0.03 * j, "dear": 0.3 + 0.02 * abs(i - 1) + 0.01 * j}
        rows = {}
        for task in tasks:
            error = errors[task] * (samples / FULL) ** -0.2
            noise = (error * (1 - error) / DOCUMENTS[task]) ** 0.5
            rows[task] = Measurement(
                samples, 1 - error, noise, DOCUMENTS[task], samples / 100, SECONDS[task]
            )
        return PartialMeasurement(samples, rows)


def searched(workers: int = 1) -> tuple[optuna.Study, TwoTasks]:
    """A whole search on an Optuna study, on a simulated clock."""
    chosen, measure = partly_plan(), TwoTasks()
    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen, seed=0),
        pruner=LogLinearHalvingPruner(chosen),
    )
    objective = Objective(chosen, measure)
    Simulation(study, objective, measure, PlanSteering(chosen), workers=workers).run()
    return study, measure
