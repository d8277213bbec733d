"""`joint` with other choices, and without sharing between pairs.

Start, rounds, budget, comparison of models and stopping are those of `joint` as it is set up for a
replay; one thing is changed in each row.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.rivals_search.joint_choices import KnowledgeGradientChoice, TopTwoChoice
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.replay.simulate import PlanSteering
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.joint.effects import PRIOR, Hyperprior
from mordal_optuna.search.joint.posterior import JointModel
from mordal_optuna.search.methods.joint import JointPlan, Rounds, Start, Stop
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.costs import Costs

if TYPE_CHECKING:
    from benchmarks.rivals_search.problem import Problem
    from mordal_optuna.replay.simulate import SetUp
    from mordal_optuna.search.history import History
    from mordal_optuna.search.joint.choice import Choice
    from mordal_optuna.search.joint.posterior import Posterior

# Standard deviation of an effect that is switched off, and of its logarithm's prior.
_OFF, _FIXED = 1e-3, 1e-2


def without_sharing(prior: Hyperprior) -> Hyperprior:
    """The prior of pairs that share nothing but the mean curve.

    The effects of encoders and LLMs are switched off. The pairs' own effect gets the variance of
    all three, and the correlation length of the encoders': it is then the whole difference between
    two pairs, and lasts as long as theirs.

    Args:
        prior: prior whose first entries are the spreads and then the lengths of encoder, LLM and
            interaction.
    """
    encoder, llm, own, length, second, _, *rest = prior.medians
    whole = math.sqrt(encoder**2 + llm**2 + own**2)
    return Hyperprior(
        (_OFF, _OFF, whole, length, second, length, *rest),
        (_FIXED, _FIXED, *prior.spreads[2:]),
    )


class OwnCurvesRanker(Ranker):
    """Ranks the pool by pairs' own curves around a common mean curve, as freeze-thaw does."""

    def posterior(self, history: History) -> Posterior:
        """The posterior without sharing."""
        scores = [(c, m) for c, r in history.candidates.items() for m in r.measurements]
        candidates = self._tree.candidates
        prior = without_sharing(PRIOR)
        return JointModel(scores, candidates, self._full, prior=prior).posterior


def top_two(problem: Problem) -> SetUp:
    """`joint` with top-two Thompson sampling."""
    return _joint(problem, choice=TopTwoChoice(seed=problem.seed))


def knowledge_gradient(problem: Problem) -> SetUp:
    """`joint` with the knowledge gradient per cost."""
    return _joint(problem, choice=KnowledgeGradientChoice())


def no_sharing(problem: Problem) -> SetUp:
    """`joint` with independent curves; models are not compared, which costs nothing then."""
    return _joint(problem, sharing=False)


def _joint(problem: Problem, *, choice: Choice | None = None, sharing: bool = True) -> SetUp:
    grid, settings = problem.grid, method_settings("joint")
    base = set_up(grid, "joint", settings, problem.seed, problem.full_runs)
    tree = pool_tree(grid, settings) if sharing else problem.tree
    before = base.before if sharing else Costs()
    plan = JointPlan(
        tree,
        base.plan.rungs,
        grid.full_samples,
        base.plan.ranker if sharing else OwnCurvesRanker(tree, grid.full_samples),
        start=Start(settings.start_pairs, settings.start_ratio, problem.seed),
        rounds=Rounds(settings.round_size, settings.round_lag),
        stop=Stop(settings.stop.expected_regret, settings.stop.probability),
        budget=Budget(problem.budget.device_hours, before.total),
        choice=choice,
        prior=PRIOR if sharing else without_sharing(PRIOR),
    )
    return replace(
        base,
        plan=plan,
        sampler=CkaClusterSampler(plan, seed=problem.seed),
        pruner=LogLinearHalvingPruner(plan),
        steering=PlanSteering(plan),
        before=before,
        before_projected=base.before_projected if sharing else Costs(),
    )
