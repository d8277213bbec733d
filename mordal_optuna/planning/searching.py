"""What a search will spend: the study's own plan, run on drawn pools of the study's size.

How many candidates reach which rung depends on scores that nobody has yet. The plan that the study
file asks for is therefore run on pools of `replay/synthetic.py` with the study's rungs, documents
and prices. What it spends differs from pool to pool, so the mean comes with the range of 8 of 10.

Symbols:
    D   samples of a full alignment
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.pool import Candidate
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.clusters import LEAST_CKA, ClusterTree, cluster_pool
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.catalogue import METHODS
from mordal_optuna.search.methods.comparing import compared_models

if TYPE_CHECKING:
    from mordal_optuna.planning.prices import Prices
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.plan import Plan

# Drawn pools, and the quantiles of the range that is shown.
POOLS = 20
_LOW, _HIGH = 0.1, 0.9


@dataclass
class Rung:
    """What all candidates together take at a rung.

    Attributes:
        candidates: number of candidates that are scored there.
        train: device-seconds of training to it from the rung below, features and loading included.
        score: device-seconds of scoring.
        samples_trained: samples trained on from the rung below.
        documents: documents scored, of all tasks.
    """

    candidates: float = 0.0
    train: float = 0.0
    score: float = 0.0
    samples_trained: float = 0.0
    documents: float = 0.0


@dataclass
class Spent:
    """What one search takes, in device-seconds.

    Attributes:
        features: features of the compared models.
        warmup: warm-ups by which LLMs are compared.
        rungs: training and scoring, by the rung's samples.
        candidates: number of candidates that are trained at all.
        checkpoints: number of checkpoints that are written.
        reason: why the search ends.
    """

    features: float = 0.0
    warmup: float = 0.0
    rungs: dict[int, Rung] = field(default_factory=lambda: defaultdict(Rung))
    candidates: int = 0
    checkpoints: int = 0
    reason: str = ""

    @property
    def training(self) -> float:
        """Device-seconds of training."""
        return sum(rung.train for rung in self.rungs.values())

    @property
    def evaluation(self) -> float:
        """Device-seconds of scoring."""
        return sum(rung.score for rung in self.rungs.values())

    @property
    def total(self) -> float:
        """Device-seconds of everything that the search counts as its cost."""
        return self.features + self.warmup + self.training + self.evaluation


class _Priced:
    """Scores of a drawn pool with the prices of a study; one search at a time."""

    def __init__(self, grid: Grid, prices: Prices) -> None:
        self._grid = grid
        self._prices = prices
        self._names = {
            candidate: Candidate(grid.encoders[v], grid.llms[m])
            for (candidate, (v, m)) in _places(prices).items()
        }
        self._encoded: dict[str, int] = {}  # samples whose features are there, by encoder
        self._spent: dict[Candidate, tuple[int, float]] = {}  # samples and seconds of training
        self._last: Candidate | None = None
        self.spent = Spent()

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The score of a pair at a rung, with what it takes."""
        drawn = self._grid.measurement(self._names[candidate], samples)
        price, prices = self._prices.of[candidate], self._prices
        before, seconds = self._spent.get(candidate, (0, 0.0))
        there = max(before, min(samples, self._encoded.get(candidate.vision_encoder, 0)))
        took = (samples - before) * price.train + (samples - there) * price.encode
        if candidate != self._last:
            took += price.load
        cached = min(samples, prices.cached_samples(candidate))
        known = self._encoded.get(candidate.vision_encoder, 0)
        self._encoded[candidate.vision_encoder] = max(known, cached)
        self._spent[candidate], self._last = (samples, seconds + took), candidate
        scoring = prices.scoring(candidate, samples)
        rung = self.spent.rungs[samples]
        rung.candidates += 1
        rung.train += took
        rung.score += scoring
        rung.samples_trained += samples - before
        rung.documents += sum(prices.documents(samples))
        return Measurement(
            samples,
            drawn.score,
            drawn.stderr,
            drawn.documents,
            seconds + took,
            scoring,
        )


@dataclass(frozen=True)
class Forecast:
    """What a search is expected to take.

    Attributes:
        mean: mean over the drawn pools.
        low: total device-seconds that one search in ten stays below.
        high: total device-seconds that one search in ten exceeds.
        grid: device-seconds of training every pair fully and scoring it once.
        pairs: number of pairs of the pool.
        rungs: the plan's rungs in samples.
    """

    mean: Spent
    low: float
    high: float
    grid: float
    pairs: int
    rungs: tuple[int, ...]

    @property
    def full_runs(self) -> float:
        """Mean cost in mean full runs."""
        return self.mean.total / (self.grid / self.pairs)


