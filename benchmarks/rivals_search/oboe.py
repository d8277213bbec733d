"""Like OBOE (Yang et al. 2019, arXiv 1808.03233) within one study: low rank, designed experiments.

OBOE predicts the errors of many models on a new data set from a few of them, by a low-rank
factorisation of errors on other data sets; which models to run is chosen by D-optimal experiment
design within the time. Here there are no other data sets (`oboe_tasks` has them). The matrix is
that of the study itself, encoders x LLMs x ratios, and both sides of the factorisation are learned
from it (`lowrank`), as TensorOboe (Yang et al. 2020) does for the parts of pipelines. The design
is therefore greedy and local: the next pair is the one that adds most to ln det M per second,
given the factors fitted so far. The rank is chosen by held-out pairs. Every pair of the design is
trained to one ratio and scored there. In the end the best predicted pair is trained fully, for
which the design leaves time; without a finish, the best predicted pair is the answer.

Symbols: those of `lowrank`, and
    R      ratio of the design
    D      samples of a full alignment
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rivals_search.designed import DesignedPlan
from benchmarks.rivals_search.lowrank import RUN_NOISE, Known, LowRank, fit_best_rank
from mordal_optuna.errors import SearchError
from mordal_optuna.search.jobs import Job
from mordal_optuna.search.joint.posterior import Posterior, independent_posterior
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mordal_optuna.search.budget import Budget
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History

    Floats = NDArray[np.float64]

# Share of the documents' variance in the noise, as in the package's model of all scores: compared
# pairs answer the same documents.
_SHARED = 0.58


class LowRankRanker(Ranker):
    """Ranks the pool by the low-rank model's prediction at r = 1."""

    def __init__(self, tree: ClusterTree, rungs: Sequence[int]) -> None:
        """Create a ranker.

        Args:
            tree: the pool.
            rungs: rungs that the plan scores, which are the ratios of the model; the last is D.
        """
        super().__init__(tree, rungs[-1])
        self._rungs = tuple(rungs)
        self._last: tuple[bytes, LowRank] | None = None

    def known(self, history: History) -> Known:
        """The entries that a history has measured."""
        encoder = {name: n for n, name in enumerate(self._tree.vision_encoders)}
        llm = {name: n for n, name in enumerate(self._tree.llms)}
        rung = {samples: n for n, samples in enumerate(self._rungs)}
        entries = [
            (encoder[c.vision_encoder], llm[c.llm], rung[m.samples], m)
            for c, record in history.candidates.items()
            for m in record.measurements
            if m.samples in rung
        ]
        places = np.array([entry[:3] for entry in entries], dtype=np.int64).reshape(-1, 3)
        noise = np.array([m.log_noise for *_, m in entries])
        return Known(
            (len(encoder), len(llm), len(rung)),
            np.log2(np.array(self._rungs) / self._rungs[-1]),
            places,
            np.array([m.log_error for *_, m in entries]),
            _SHARED * noise**2 + RUN_NOISE**2,
        )

    def model(self, history: History) -> LowRank:
        """The low-rank model of a history; the last one is kept, as a step asks for it often."""
        known = self.known(history)
        key = known.places.tobytes() + known.y.tobytes() + known.variance.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = key, fit_best_rank(known)
        return self._last[1]

    def posterior(self, history: History) -> Posterior:
        """Predictions at r = 1, with the uncertainty of the factors and of one run."""
        model = self.model(history)
        covariance = np.linalg.inv(information(model, self.known(history)))
        g = model.gradients(-1)
        variance = np.einsum("ijf,fh,ijh->ij", g, covariance, g, optimize=True) + RUN_NOISE**2
        mean, deviation = model.predicted[:, :, -1].ravel(), np.sqrt(variance).ravel()
        return independent_posterior(self._tree.candidates, mean.tolist(), deviation.tolist())


def information(model: LowRank, known: Known) -> Floats:
    """M, the information of the known entries about the free entries of A and B."""
    matrix = np.diag(model.prior_precision())
    for ratio in np.unique(known.places[:, 2]):
        at = known.places[:, 2] == ratio
        i, j = known.places[at, 0], known.places[at, 1]
        g = model.gradients(int(ratio))[i, j]
        matrix = matrix + g.T @ (g / known.variance[at, None])
    return matrix


class OboePlan(DesignedPlan):
    """Designed experiments at one ratio, then the best predicted pair fully."""

    def __init__(
        self,
        tree: ClusterTree,
        rungs: Sequence[int],
        *,
        ratios: Sequence[float],
        finish: bool = True,
        seed: int = 0,
        budget: Budget | None = None,
    ) -> None:
        """Create a plan.

        Args:
            tree: the pool.
            rungs: strictly ascending sample counts; the last is D.
            ratios: ratios at which a pair of the design is scored, ascending; the last is R.
                Each is that of a rung below D.
            finish: whether the best predicted pair is trained fully.
            seed: random seed of the order in which pairs of equal worth are taken.
            budget: limit of device time; None for no limit.

        Raises:
            SearchError: if the rungs do not ascend or a ratio has none.
        """
        scored = tuple(round(ratio * rungs[-1]) for ratio in ratios)
        if not scored or list(scored) != [rung for rung in rungs[:-1] if rung in scored]:
            raise SearchError(
                f"ratios: got {list(ratios)}; they must ascend, and each must be that of a rung "
                f"below a full alignment, of {list(rungs)} samples"
            )
        self._model = LowRankRanker(tree, (*scored, rungs[-1]))
        super().__init__(tree, rungs, self._model, finish=finish, seed=seed, budget=budget)
        self._scored = scored

    def design(self, history: History, seconds: float) -> Job | None:
        """The next rung of a pair that was begun, else of the one that adds most per second."""
        highest = self._scored[-1]
        for candidate, record in history.candidates.items():
            if 0 < record.top < highest and self.is_free(history, candidate, highest):
                return Job(candidate, next(n for n in self._scored if n > record.top), "design")
        known = self._model.known(history)
        model = self._model.model(history)
        covariance = np.linalg.inv(information(model, known))
        g = model.gradients(len(self._scored) - 1).reshape(len(self.candidates), -1)
        noise = float(np.mean(known.variance)) if len(known.y) else RUN_NOISE**2
        gain = np.log1p(np.einsum("nf,fh,nh->n", g, covariance, g, optimize=True) / noise)
        jobs = [
            (Job(self.candidates[n], highest, "design"), float(gain[n]))
            for n in self._order
            if self.is_free(history, self.candidates[n], highest)
        ]
        chosen = self.best_value(history, jobs, seconds)
        return Job(chosen.candidate, self._scored[0], "design") if chosen else None
