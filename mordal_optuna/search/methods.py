"""The search methods, each a plan: the paper's, its preset with the holes closed, and plain ones.

Symbols:
    b, R, eta  smallest ratio, largest ratio before the finish, factor between rungs
    K          clusters that survive the halving
    p          rungs a curve is fitted to
    D          samples of a full alignment
    M, L       encoders and LLMs of the pool
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.halving import Halving
from mordal_optuna.search.jobs import LazyJobs, jobs_of
from mordal_optuna.search.likelihood import LikelihoodRanker
from mordal_optuna.search.plan import (
    Budget,
    Finish,
    Job,
    Plan,
    PooledPlan,
    first_missing,
    usable,
)
from mordal_optuna.search.ranking import AdditiveRanker, OneByOneRanker, PaperRanker, Ranker
from mordal_optuna.search.rungs import build_rungs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mordal_optuna.config import SearchSettings
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.halving import Standings
    from mordal_optuna.search.history import History
    from mordal_optuna.search.ranking import Estimate

# Methods that ask which models are alike before anything is trained.
COMPARING = ("mordal", "mordal-faithful", "cross")


class MordalPlan(PooledPlan):
    """The paper's search: halving over cluster medoids, curves inside the best, a finish.

    1. Inter-cluster: the medoid candidate of every cluster is scored at the lowest rung; the best
       1/eta (never fewer than K) go on to the next rung, until K clusters are left. Whoever is
       certain to go on does so before the rung is complete.
    2. Intra-cluster: every candidate of those clusters is scored on the p highest rungs up to R;
       its curve gives f(1). Nobody is stopped early here, which would cut off late bloomers.
    3. Finish: the best few race, the best 1/eta going on from rung to rung until one is left; or
       those of them that cannot be told from the leader are trained fully.
    """

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        full_samples: int,
        *,
        eta: int = 2,
        top_clusters: int = 3,
        fit_points: int = 3,
        finish: Finish | None = None,
        budget: Budget | None = None,
        ranker: Ranker | None = None,
    ) -> None:
        """Plan a search.

        Args:
            tree: the pool and its clusters.
            rungs: ascending sample counts from b * D to R * D, see `build_rungs`.
            full_samples: D, at least the highest rung.
            eta: clusters that compete for one place, at least 2.
            top_clusters: K, at least 1.
            fit_points: p, at least 2.
            finish: how the leaders are told apart; by default the first of them is trained fully.
            budget: when to stop in any case.
            ranker: estimates; a `Ranker` with p points by default, `PaperRanker` for the paper's.

        Raises:
            SearchError: if the rungs do not ascend, exceed D, or are fewer than p.
        """
        if len(rungs) < fit_points:
            raise SearchError(
                f"rungs {list(rungs)} were given; at least {fit_points} (fit_points) up to "
                f"{full_samples} (the full alignment set) are needed"
            )
        chosen = ranker or Ranker(tree, full_samples, points=fit_points)
        ending = finish or Finish(finalists=1)
        super().__init__(tree, rungs, full_samples, chosen, finish=ending, budget=budget)
        self._eta = eta
        self._top_clusters = top_clusters
        self._curve = self._search_rungs[-fit_points:]
        self._halving = Halving(tree, self._search_rungs)

    def is_settled(self, history: History, candidate: Candidate) -> bool:
        """Whether the candidate has its p points for a curve, or is fully trained."""
        known = history.of(candidate)
        return known.top == self._rungs[-1] or all(known.at(rung) for rung in self._curve)

    def _search_jobs(self, history: History) -> Sequence[Job]:
        standings = self._halving.standings(history, usable)
        survivors = standings.alive
        for number, rung in enumerate(self._search_rungs):
            if len(survivors) <= self._top_clusters:
                break
            keep = max(self._top_clusters, math.ceil(len(survivors) / self._eta))
            scored, lacking = standings.split(survivors, rung)
            if len(lacking):
                sure = standings.best(scored, rung, keep - len(lacking))
                return self._inter_jobs(history, standings, lacking, sure, keep, number)
            survivors = standings.best(scored, rung, keep)
        return self._intra_jobs(history, standings, survivors[: self._top_clusters])

    def _inter_jobs(
        self,
        history: History,
        standings: Standings,
        lacking: np.ndarray,
        sure: np.ndarray,
        keep: int,
        number: int,
    ) -> Sequence[Job]:
        """Jobs of a rung that is not complete, and of those that survive it in any case.

        Args:
            history: what is known.
            standings: the same, by cluster.
            lacking: clusters without a score at the rung.
            sure: clusters that survive it however the missing scores turn out, best first.
            keep: how many survive it.
            number: of the rung.
        """
        waves = [(lacking, self._search_rungs[number])]
        certain: Sequence[Job] = ()
        if keep > self._top_clusters and number + 1 < len(self._search_rungs):
            rung = self._search_rungs[number + 1]
            waves.append((standings.split(sure, rung)[1], rung))
        elif keep == self._top_clusters:
            certain = self._intra_jobs(history, standings, sure)

        def every() -> Iterator[Job]:
            for numbers, rung in waves:
                for candidate in standings.candidates(numbers):
                    yield Job(candidate, rung, "inter-cluster")
            yield from certain

        def own(candidate: Candidate) -> Iterator[Job]:
            cluster = standings.numbers.get(candidate)
            for numbers, rung in waves:
                if cluster is not None and cluster in numbers:
                    yield Job(candidate, rung, "inter-cluster")
            yield from jobs_of(certain, candidate)

        return LazyJobs(every, own)

    def _intra_jobs(
        self, history: History, standings: Standings, numbers: np.ndarray
    ) -> list[Job]:
        return [
            Job(candidate, rung, "intra-cluster")
            for number in numbers
            for candidate in standings.clusters[number].candidates
            if usable(known := history.of(candidate))
            and (rung := first_missing(known, self._curve))
        ]


class ListPlan(PooledPlan):
    """A fixed list of candidates, each scored on a fixed list of rungs; then the finish.

    All methods that decide nothing on the way are of this kind: the whole grid, everyone at one
    ratio, candidates in random order, a cross.
    """

    def __init__(
        self,
        tree: ClusterTree,
        candidates: Sequence[Candidate],
        rungs: Sequence[int],
        full_samples: int,
        ranker: Ranker,
        *,
        stage: str,
        finish: Finish | None = None,
        untrained_finalists: bool = False,
        budget: Budget | None = None,
    ) -> None:
        """Plan a list.

        Args:
            tree: the pool; its clusters serve estimates only.
            candidates: whom to train, in this order.
            rungs: ascending sample counts at which each is scored.
            full_samples: D.
            ranker: estimates.
            stage: name of the jobs' stage.
            finish: how the leaders are told apart; by default the curves are trusted.
            untrained_finalists: whether candidates that were not on the list may be finalists.
            budget: when to stop in any case.

        Raises:
            SearchError: if the rungs do not ascend or exceed D.
        """
        super().__init__(tree, rungs, full_samples, ranker, finish=finish, budget=budget)
        self._candidates = tuple(candidates)
        self._members = frozenset(candidates)
        self._stage = stage
        self._untrained_finalists = untrained_finalists

    def limited(self, finish: Finish, budget: Budget) -> ListPlan:
        """The same plan with a finish and a budget."""
        return type(self)(
            self._tree,
            self._candidates,
            self._search_rungs,
            self._rungs[-1],
            self._ranker,
            stage=self._stage,
            finish=finish,
            untrained_finalists=self._untrained_finalists,
            budget=budget,
        )

    def _leader(self, history: History) -> Candidate | None:
        scored = any(known.measurements for known in history.candidates.values())
        if self._untrained_finalists and scored:
            return self.ranking(history)[0].candidate
        return super()._leader(history)

    def _search_jobs(self, history: History) -> Sequence[Job]:
        def own(candidate: Candidate) -> Iterator[Job]:
            known = history.of(candidate)
            if usable(known) and (rung := first_missing(known, self._search_rungs)):
                yield Job(candidate, rung, self._stage)

        def listed(candidate: Candidate) -> Iterator[Job]:
            return own(candidate) if candidate in self._members else iter(())

        return LazyJobs(lambda: chain.from_iterable(map(own, self._candidates)), listed)

    def _contenders(self, searched: History) -> list[Estimate]:
        if self._untrained_finalists:
            return list(self._ranker.rank(searched))
        return super()._contenders(searched)


class GridPlan(ListPlan):
    """Every candidate on all rungs: the ground truth, which ranks pairs by what they scored."""

    def ranking(self, history: History) -> tuple[Estimate, ...]:
        """Those with a score by their own, best first; then what is believed of the others."""
        trained = self._ranker.rank_trained(history)
        seen = {estimate.candidate for estimate in trained}
        rest = [e for e in self._ranker.rank(history) if e.candidate not in seen]
        return (*trained, *rest)


class BestPartsPlan(ListPlan):
    """The best encoder and the best LLM, each looked for with the other one held fixed.

    Every encoder is trained fully with the popular LLM, every LLM with the popular encoder, then
    the best encoder with the best LLM: M + L - 1 full runs, and one more where that pair was not
    among them. The answer is the best of all that were trained, as whoever has trained them would
    choose, not the combination whatever it scores.
    """

    def __init__(
        self,
        tree: ClusterTree,
        full_samples: int,
        ranker: Ranker,
        *,
        popular: Candidate,
        budget: Budget | None = None,
    ) -> None:
        """Plan it.

        Args:
            tree: the pool.
            full_samples: D.
            ranker: estimates; an `AdditiveRanker` with the popular pair in the centre.
            popular: the pair whose parts are held fixed.
            budget: when to stop in any case.
        """
        super().__init__(
            tree,
            _row_and_column(tree, popular),
            (full_samples,),
            full_samples,
            ranker,
            stage="parts",
            budget=budget,
        )
        self._popular = popular

    def _search_jobs(self, history: History) -> Sequence[Job]:
        jobs = super()._search_jobs(history)
        if jobs:
            return jobs
        full, combined = self._rungs[-1], self._combination(history)
        if combined and self._usable(history, combined) and not history.of(combined).at(full):
            return [Job(combined, full, "combination")]
        return []

    def _combination(self, history: History) -> Candidate | None:
        """The best part of each kind; the first of equals; None if a kind has no score."""
        full, popular = self._rungs[-1], self._popular
        encoders = {
            v: known.score
            for v in self.vision_encoders
            if (known := history.of(Candidate(v, popular.llm)).at(full))
        }
        llms = {
            m: known.score
            for m in self.llms
            if (known := history.of(Candidate(popular.vision_encoder, m)).at(full))
        }
        if not (encoders and llms):
            return None
        return Candidate(max(encoders, key=encoders.__getitem__), max(llms, key=llms.__getitem__))


def build_plan(
    settings: SearchSettings,
    tree: ClusterTree,
    full_samples: int,
    *,
    batch_size: int = 1,
    seed: int = 0,
    spent_seconds: float = 0.0,
) -> Plan:
    """The plan that a study file's `search` section asks for.

    Args:
        settings: that section.
        tree: the pool, clustered where the method compares models.
        full_samples: D.
        batch_size: every rung is a whole number of these.
        seed: of the order of `random`.
        spent_seconds: device-seconds spent before the first trial.

    Raises:
        SearchError: if the ratios leave too few rungs.
    """
    rungs = build_rungs(
        full_samples,
        first_ratio=settings.first_ratio,
        max_ratio=settings.max_ratio,
        eta=settings.eta,
        multiple=batch_size,
    )
    budget = Budget(settings.device_hours, spent_seconds)
    finish = build_finish(settings, rungs[-1], full_samples, batch_size=batch_size)
    ranker = _ranker(settings, tree, full_samples)
    match settings.method:
        case "mordal" | "mordal-faithful":
            return MordalPlan(
                tree,
                rungs,
                full_samples,
                eta=settings.eta,
                top_clusters=settings.top_clusters,
                fit_points=settings.fit_points,
                finish=finish,
                budget=budget,
                ranker=ranker,
            )
        case "grid":
            every = tuple(dict.fromkeys((*rungs, full_samples)))
            plan: ListPlan = GridPlan(
                tree, tree.candidates, every, full_samples, ranker, stage="grid"
            )
        case "all-at-ratio":
            plan = ListPlan(
                tree, tree.candidates, rungs[-1:], full_samples, ranker, stage="all-at-ratio"
            )
        case "random":
            plan = random_plan(tree, full_samples, ranker, seed=seed)
        case "cross":
            plan = cross_plan(tree, rungs[-settings.fit_points :], full_samples, ranker)
        case "popular":
            pair = (popular_pair(tree, settings.popular),)
            alone = OneByOneRanker(tree, full_samples, confidence=settings.confidence)
            plan = ListPlan(tree, pair, (full_samples,), full_samples, alone, stage="popular")
        case "best-parts":
            popular = popular_pair(tree, settings.popular)
            return BestPartsPlan(tree, full_samples, ranker, popular=popular, budget=budget)
    ends = settings.method in ("all-at-ratio", "cross")
    return plan.limited(finish if ends else Finish(), budget)


def _ranker(settings: SearchSettings, tree: ClusterTree, full_samples: int) -> Ranker:
    confidence, points = settings.confidence, settings.fit_points
    if settings.max_fit_loss is not None:
        return PaperRanker(
            tree,
            full_samples,
            delta=settings.max_fit_loss,
            confidence=confidence,
            points=points,
        )
    if settings.method in ("cross", "best-parts"):
        crossed = settings.method == "cross"
        centre = cross_centre(tree) if crossed else popular_pair(tree, settings.popular)
        return AdditiveRanker(
            tree, full_samples, centre=centre, confidence=confidence, points=points
        )
    kind = LikelihoodRanker if settings.curve == "likelihood" else Ranker
    return kind(tree, full_samples, confidence=confidence, points=points)


def build_finish(
    settings: SearchSettings, highest: int, full_samples: int, *, batch_size: int = 1
) -> Finish:
    """The finish that a study file's `search` section asks for.

    Args:
        settings: that section.
        highest: R in samples.
        full_samples: D.
        batch_size: every rung is a whole number of these.
    """
    if settings.finish == "full" or highest == full_samples:
        return Finish(settings.finalists)
    # From D downwards, so that the winner's next step is D itself; the lowest of these rungs is at
    # least half a step above R.
    above = build_rungs(
        full_samples,
        first_ratio=min(1.0, highest * settings.eta**0.5 / full_samples),
        max_ratio=1.0,
        eta=settings.eta,
        multiple=batch_size,
    )
    race = tuple(rung for rung in above[:-1] if rung > highest)
    return Finish(settings.finalists, race, settings.eta, settings.train_winner)


def grid_plan(tree: ClusterTree, rungs: Sequence[int]) -> GridPlan:
    """Every candidate on every rung: the ground truth; the last rung is D."""
    ranker = Ranker(tree, rungs[-1])
    return GridPlan(tree, tree.candidates, rungs, rungs[-1], ranker, stage="grid")


def random_plan(tree: ClusterTree, full_samples: int, ranker: Ranker, *, seed: int) -> ListPlan:
    """Candidates in random order, each trained fully, until the budget is spent."""
    order = np.random.default_rng(seed).permutation(len(tree.candidates))
    shuffled = [tree.candidates[n] for n in order]
    return ListPlan(tree, shuffled, (full_samples,), full_samples, ranker, stage="random")


def cross_centre(tree: ClusterTree) -> Candidate:
    """The medoid pair of the largest cluster, by encoders, then by LLMs."""
    return max(tree.clusters, key=lambda c: (len(c.vision.members), len(c.llm.members))).medoid


def cross_plan(
    tree: ClusterTree, rungs: Sequence[int], full_samples: int, ranker: Ranker
) -> ListPlan:
    """The row and the column of the centre; give an `AdditiveRanker` of the same centre."""
    candidates = _row_and_column(tree, cross_centre(tree))
    return ListPlan(
        tree, candidates, rungs, full_samples, ranker, stage="cross", untrained_finalists=True
    )


def _row_and_column(tree: ClusterTree, centre: Candidate) -> tuple[Candidate, ...]:
    row = [Candidate(centre.vision_encoder, llm) for llm in tree.llms]
    column = [Candidate(encoder, centre.llm) for encoder in tree.vision_encoders]
    return tuple(dict.fromkeys((centre, *row, *column)))


def popular_pair(tree: ClusterTree, named: tuple[str, str] | None) -> Candidate:
    """The named pair, or the first encoder with the first LLM of the pool.

    Raises:
        SearchError: if the pool does not have it.
    """
    encoder, llm = named or (tree.vision_encoders[0], tree.llms[0])
    if encoder not in tree.vision_encoders or llm not in tree.llms:
        raise SearchError(
            f"the popular pair {encoder!r} + {llm!r} is not in the pool; encoders are "
            f"{', '.join(tree.vision_encoders)}, LLMs {', '.join(tree.llms)}"
        )
    return Candidate(encoder, llm)
