"""The pool: candidates are all pairs, encoder by encoder; names are unique."""

from __future__ import annotations

import pytest

from mordal_optuna.errors import ConfigError
from mordal_optuna.pool import Candidate, ModelSource, Pool


def test_candidates_are_all_pairs_in_order() -> None:
    pool = Pool(
        (ModelSource("v1", "a"), ModelSource("v2", "b")),
        (ModelSource("m1", "c"), ModelSource("m2", "d")),
    )
    shown = [str(candidate) for candidate in pool.candidates]
    assert shown == ["v1 + m1", "v1 + m2", "v2 + m1", "v2 + m2"]
    encoder, llm = pool.parts(Candidate("v2", "m1"))
    assert (encoder.location, llm.location) == ("b", "c")


def test_a_name_that_appears_twice_is_refused() -> None:
    """An encoder and an LLM may share a name."""
    twice = (ModelSource("a", "x"), ModelSource("a", "y"))
    with pytest.raises(ConfigError, match="pool.vision_encoders: got a, a; .* allowed once"):
        Pool(twice, (ModelSource("m", "z"),))
    with pytest.raises(ConfigError, match="pool.llms: got a, a; each name is allowed once"):
        Pool((ModelSource("a", "z"),), twice)
    assert Pool(twice[:1], twice[1:]).candidates == (Candidate("a", "a"),)


def test_parts_of_a_candidate_of_another_pool_are_refused() -> None:
    pool = Pool((ModelSource("v", "x"),), (ModelSource("m", "y"),))
    for stranger in (Candidate("w", "m"), Candidate("v", "n")):
        with pytest.raises(ConfigError, match=f"got {stranger.vision_encoder} .* pool has v, m"):
            pool.parts(stranger)
