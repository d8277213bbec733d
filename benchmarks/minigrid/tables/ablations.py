"""Ablations: the same search with one change each.

Every variant runs on the full data and on the same replicates (see `bootstrap`), without Optuna
(see `mordal_optuna.replay.light`), and is compared with the default on each replicate, so that
common noise cancels.

Symbols:
    b, R, eta  smallest ratio, largest ratio before the finish, factor between rungs
    K          number of clusters that survive the halving
    p          number of points of a curve
    t          similarity threshold of the clusters
    D          number of samples of a full alignment

The grid file has rungs at 1/32, 1/16, .. 1. Therefore p = 3, 4 and 5 need R = 1/8, 1/4 and 1/2,
and eta = 4 leaves two rungs up to 1/8. A window can be chosen only where there are more than p
rungs, so windows are compared at R = 1/2 with five rungs and p = 3.

`before` is the first preset that was run on the grid: R = 1/8, p = 3, K = 3, thresholds by the
clearest cut without a lower limit, curves without run noise, and only the leader trained fully.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from benchmarks.minigrid.tables.bootstrap import Resampler, full_data
from benchmarks.minigrid.tables.methods import MethodResult, figures, light_judged
from mordal_optuna.config import SearchSettings
from mordal_optuna.replay.costs import comparison_costs
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.search.clusters import ClusterTree, cluster_pool
from mordal_optuna.search.curves import (
    fit_log_linear,
    pooled_run_noise,
    pooled_slope,
    stable_window,
)
from mordal_optuna.search.jobs import Job
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.methods.options import build_finish
from mordal_optuna.search.ranking import Belief, Ranker
from mordal_optuna.search.rungs import build_rungs
from mordal_optuna.study.costs import Costs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.minigrid.tables.bootstrap import Replicate
    from benchmarks.minigrid.tables.data import TaskData
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.replay.simulate import SetUp
    from mordal_optuna.search.curves import Fit, Measurement
    from mordal_optuna.search.history import CandidateHistory, History

Window = Literal["stable", "all", "last"]
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_WINDOWS: dict[Window, str] = {"stable": "stable window", "all": "all", "last": "last 3"}
_WIDE = {"max_ratio": 0.5, "fit_points": 3}
_BEFORE = {"max_ratio": 0.125, "fit_points": 3, "top_clusters": 3, "finalists": 1}


class WindowRanker(Ranker):
    """Curves through other points, with or without shrinkage and run noise."""

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        *,
        points: int = 3,
        window: Window = "stable",
        shrink: bool = True,
        runs: bool = True,
    ) -> None:
        """Rank with other curves.

        Args:
            tree: the pool.
            full_samples: D.
            points: p.
            window: the stable window as in the product, all points, or the last p.
            shrink: whether slopes are drawn toward the pool's.
            runs: whether there is run noise; without, documents alone are doubted.
        """
        super().__init__(tree, full_samples, points=points)
        self._window = window
        self._shrink = shrink
        self._runs = runs

    def fits(self, history: History) -> dict:
        """The curves of all candidates with at least p points."""
        whole = {
            candidate: below
            for candidate, known in history.candidates.items()
            if len(below := self.points_below_full(known)) >= self.points
        }
        noise = pooled_run_noise(list(whole.values())) if self._runs else 0.0
        windows = {c: self._cut(points, noise) for c, points in whole.items()}
        plain = {c: fit_log_linear(window, run_noise=noise) for c, window in windows.items()}
        if not self._shrink:
            return plain
        slope = pooled_slope(list(plain.values()))
        return {c: fit_log_linear(own, slope, run_noise=noise) for c, own in windows.items()}

    def _cut(self, points: tuple[Measurement, ...], run_noise: float) -> tuple[Measurement, ...]:
        if self._window == "stable":
            return stable_window(points, least=self.points, run_noise=run_noise)
        return points[-self.points :] if self._window == "last" else points


class LastScoreRanker(Ranker):
    """No scaling prediction: a candidate's last score is its estimate."""

    def fits(self, history: History) -> dict:  # noqa: ARG002 - none is looked at
        """None."""
        none: dict[object, Fit] = {}
        return none

    def belief_from_others(
        self,
        record: CandidateHistory,
        fall: tuple[float, float],  # noqa: ARG002 - no other candidate is used
    ) -> Belief:
        """The last score."""
        last = record.measurements[-1]
        return Belief(last.log_error, last.log_noise, "inferred")


