"""A replayed search judged against the truth of its grid: regret, rank correlation, gain."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.replay.costs import cost_parts, projected_grid_seconds, search_costs
from mordal_optuna.replay.metrics import tau_of_top, weighted_tau, weighted_tau_random_ties
from mordal_optuna.search.standings import standings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.simulate import SetUp, Simulated
    from mordal_optuna.search.history import History
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.costs import Costs


@dataclass(frozen=True)
class Replay:
    """A replayed search and figures of merit of its answer.

    Scores and differences of scores are on 0..1; a full run is the mean cost of training one pair
    on all samples and scoring it once. The true score of a pair is the grid file's at r = 1, or
    the one that was given.

    Attributes:
        task: task of the grid file.
        method: name of the search method.
        seed: random seed of the method.
        ranking: estimates of all pairs, best first.
        picked: encoder and LLM of the winner.
        regret: true score of the best pair less that of the winner.
        tau: weighted Kendall's tau of the whole ranking, with ties as they are.
        tau_random_ties: mean weighted tau over random orders of tied pairs.
        tau_top10: weighted tau among the ten pairs with the highest true scores.
        best_rejected: True if no pair with the highest true score was measured as far as the plan
            asks for (`Plan.is_settled`). Races drop no pair in this sense.
        gain: cost of the grid divided by the cost of the search; None if the file lists no costs,
            all of its seconds being 0.
        gain_projected: the same with costs projected to 7B models; None if the projection needs a
            cost that the file does not list.
        full_runs: cost of the search in full runs; None if the file lists no costs.
        cost: cost of the search by part, in device-seconds.
        cost_projected: projected cost of the search by part; None as for `gain_projected`.
        rungs_run: number of measured scores.
        workers: number of workers.
        elapsed_seconds: simulated seconds from the start of the first trial to the end of the
            last.
        stopped_because: reason why the search ended.
        coverage: share of pairs whose interval holds the true score.
        bias: mean over all pairs of estimate less true score.
        winner_error: estimate less true score of the winner.
        held: True if the first two groups of the ranking (see `search.standings`) contain a pair
            with the highest true score; None if the groups were not computed.
        tied: number of pairs in the first group, those measured and within noise of the winner;
            None if the groups were not computed.
    """

    task: str
    method: str
    seed: int
    ranking: tuple[Estimate, ...]
    picked: tuple[str, str]
    regret: float
    tau: float
    tau_random_ties: float
    tau_top10: float
    best_rejected: bool
    gain: float | None
    gain_projected: float | None
    full_runs: float | None
    cost: Costs
    cost_projected: Costs | None
    rungs_run: int
    workers: int
    elapsed_seconds: float
    stopped_because: str
    coverage: float
    bias: float
    winner_error: float
    held: bool | None = None
    tied: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `mordal replay --json` prints them."""
        plain = asdict(self)
        plain["ranking"] = [
            {
                "encoder": e.candidate.vision_encoder,
                "llm": e.candidate.llm,
                "estimate": e.value,
                "low": e.low,
                "high": e.high,
                "known": e.provenance,
            }
            for e in self.ranking
        ]
        plain["cost"] = cost_parts(self.cost)
        projected = self.cost_projected
        plain["cost_projected"] = None if projected is None else cost_parts(projected)
        return plain


def judge(
    grid: Grid,
    method: str,
    seed: int,
    workers: int,
    setup: SetUp,
    history: History,
    simulated: Simulated,
    *,
    draws: int = 100,
    groups: bool = True,
    truths: Mapping[Candidate, float] | None = None,
) -> Replay:
    """Judge the answer of a search.

    Args:
        grid: grid file with the true scores.
        method: name of the search method.
        seed: random seed of the orders of tied pairs.
        workers: number of workers.
        setup: plan and earlier costs of the search.
        history: measurements of the search.
        simulated: outcome of the simulation.
        draws: number of random orders of tied pairs.
        groups: True to compute the groups of the ranking, for `held` and `tied`.
        truths: true score, 0..1, of each pair, such as a mean over random seeds; None for the
            scores at r = 1 of the grid file, which are those of the runs that the search saw.
    """
    ranking = setup.plan.ranking(history)
    winner = setup.plan.winner(history) or ranking[0].candidate
    truth = truths or {candidate: grid.truth(candidate) for candidate in grid.candidates}
    best = max(truth.values())
    estimates = [e.value for e in ranking]
    true_scores = [truth[e.candidate] for e in ranking]
    cost, projected = search_costs(grid, history, setup.before, setup.before_projected)
    errors = {e.candidate: e.value - truth[e.candidate] for e in ranking}
    top = [candidate for candidate, score in truth.items() if score == best]
    held, tied = _groups(setup.plan, history, winner, top) if groups else (None, None)
    return Replay(
        task=grid.task,
        method=method,
        seed=seed,
        ranking=ranking,
        picked=(winner.vision_encoder, winner.llm),
        regret=best - truth[winner],
        tau=weighted_tau(estimates, true_scores),
        tau_random_ties=weighted_tau_random_ties(estimates, true_scores, draws=draws, seed=seed),
        tau_top10=tau_of_top(estimates, true_scores),
        best_rejected=not any(setup.plan.is_settled(history, candidate) for candidate in top),
        gain=ratio(grid.grid_seconds, cost.total),
        gain_projected=ratio(projected_grid_seconds(grid), projected.total) if projected else None,
        full_runs=ratio(cost.total, grid.full_run_seconds),
        cost=cost,
        cost_projected=projected,
        rungs_run=len(simulated.jobs),
        workers=workers,
        elapsed_seconds=simulated.seconds,
        stopped_because=simulated.reason,
        coverage=float(np.mean([e.low <= truth[e.candidate] <= e.high for e in ranking])),
        bias=float(np.mean(list(errors.values()))),
        winner_error=errors[winner],
        held=held,
        tied=tied,
    )


def ratio(cost: float, other: float) -> float | None:
    """`cost` divided by `other`; None if `other` is 0, which means not known."""
    return cost / other if other else None


def _groups(
    plan: Plan, history: History, winner: Candidate, best: Sequence[Candidate]
) -> tuple[bool, int]:
    """Whether the first two groups contain one of the best pairs, and the size of the first."""
    posterior = plan.ranker.posterior(history)
    ranking = plan.ranker.rank_with_chances(history, posterior)
    compared = standings(plan, history, ranking, winner, run_noise=posterior.run_noise)
    held = any(compared[candidate].group in ("tied", "open") for candidate in best)
    return held, sum(standing.group == "tied" for standing in compared.values())