def forecast(prices: Prices, *, pools: int = POOLS) -> Forecast:
    """Run a study's plan on drawn pools.

    Args:
        prices: the study, with prices of all of its candidates.
        pools: number of drawn pools, at least 1.

    Raises:
        SearchError: if the ratios of the study file leave too few rungs.
    """
    pool = prices.settings.models()
    flat = ClusterTree.flat(pool.encoder_names, pool.llm_names)
    rungs = _plan(prices, flat, 0.0).rungs
    spent = [_search(prices, seed, rungs) for seed in range(pools)]
    totals = [one.total for one in spent]
    low, high = np.quantile(totals, [_LOW, _HIGH])
    mean, grid = _mean(spent, rungs), prices.grid_seconds()
    return Forecast(mean, float(low), float(high), grid, len(prices.of), rungs)


def _search(prices: Prices, seed: int, rungs: tuple[int, ...]) -> Spent:
    """One search on a drawn pool."""
    pool = prices.settings.models()
    documents = max(sum(prices.documents(rungs[-1])), 1)
    grid = synthetic_grid(
        seed,
        encoders=len(pool.vision_encoders),
        llms=len(pool.llms),
        full_samples=rungs[-1],
        documents=documents,
        rungs=rungs,
    )
    tree = _tree(prices, grid)
    priced = _Priced(grid, prices)
    _compare(prices, tree, priced.spent)
    before = priced.spent.features + priced.spent.warmup
    found = run_light(_plan(prices, tree, before), priced)
    priced.spent.candidates = len(found.history.candidates)
    priced.spent.checkpoints = len(found.simulated.jobs)
    priced.spent.reason = found.simulated.reason
    return priced.spent


def _plan(prices: Prices, tree: ClusterTree, before: float) -> Plan:
    settings = prices.settings
    return build_plan(
        settings.search,
        tree,
        prices.full_samples,
        batch_size=settings.alignment.batch_size,
        seed=settings.seed,
        spent_seconds=before,
    )


def _tree(prices: Prices, grid: Grid) -> ClusterTree:
    """The pool in clusters, by the similarities of a drawn one."""
    settings, pool = prices.settings.search, prices.settings.models()
    names = pool.encoder_names, pool.llm_names
    share = prices.settings.representation.warmup_samples / prices.full_samples
    compared = compared_models(settings, len(names[0]), len(names[1]), warmup_share=share)
    if not compared.encoders:
        return ClusterTree.flat(*names)
    place = dict(zip(names[0], grid.encoders, strict=True))
    return cluster_pool(
        *names,
        grid.similarity_of_encoders(),
        (lambda encoder: grid.similarity_of_llms(place[encoder])) if compared.llms else None,
        vision_threshold=settings.vision_threshold,
        llm_threshold=settings.llm_threshold,
        linkage=settings.linkage,
        least=LEAST_CKA,
        one_medoid=not METHODS[settings.method].needs_clusters,
    )


def _compare(prices: Prices, tree: ClusterTree, spent: Spent) -> None:
    """What the comparison of the models takes."""
    if tree.thresholds is None:
        return
    images = prices.settings.representation.images
    warm = prices.settings.representation.warmup_samples
    for encoder in tree.vision_encoders:
        first = next(c for c in tree.candidates if c.vision_encoder == encoder)
        spent.features += images * prices.of[first].image
    for medoid in tree.thresholds.llms:
        for llm in tree.llms:
            price = prices.of[Candidate(medoid, llm)]
            spent.features += images * price.feed
            spent.warmup += price.load + warm * price.warm
        spent.warmup += warm * price.encode


def _places(prices: Prices) -> dict[Candidate, tuple[int, int]]:
    pool = prices.settings.models()
    return {
        Candidate(encoder, llm): (v, m)
        for v, encoder in enumerate(pool.encoder_names)
        for m, llm in enumerate(pool.llm_names)
    }


def _mean(spent: list[Spent], rungs: tuple[int, ...]) -> Spent:
    """Mean of what several searches take; the most frequent reason of their ends."""
    count = len(spent)
    reasons = [one.reason for one in spent]
    mean = Spent(
        sum(one.features for one in spent) / count,
        sum(one.warmup for one in spent) / count,
        candidates=round(sum(one.candidates for one in spent) / count),
        checkpoints=round(sum(one.checkpoints for one in spent) / count),
        reason=max(reasons, key=reasons.count),
    )
    for rung in rungs:
        found = [one.rungs[rung] for one in spent]
        mean.rungs[rung] = Rung(
            *(
                sum(getattr(one, name) for one in found) / count
                for name in ("candidates", "train", "score", "samples_trained", "documents")
            )
        )
    return mean