class NoStoppingPlan(MordalPlan):
    """No early stopping: every medoid is scored on all rungs up to R, then the best K survive."""

    def search_jobs(self, history: History) -> list[Job]:
        """Jobs of the medoids on all rungs, then of the candidates in the best K clusters."""
        scores = self.cluster_scores(history)
        survivors = scores.alive
        if len(survivors) > self.top_clusters:
            for rung in self.search_rungs:
                scored, missing = scores.split(survivors, rung)
                if len(missing):
                    return [
                        Job(medoid, rung, "inter-cluster")
                        for medoid in scores.representatives(missing)
                    ]
            survivors = scores.best(scored, rung, self.top_clusters)
        return self.cluster_jobs(history, scores, survivors)


class TiedRacePlan(MordalPlan):
    """Only who cannot be told from the leader by the curves' intervals has a place in the race."""

    def finish_candidates(self, history: History) -> tuple[Candidate, ...]:
        """Of those with a place, the ones within noise of the leader."""
        placed = super().finish_candidates(history)
        before = self.ranker.rank_trained(history.below(self.finish_rungs[0]))
        ranking = [e for e in before if e.candidate in placed]
        return tuple(e.candidate for e in self.ranker.tie_set(ranking)) if ranking else ()


@dataclass(frozen=True)
class Variant:
    """A search with one change.

    Attributes:
        group: what is changed.
        name: name of the variant.
        set_up: prepares the search on a task, possibly with other similarities.
    """

    group: str
    name: str
    set_up: Callable[[TaskData], SetUp]


def variants() -> tuple[Variant, ...]:
    """All variants, the default first."""
    faithful = method_settings("mordal-faithful")
    cuts = {"vision_threshold": faithful.vision_threshold, "llm_threshold": faithful.llm_threshold}
    sweeps = [
        *(_option(f"t of encoders {t:g}", vision_threshold=t) for t in THRESHOLDS),
        *(_option(f"t of LLMs {t:g}", llm_threshold=t) for t in THRESHOLDS),
    ]
    return (
        _option("default"),
        Variant("parts", "without clustering", _unclustered),
        Variant("parts", "without early stopping", _planned(NoStoppingPlan)),
        Variant("parts", "without scaling prediction", _ranked(LastScoreRanker)),
        Variant("parts", "clustering alone, all trained fully", _clustering_alone),
        Variant("parts", "every pair at R, then the race", _everyone),
        Variant("parts", "before", _before),
        *(replace(v, group="thresholds") for v in sweeps),
        Variant("similarity", "plain CKA", lambda d: _set_up(d.biased)),
        Variant("similarity", "debiased CKA, t .7 and .8", lambda d: _set_up(d.grid, **cuts)),
        Variant("similarity", "plain CKA, t .7 and .8", lambda d: _set_up(d.biased, **cuts)),
        replace(_option("R 1/8", max_ratio=0.125), group="points"),
        replace(_option("p 3, R 1/8", fit_points=3, max_ratio=0.125), group="points"),
        replace(_option("p 4, R 1/4", fit_points=4, max_ratio=0.25), group="points"),
        replace(_option("p 5, R 1/2", fit_points=5, max_ratio=0.5), group="points"),
        replace(_option("R 1/4", max_ratio=0.25), group="points"),
        replace(_option("R 1/2", max_ratio=0.5), group="points"),
        replace(_option("likelihood", curve="likelihood"), group="curves"),
        Variant("curves", "no run noise", _curved("stable", runs=False)),
        Variant("curves", "no shrinkage", _curved("stable", shrink=False)),
        *(
            Variant("curves", f"R 1/2, 5 rungs, {name}{'' if shrink else ', no shrinkage'}", build)
            for window, name in _WINDOWS.items()
            for shrink in (True, False)
            for build in (_curved(window, shrink=shrink, wide=True),)
        ),
        *(replace(_option(f"finalists {n}", finalists=n), group="finish") for n in (0, 2, 4, 8)),
        Variant("finish", "a race of the tied alone", _planned(TiedRacePlan)),
        replace(_option("winner trained fully", train_winner=True), group="finish"),
        replace(_option("one finalist fully", finalists=1, finish="full"), group="finish"),
        replace(_option("eta 4, R 1/8", eta=4, max_ratio=0.125), group="halving"),
        *(replace(_option(f"K {k}", top_clusters=k), group="halving") for k in (1, 3, 8, 12)),
    )


def run_ablations(data: TaskData, *, replicates: int) -> dict[str, MethodResult]:
    """Results of all variants on one task, by name.

    Args:
        data: the task.
        replicates: number of bootstraps.
    """
    resampler = Resampler(data)
    drawn = [resampler.replicate(number) for number in range(replicates)]
    return {variant.name: run_variant(data, variant, drawn) for variant in variants()}


def run_variant(data: TaskData, variant: Variant, replicates: Sequence[Replicate]) -> MethodResult:
    """Run one variant on the full data and on replicates."""
    setup, whole = variant.set_up(data), full_data(data)
    rows, values = [], []
    for number, seen in enumerate((whole, *replicates)):
        draws = 10 if number else 100
        rows.append(
            light_judged(
                seen.grid, variant.name, setup, seed=number, draws=draws, truths=seen.truth
            )
        )
        values.append(figures(rows[-1], seen, whole))
    return MethodResult(values[0], tuple(values[1:]), rows[0].picked)


