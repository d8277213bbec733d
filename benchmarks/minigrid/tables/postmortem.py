"""Which decision of a search lost the best pair, and how many points it cost.

Regret is split along the stages of the search, each of which leaves a smaller set of pairs:

    pool        all pairs
    settled     pairs scored on the last rungs before the finish, after the halving over clusters
    finalists   settled pairs that the curves leave to the finish: those with a place in the race,
                or all pairs within noise of the leader
    picked      the answer

Lost in halving = best of the pool less best of the settled pairs, and so on; the three differences
add up to the regret. The last one is negative if the answer was not a finalist but better than all
finalists. Scores of pairs are those of the truth, the means over runs (see `bootstrap`); the
search sees the grid's own runs.

If the best pair was not settled, the search is run again with another pair's curve in the place of
its cluster's medoid (the two pairs exchange their curves). If the best pair would also have been
eliminated as the medoid, the halving lost it, at the rung where it was eliminated. Otherwise the
medoid was not typical of its cluster: because of the encoders' cluster if the medoid encoder with
the best LLM is eliminated, because of the LLMs' cluster if the best encoder with the medoid LLM
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.bootstrap import full_data
from benchmarks.minigrid.tables.truth import lead_noise, near_best, redrawn_truths
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.grid import Grid
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.light import Search
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History


@dataclass(frozen=True)
class PostMortem:
    """One task's search.

    Attributes:
        best: name of the pair with the highest true score.
        picked: name of the picked pair.
        regret: score, 0..1, that the picked pair loses.
        halving: part of the regret that is lost before the curves.
        curves: part of the regret that is lost by the choice of finalists.
        finish: part of the regret that is lost by the choice among the finalists.
        decision: the decision that lost the best pair, in words; empty if it was picked.
        noise: standard deviation of the best pair's lead over the pick, over documents and seeds.
        within_noise: whether the pick is within noise of the best.
    """

    best: str
    picked: str
    regret: float
    halving: float
    curves: float
    finish: float
    decision: str
    noise: float
    within_noise: bool


def post_mortem(data: TaskData, *, method: str = "mordal", replicates: int = 200) -> PostMortem:
    """Follow the best pair of one task through a search.

    Args:
        data: the task.
        method: a method with clusters: `mordal` or `mordal-faithful`.
        replicates: number of bootstraps for the noise of the lead.
    """
    grid = data.grid
    settings = method_settings(method)
    plan, tree = set_up(grid, method, settings, 0, None).plan, pool_tree(grid, settings)
    assert isinstance(plan, PooledPlan)
    search = run_light(plan, grid)
    winner = plan.winner(search.history)
    assert winner is not None
    truth = full_data(data).truth
    best = max(grid.candidates, key=truth.__getitem__)
    stages = settled(plan, search), plan.finish_candidates(search.history)
    scores = [truth[best], *(max(truth[c] for c in group) for group in stages), truth[winner]]
    final, redrawn = data.truth[:, -1], redrawn_truths(data, replicates)
    row = grid.candidates.index(winner)
    return PostMortem(
        best=str(best),
        picked=str(winner),
        regret=scores[0] - scores[3],
        halving=scores[0] - scores[1],
        curves=scores[1] - scores[2],
        finish=scores[2] - scores[3],
        decision="" if scores[0] == scores[3] else decision(grid, plan, tree, search, best),
        noise=float(lead_noise(final, redrawn)[row]),
        within_noise=bool(near_best(final, redrawn)[row]),
    )


def settled(plan: PooledPlan, search: Search) -> list[Candidate]:
    """Candidates with scores on all rungs that the plan needs before the finish."""
    return [c for c in search.history.candidates if plan.is_settled(search.history, c)]


def decision(
    grid: Grid, plan: PooledPlan, tree: ClusterTree, search: Search, best: Candidate
) -> str:
    """The decision that lost the best pair, in words."""
    if not plan.is_settled(search.history, best):
        return _inter_cluster(grid, plan, tree, search, best)
    raced = len(plan.finish_rungs) > 1
    if best not in plan.finish_candidates(search.history):
        if raced:
            return "curves: its estimate was too low for a place in the race"
        return "curves: wrongly judged worse than the leader"
    top = search.history.of(best).top
    if top == plan.rungs[-1]:
        return "answer: fully trained, but another pair was estimated higher"
    if raced:
        return f"race: eliminated at {_ratio(top, plan)}"
    return "finish: within noise of the leader, but not trained fully"


def _inter_cluster(
    grid: Grid, plan: PooledPlan, tree: ClusterTree, search: Search, best: Candidate
) -> str:
    medoid = tree.cluster_of(best).medoid
    last = search.history.of(medoid).top
    if not survives(grid, plan, medoid, best):
        at = _eliminated_at(grid, plan, medoid, best)
        as_medoid = "" if medoid == best else "even as its cluster's medoid, "
        return f"halving: {as_medoid}eliminated at {_ratio(at, plan)}"
    vision = Candidate(medoid.vision_encoder, best.llm)
    llm = Candidate(best.vision_encoder, medoid.llm)
    untypical = [
        name
        for name, pair in (("encoders", vision), ("LLMs", llm))
        if not survives(grid, plan, medoid, pair)
    ]
    # If neither half alone would have been eliminated, both clusters together lost the pair.
    sides = " and the ".join(untypical or ["encoders", "LLMs"])
    return f"clusters of the {sides}: the medoid {medoid} was eliminated at {_ratio(last, plan)}"


def survives(grid: Grid, plan: PooledPlan, medoid: Candidate, other: Candidate) -> bool:
    """Whether a cluster is settled if its medoid has the curve of another pair.

    Args:
        grid: the truth.
        plan: the search.
        medoid: the cluster's medoid.
        other: the pair whose curve the medoid gets.
    """
    history = _rerun(grid, plan, medoid, other)
    return plan.is_settled(history, medoid)


def _eliminated_at(grid: Grid, plan: PooledPlan, medoid: Candidate, other: Candidate) -> int:
    return _rerun(grid, plan, medoid, other).of(medoid).top


def _rerun(grid: Grid, plan: PooledPlan, medoid: Candidate, other: Candidate) -> History:
    return run_light(plan, exchanged(grid, medoid, other)).history


def exchanged(grid: Grid, first: Candidate, second: Candidate) -> Grid:
    """A grid in which two pairs have exchanged their curves."""
    partner = {first: second, second: first}
    by_pair = {curve.candidate: curve for curve in grid.curves}
    curves = tuple(
        by_pair[partner.get(c, c)].model_copy(update={"encoder": c.vision_encoder, "llm": c.llm})
        for c in by_pair
    )
    return Grid.model_validate({**_fields(grid), "curves": curves})


def _fields(grid: Grid) -> dict:
    return {name: getattr(grid, name) for name in Grid.model_fields}


def _ratio(samples: int, plan: PooledPlan) -> str:
    return f"r = 1/{plan.rungs[-1] // samples}"
