"""A pool whose scores are at chance while its likelihoods improve."""

from __future__ import annotations

import numpy as np

from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History

TREE = ClusterTree.flat(["a"], ["x", "y", "z"])
# -ln p at 512 samples, and how fast it falls; errors are at chance while -ln p is above 1.
TRUTH = {"x": (2.0, 0.30), "y": (2.2, 0.45), "z": (1.9, 0.15)}
CHANCE = 0.75


def measured(llm: str, samples: int, rng: np.random.Generator) -> Measurement:
    """A score that is stuck at chance until the likelihood has fallen far enough."""
    level, slope = TRUTH[llm]
    nll = level * (samples / 512) ** -slope
    error = min(CHANCE, CHANCE * nll) + rng.normal(0, 0.02)
    return Measurement(samples, 1 - error, 0.02, 500, nll=nll, nll_stderr=0.02 * nll)


def chance_history(rungs: tuple[int, ...], **further: int) -> History:
    """Every pair scored at some rungs, and single pairs at one more."""
    rng = np.random.default_rng(0)
    return History(
        {
            c: CandidateHistory(
                tuple(measured(c.llm, n, rng) for n in (*rungs, *[further.get(c.llm, 0)]) if n)
            )
            for c in TREE.candidates
        }
    )
