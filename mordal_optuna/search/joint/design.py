"""The start of a search: a balanced incomplete design over encoders and LLMs.

Symbols:
    M, L   number of encoders, number of LLMs
    k      pairs of the start with each model of the larger side
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.pool import Candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


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


def completed_start(
    encoders: Sequence[str],
    llms: Sequence[str],
    k: int,
    held: Collection[Candidate],
    *,
    seed: int = 0,
) -> tuple[Candidate, ...]:
    """Pairs that a start lacks where some pairs of the pool are measured already.

    Each model in fewer than k pairs gets partners that it has not had, those with the fewest
    pairs first. A model without pairs begins with a partner that has one, so that it can be
    compared with the others. Both sides are shuffled.

    Args:
        encoders: names, at least one.
        llms: names, at least one.
        k: wanted pairs of each model, at least 1; at most as many as the other side has models.
        held: pairs that are measured already; those of other models are ignored.
        seed: random seed of the order.

    Returns:
        Different pairs, none of `held`; with those of `held`, every model is in at least k.
    """
    rng = np.random.default_rng(seed)
    rows = [encoders[i] for i in rng.permutation(len(encoders))]
    columns = [llms[j] for j in rng.permutation(len(llms))]
    taken = {c for c in held if c.vision_encoder in set(rows) and c.llm in set(columns)}
    counts = Counter((side, name) for c in taken for side, name in enumerate(c))
    added: list[Candidate] = []
    for side, models in sorted(enumerate((rows, columns)), key=lambda one: -len(one[1])):
        others = columns if side == 0 else rows
        wanted = min(k, len(others))
        for model in models:
            while counts[side, model] < wanted:
                pairs = [_pair(side, model, other) for other in others]
                free = [pair for pair in pairs if pair not in taken]
                # The first partner of a new model is one with pairs, so that no models are apart.
                first = not counts[side, model]
                uses = {p: counts[1 - side, p[1 - side]] for p in free}
                pair = min(free, key=lambda p: (first and not uses[p], uses[p]))
                taken.add(pair)
                added.append(pair)
                counts.update(enumerate(pair))
    return tuple(added)


def _pair(side: int, model: str, other: str) -> Candidate:
    """A pair of a model of one side, 0 for encoders, with a model of the other side."""
    return Candidate(model, other) if side == 0 else Candidate(other, model)
