"""`joint` with one thing changed: its choice, its prior, its options, or what is compared.

Everything else is that of `joint` as it is set up for a replay: start, rounds, budget and
stopping. An effect is switched off by a prior that leaves it no room.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from benchmarks.rivals_search.joint_choices import TopTwoChoice
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.replay.simulate import PlanSteering
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree, Similarities
from mordal_optuna.search.joint.choice import VarianceChoice
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

# Standard deviation of an effect that is switched off.
_OFF = 1e-3
# Growth per doubling that is switched off, and the length, in doublings, of an effect that stays.
_CONSTANT, _FOR_EVER = 1e-3, 1e4
# Standard deviation of the logarithm of a fixed hyperparameter. A much smaller one would slow the
# search for the other hyperparameters down.
_FIXED = 0.1
# Places in a prior: of the spreads and the lengths of encoder, LLM and interaction; of the growth.
_SPREADS, _LENGTHS, _GROWTH = (0, 1, 2), (3, 4, 5), 6

# What is compared, and paid for, before the search: both sides, the encoders alone, or nothing.
Compared = Literal["both", "encoders", "nothing"]


def fixed(prior: Hyperprior, values: dict[int, float]) -> Hyperprior:
    """A prior that holds some hyperparameters at values.

    Args:
        prior: the prior.
        values: value by the hyperparameter's place in the prior.
    """
    medians, spreads = list(prior.medians), list(prior.spreads)
    for place, value in values.items():
        medians[place], spreads[place] = value, _FIXED
    return Hyperprior(tuple(medians), tuple(spreads))


def without_sharing(prior: Hyperprior) -> Hyperprior:
    """The prior of pairs that share nothing but the mean curve.

    The effects of encoders and LLMs are switched off. The pairs' own effect gets the variance of
    all three, and the correlation length of the encoders': it is then the whole difference between
    two pairs, and lasts as long as theirs.
    """
    medians = list(prior.medians)
    medians[2] = math.sqrt(sum(medians[place] ** 2 for place in _SPREADS))
    medians[5] = medians[3]
    return fixed(replace(prior, medians=tuple(medians)), {0: _OFF, 1: _OFF})


def without_interaction(prior: Hyperprior) -> Hyperprior:
    """The prior of encoder plus LLM, and nothing that is a pair's own beside noise."""
    return fixed(prior, {_SPREADS[2]: _OFF})


def without_drift(prior: Hyperprior) -> Hyperprior:
    """The prior of effects that are the same at all rungs, but for their growth."""
    return fixed(prior, dict.fromkeys(_LENGTHS, _FOR_EVER))


def without_growth(prior: Hyperprior) -> Hyperprior:
    """The prior of effects whose spread is the same at all rungs."""
    return fixed(prior, {_GROWTH: _CONSTANT})


class PriorRanker(Ranker):
    """Ranks the pool by the joint model with another prior."""

    def __init__(self, tree: ClusterTree, full_samples: int, prior: Hyperprior) -> None:
        """Create a ranker.

        Args:
            tree: the pool, with its similarities if its models were compared.
            full_samples: D, at least 1.
            prior: priors of the hyperparameters.
        """
        points = method_settings("joint").fit_points
        super().__init__(tree, full_samples, points=points)
        self._prior = prior

    def posterior(self, history: History) -> Posterior:
        """The posterior with the prior."""
        return JointModel(
            [(c, m) for c, r in history.candidates.items() for m in r.measurements],
            self._tree.candidates,
            self._full,
            similarities=self._tree.similarities,
            prior=self._prior,
        ).posterior


def top_two(problem: Problem) -> SetUp:
    """`joint` with top-two Thompson sampling."""
    return changed(problem, choice=TopTwoChoice(seed=problem.seed))


def variance(problem: Problem) -> SetUp:
    """`joint` with the fall of the weighted variance per cost."""
    return changed(problem, choice=VarianceChoice())


def no_sharing(problem: Problem) -> SetUp:
    """`joint` with independent curves; models are not compared, which costs nothing then."""
    return changed(problem, compared="nothing", prior=without_sharing(PRIOR))


def changed(
    problem: Problem,
    *,
    choice: Choice | None = None,
    compared: Compared = "both",
    prior: Hyperprior = PRIOR,
    options: dict[str, float] | None = None,
) -> SetUp:
    """`joint` with one thing changed.

    Args:
        problem: what it is run on.
        choice: rule that chooses the jobs of a round; None for that of the package.
        compared: the models that are compared before the search; others are independent.
        prior: priors of the hyperparameters, for the choice and for the ranking.
        options: changed options of the search, as in a study file.
    """
    grid = problem.grid
    settings = method_settings("joint").model_copy(update=options or {})
    base = set_up(grid, "joint", settings, problem.seed, problem.full_runs)
    tree = _tree(problem, compared)
    before = _paid(base.before, compared)
    plan = JointPlan(
        tree,
        base.plan.rungs,
        grid.full_samples,
        PriorRanker(tree, grid.full_samples, prior),
        start=Start(settings.start_pairs, settings.start_ratio, problem.seed),
        rounds=Rounds(settings.round_size, settings.round_lag),
        stop=Stop(settings.stop.expected_regret, settings.stop.probability),
        budget=Budget(problem.budget.device_hours, before.total),
        choice=choice,
        prior=prior,
    )
    return replace(
        base,
        plan=plan,
        sampler=CkaClusterSampler(plan, seed=problem.seed),
        pruner=LogLinearHalvingPruner(plan),
        steering=PlanSteering(plan),
        before=before,
        before_projected=base.before_projected and _paid(base.before_projected, compared),
    )


def _tree(problem: Problem, compared: Compared) -> ClusterTree:
    if compared == "nothing":
        return problem.tree
    tree = pool_tree(problem.grid, method_settings("joint"))
    if compared == "both" or tree.similarities is None:
        return tree
    return replace(tree, similarities=Similarities(tree.similarities.encoders, None))


def _paid(costs: Costs, compared: Compared) -> Costs:
    """Costs of the comparison; warm-ups are there for the LLMs alone."""
    if compared == "both":
        return costs
    return Costs(features=costs.features) if compared == "encoders" else Costs()