def _option(name: str, **options: float | str | None) -> Variant:
    return Variant("default", name, lambda data: _set_up(data.grid, **options))


def _set_up(grid: Grid, **options: float | str | None) -> SetUp:
    return set_up(grid, "mordal", _settings(**options), 0, None)


def _settings(**options: float | str | None) -> SearchSettings:
    return SearchSettings.model_validate({"method": "mordal", **options})


def _unclustered(data: TaskData) -> SetUp:
    """A search without clusters; comparing models costs nothing."""
    tree = ClusterTree.flat(data.grid.encoders, data.grid.llms)
    free = replace(_set_up(data.grid), before=Costs(), before_projected=Costs())
    return replace(free, plan=_plan(data.grid, tree))


def _everyone(data: TaskData) -> SetUp:
    """A search that compares no models and eliminates no pair before R."""
    settings = _settings()
    same = {"max_ratio": settings.max_ratio, "finalists": settings.finalists, "finish": "race"}
    chosen = SearchSettings.model_validate({"method": "all-at-ratio", "fit_points": 2, **same})
    return set_up(data.grid, "all-at-ratio", chosen, 0, None)


def _before(data: TaskData) -> SetUp:
    grid, settings = data.grid, _settings(**_BEFORE, finish="full")
    tree = cluster_pool(
        grid.encoders, grid.llms, grid.similarity_of_encoders(), grid.similarity_of_llms
    )
    spent, projected = comparison_costs(grid, tree)
    points = settings.fit_points
    ranker = WindowRanker(tree, grid.full_samples, points=points, runs=False)
    plan = _plan(grid, tree, settings=settings, ranker=ranker)
    changed = replace(_set_up(grid), plan=plan)
    return replace(changed, before=spent, before_projected=projected)


def _planned(kind: type[MordalPlan]) -> Callable[[TaskData], SetUp]:
    def build(data: TaskData) -> SetUp:
        tree = pool_tree(data.grid, _settings())
        return replace(_set_up(data.grid), plan=_plan(data.grid, tree, kind=kind))

    return build


def _ranked(kind: type[Ranker]) -> Callable[[TaskData], SetUp]:
    def build(data: TaskData) -> SetUp:
        tree = pool_tree(data.grid, _settings())
        ranker = kind(tree, data.grid.full_samples, points=_settings().fit_points)
        return replace(_set_up(data.grid), plan=_plan(data.grid, tree, ranker=ranker))

    return build


def _curved(
    window: Window, *, shrink: bool = True, runs: bool = True, wide: bool = False
) -> Callable[[TaskData], SetUp]:
    def build(data: TaskData) -> SetUp:
        options = _WIDE if wide else {}
        settings = _settings(**options)
        tree = pool_tree(data.grid, settings)
        ranker = WindowRanker(
            tree,
            data.grid.full_samples,
            points=settings.fit_points,
            window=window,
            shrink=shrink,
            runs=runs,
        )
        # Every surviving pair is scored on all five rungs; its curve uses at least three of them.
        points = 5 if wide else settings.fit_points
        plan = _plan(data.grid, tree, settings=settings, ranker=ranker, points=points)
        return replace(_set_up(data.grid, **options), plan=plan)

    return build


def _clustering_alone(data: TaskData) -> SetUp:
    """Train every medoid fully, then all pairs of the best K clusters fully."""
    settings = _settings(first_ratio=0.5, max_ratio=1.0, fit_points=2, finalists=0)
    tree = pool_tree(data.grid, settings)
    plan = _plan(data.grid, tree, settings=settings, kind=NoStoppingPlan)
    return replace(_set_up(data.grid), plan=plan)


def _plan(
    grid: Grid,
    tree: ClusterTree,
    *,
    settings: SearchSettings | None = None,
    kind: type[MordalPlan] = MordalPlan,
    ranker: Ranker | None = None,
    points: int | None = None,
) -> MordalPlan:
    chosen = settings or _settings()
    rungs = build_rungs(
        grid.full_samples,
        first_ratio=chosen.first_ratio,
        max_ratio=chosen.max_ratio,
        eta=chosen.eta,
    )
    return kind(
        tree,
        rungs,
        grid.full_samples,
        eta=chosen.eta,
        top_clusters=chosen.top_clusters,
        fit_points=points or chosen.fit_points,
        finish=build_finish(chosen, rungs[-1], grid.full_samples),
        ranker=ranker or Ranker(tree, grid.full_samples, points=chosen.fit_points),
    )
