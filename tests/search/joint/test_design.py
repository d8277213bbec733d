"""The balanced start."""

from __future__ import annotations

from collections import Counter

import pytest

from mordal_optuna.search.joint.design import balanced_start


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
def test_two_pairs_a_model_connect_the_whole_pool(sides: tuple[int, int]) -> None:
    pairs = balanced_start(names("v", sides[0]), names("m", sides[1]), 2)
    reached, open_ = {pairs[0][0]}, True
    while open_:
        grown = reached | {x for pair in pairs if reached & set(pair) for x in pair}
        open_, reached = len(grown) > len(reached), grown
    assert len(reached) == sum(sides)


def test_the_order_is_a_function_of_the_seed() -> None:
    sides = names("v", 6), names("m", 6)
    assert balanced_start(*sides, 2, seed=1) == balanced_start(*sides, 2, seed=1)
    assert balanced_start(*sides, 2, seed=1) != balanced_start(*sides, 2, seed=2)
