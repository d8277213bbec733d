"""How many documents an early rung is scored on, so that its scores tell most for their cost.

Symbols:
    D, m   samples of a full alignment, and at the rung
    x      log2(m / D), at most 0
    N, n   documents of a task, and those that the rung is scored on
    T      number of tasks that are scored at the rung
    S      variance of the pairs' ln error at x without noise: sum s^2 exp(2 g x ln 2), with the
           medians of the joint model's prior, see `joint.effects`
    h      run noise, the median of its prior
    k / n  variance of ln error by n documents at an error of one half, k being the median of its
           prior
    R      S / (S + h^2 + k / n), the squared correlation of scores at x with the errors there
    a      cost of a document, in samples of alignment

A score tells of a pair's error at D in proportion to R, since the correlation of the errors at x
and at D depends on the pair alone: by R is decided who goes on. The score costs m + a T n. The
ratio R / (m + a T n) is largest at n = sqrt(k m / ((S + h^2) a T)), where its derivative is 0.
Later rungs cost more training, so they get more documents; with several tasks each gets fewer.
"""

from __future__ import annotations

import math

from mordal_optuna.search.bounds import require
from mordal_optuna.search.joint.effects import LN2, PRIOR, Hyperparameters

# a: a document costs one pass forward and a short answer, a sample also the pass backward. On the
# minigrid it was .33.
DOCUMENT_COST = 1 / 3


def early_documents(samples: int, full_samples: int, documents: int, tasks: int = 1) -> int:
    """Number of documents that a rung is scored on, n.

    Args:
        samples: m, at least 1.
        full_samples: D, at least m; there all documents are scored.
        documents: N, at least 1.
        tasks: T, at least 1.

    Raises:
        SearchError: if an argument is out of its range.
    """
    require(documents >= 1, "documents", documents, "at least 1")
    require(tasks >= 1, "tasks", tasks, "at least 1")
    require(1 <= samples <= full_samples, "samples", samples, f"from 1 to {full_samples}")
    if samples == full_samples:
        return documents
    prior = Hyperparameters.of(PRIOR.logs)
    growth = math.exp(2 * prior.growth * LN2 * math.log2(samples / full_samples))
    spread = sum(s**2 for s in prior.spreads) * growth + prior.noise**2
    best = math.sqrt(prior.shared * samples / (spread * DOCUMENT_COST * tasks))
    return min(documents, math.ceil(best))
