"""The balanced start."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.joint.design import balanced_start, completed_start

if TYPE_CHECKING:
    from collections.abc import Sequence


def names(letter: str, count: int) -> list[str]:
    return [f"{letter}{n}" for n in range(count)]


@pytest.mark.parametrize("sides", [(7, 7), (3, 8), (8, 3), (4, 6), (2, 2), (1, 5), (9, 6)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_model_occurs_and_a_side_about_equally_often(sides: tuple[int, int], k: int) -> None:
    pairs = balanced_start(names("v", sides[0]), names("m", sides[1]), k, seed=3)
    assert len(set(pairs)) == len(pairs) == min(k, *sides) * max(sides)
    for side in (0, 1):
        counts = Counter(pair[side] for pair in pairs)
        assert len(counts) == sides[side]
        assert max(counts.values()) - min(counts.values()) <= 1
    first = pairs[: max(sides)]
    assert {p[0] for p in first} == set(names("v", sides[0]))
    assert {p[1] for p in first} == set(names("m", sides[1]))


@pytest.mark.parametrize("sides", [(7, 7), (3, 8), (8, 3), (4, 6), (9, 6), (2, 2)])
def reached(pairs: Sequence[Candidate]) -> set[str]:
    """Models that are connected to the first pair, directly or through others."""
    seen, open_ = {pairs[0][0]}, True
    while open_:
        grown = seen | {x for pair in pairs if seen & set(pair) for x in pair}
        open_, seen = len(grown) > len(seen), grown
    return seen


@pytest.mark.parametrize("sides", [(7, 7), (3, 8), (8, 3), (4, 6), (9, 6), (2, 2)])
def test_two_pairs_a_model_connect_the_whole_pool(sides: tuple[int, int]) -> None:
    pairs = balanced_start(names("v", sides[0]), names("m", sides[1]), 2)
    assert len(reached(pairs)) == sum(sides)


def test_the_order_is_a_function_of_the_seed() -> None:
    sides = names("v", 6), names("m", 6)
    assert balanced_start(*sides, 2, seed=1) == balanced_start(*sides, 2, seed=1)
    assert balanced_start(*sides, 2, seed=1) != balanced_start(*sides, 2, seed=2)


@pytest.mark.parametrize("sides", [(4, 4), (3, 8), (8, 3), (1, 5), (6, 5)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_start_is_completed_for_every_model_that_lacks_pairs(
    sides: tuple[int, int], k: int
) -> None:
    """Models are added on both sides, and the pairs of a removed model are of no use."""
    before = balanced_start(names("v", sides[0]), names("m", sides[1]), k, seed=1)
    held = {*before, Candidate("removed", "m0")}
    encoders, llms = names("v", sides[0] + 2), names("m", sides[1] + 1)
    assert completed_start(names("v", sides[0]), names("m", sides[1]), k, held) == ()
    added = completed_start(encoders, llms, k, held, seed=3)
    assert not held & set(added)
    assert len(set(added)) == len(added)
    pairs = [*before, *added]
    for side, models, others in ((0, encoders, llms), (1, llms, encoders)):
        counts = Counter(pair[side] for pair in pairs)
        assert min(counts[model] for model in models) >= min(k, len(others))
    assert added == completed_start(encoders, llms, k, sorted(held), seed=3)
    # Nothing more than the new models need, and old ones where new partners raise the bound.
    assert len(added) <= 3 * k + max(sides)


def test_one_new_model_costs_k_pairs_and_new_models_are_not_apart() -> None:
    before = balanced_start(names("v", 4), names("m", 4), 2)
    assert len(completed_start(names("v", 5), names("m", 4), 2, before)) == 2
    added = completed_start(names("v", 6), names("m", 6), 2, before)
    assert len(added) == 4 + 4 - sum(p[0] > "v3" and p[1] > "m3" for p in added)
    assert len(reached([*before, *added])) == 12
