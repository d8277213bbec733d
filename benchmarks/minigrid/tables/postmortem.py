"""Where the best pair was lost: which decision of a search did it, and what it cost.

The points that a pick loses are split along the search's own stages, each a smaller set of pairs:

    pool        all pairs
    in sight    scored on the last rungs before the finish, after the halving over clusters
    rivals      of these, the ones that the curves leave to the finish: those with a place in the
                race, or else all that they cannot tell from the leader
    picked      the answer

Lost in halving = best of the pool less best in sight, and so on; the three add up to the regret.
The last is below 0 where the answer was none of the rivals and turned out better than all of them.

Whose fault it is where the best pair was not in sight is found by running the search again with
the curve of another pair in the place of its cluster's medoid (the two exchange their curves): if
even the best pair itself would have fallen there, the halving is to blame at the rung where it
fell; if not, the medoid was not typical, because of the encoders' cluster if the medoid encoder
with the best LLM falls, of the LLMs' if the best encoder with the medoid LLM falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.truth import final_scores, lead_noise, near_best
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.grid import Grid
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.replay.light import Search
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History


@dataclass(frozen=True)
class PostMortem:
    """One task's search.

    Attributes:
        best: the truly best pair.
        picked: the answer.
        regret: points on 0..1 that the pick loses.
        halving: of these, lost before the curves.
        curves: lost among those with a curve, by not being one of the rivals.
        finish: lost by the choice among the rivals.
        decision: in words, which decision lost the best pair; empty where it was picked.
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
        method: one that clusters: `mordal` or `mordal-faithful`.
        replicates: bootstraps for the noise of the lead.
    """
    grid = data.grid
    settings = method_settings(method)
    plan, tree = set_up(grid, method, settings, 0, None).plan, pool_tree(grid, settings)
    assert isinstance(plan, PooledPlan)
    search = run_light(plan, grid)
    winner = plan.winner(search.history)
    assert winner is not None
    best = max(grid.candidates, key=grid.truth)
    groups = in_sight(plan, search), plan.rivals(search.history)
    ladder = [grid.truth(best), *(_best(grid, group) for group in groups)]
    ladder.append(grid.truth(winner))
    found = grid.truth(winner) == grid.truth(best)
    final, redrawn = data.scores[:, -1], final_scores(data, replicates)
    row = grid.candidates.index(winner)
    return PostMortem(
        best=str(best),
        picked=str(winner),
        regret=ladder[0] - ladder[3],
        halving=ladder[0] - ladder[1],
        curves=ladder[1] - ladder[2],
        finish=ladder[2] - ladder[3],
        decision="" if found else decision(grid, plan, tree, search, best),
        noise=float(lead_noise(final, redrawn)[row]),
        within_noise=bool(near_best(final, redrawn)[row]),
    )


def in_sight(plan: PooledPlan, search: Search) -> list[Candidate]:
    """Those scored as finely as the plan asks for."""
    return [c for c in search.history.candidates if plan.is_settled(search.history, c)]


def decision(
    grid: Grid, plan: PooledPlan, tree: ClusterTree, search: Search, best: Candidate
) -> str:
    """Which decision lost the best pair."""
    if not plan.is_settled(search.history, best):
        return _inter_cluster(grid, plan, tree, search, best)
    raced = len(plan.finish_rungs) > 1
    if best not in plan.rivals(search.history):
        if raced:
            return "the curves: they promised too little for a place in the race"
        return "the curves: it was told from the leader, wrongly"
    top = search.history.of(best).top
    if top == plan.rungs[-1]:
        return "the answer: fully trained, and another's curve promised more"
    if raced:
        return f"the race: it was left behind at {_ratio(top, plan)}"
    return "the finish: it was tied with the leader and not trained fully"


def _inter_cluster(
    grid: Grid, plan: PooledPlan, tree: ClusterTree, search: Search, best: Candidate
) -> str:
    medoid = tree.cluster_of(best).medoid
    fell = search.history.of(medoid).top
    if not survives(grid, plan, medoid, best):
        at = _fell_at(grid, plan, medoid, best)
        own = "fell" if medoid == best else "would have fallen even as its cluster's medoid"
        return f"the halving: it {own} at {_ratio(at, plan)}"
    vision = Candidate(medoid.vision_encoder, best.llm)
    llm = Candidate(best.vision_encoder, medoid.llm)
    guilty = [
        name
        for name, pair in (("encoders", vision), ("LLMs", llm))
        if not survives(grid, plan, medoid, pair)
    ]
    # Where each half alone would have passed, it took both to lose it.
    sides = " and the ".join(guilty or ["encoders", "LLMs"])
    return f"the clusters of the {sides}: {medoid} stood for it and fell at {_ratio(fell, plan)}"


def survives(grid: Grid, plan: PooledPlan, medoid: Candidate, other: Candidate) -> bool:
    """Whether a cluster comes in sight if another pair's curve is its medoid's."""
    history = _rerun(grid, plan, medoid, other)
    return plan.is_settled(history, medoid)


def _fell_at(grid: Grid, plan: PooledPlan, medoid: Candidate, other: Candidate) -> int:
    return _rerun(grid, plan, medoid, other).of(medoid).top


def _rerun(grid: Grid, plan: PooledPlan, medoid: Candidate, other: Candidate) -> History:
    return run_light(plan, exchanged(grid, medoid, other)).history


def exchanged(grid: Grid, first: Candidate, second: Candidate) -> Grid:
    """A grid in which two pairs have each other's curve."""
    other = {first: second, second: first}
    by_pair = {curve.candidate: curve for curve in grid.curves}
    curves = tuple(
        by_pair[other.get(c, c)].model_copy(update={"encoder": c.vision_encoder, "llm": c.llm})
        for c in by_pair
    )
    return Grid.model_validate({**_fields(grid), "curves": curves})


def _fields(grid: Grid) -> dict:
    return {name: getattr(grid, name) for name in Grid.model_fields}


def _best(grid: Grid, group: Sequence[Candidate]) -> float:
    return max(grid.truth(candidate) for candidate in group)


def _ratio(samples: int, plan: PooledPlan) -> str:
    return f"r = 1/{plan.rungs[-1] // samples}"
