"""The start of a search: a balanced incomplete design over encoders and LLMs.

Symbols:
    M, L   number of encoders, number of LLMs
    k      pairs of the start with each model of the larger side
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.pool import Candidate

if TYPE_CHECKING:
    from collections.abc import Sequence


def balanced_start(
    encoders: Sequence[str], llms: Sequence[str], k: int, *, seed: int = 0
) -> tuple[Candidate, ...]:
    """Pairs such that every model occurs, and all models of a side about equally often.

    Both sides are shuffled. In each of k repetitions every model of the larger side gets a partner
    that it has not had, the one with the fewest pairs so far, counted around from its last one.
    With k of 2 or more all models are connected, directly or through others, so that any two
    encoders, and any two LLMs, can be compared.

    Args:
        encoders: names, M entries, at least one.
        llms: names, L entries, at least one.
        k: pairs of each model of the larger side, at least 1; at most the size of the smaller
            side, above which every pair of the pool is in the start.
        seed: random seed of the order.

    Returns:
        min(k, min(M, L)) max(M, L) different pairs. The first max(M, L) of them contain every
        model.
    """
    rng = np.random.default_rng(seed)
    rows = [encoders[i] for i in rng.permutation(len(encoders))]
    columns = [llms[j] for j in rng.permutation(len(llms))]
    swapped = len(rows) < len(columns)
    larger, smaller = (columns, rows) if swapped else (rows, columns)
    pairs: list[tuple[str, str]] = []
    used = [0] * len(smaller)
    last = [t - 1 for t in range(len(larger))]
    had: list[set[int]] = [set() for _ in larger]
    for _ in range(min(k, len(smaller))):
        for t, model in enumerate(larger):
            around = ((last[t] + 1 + step) % len(smaller) for step in range(len(smaller)))
            partner = min((n for n in around if n not in had[t]), key=used.__getitem__)
            used[partner] += 1
            had[t].add(partner)
            last[t] = partner
            pairs.append((model, smaller[partner]))
    return tuple(Candidate(*(reversed(p) if swapped else p)) for p in pairs)
