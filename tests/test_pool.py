"""The pool: candidates are all pairs, encoder by encoder."""

from __future__ import annotations

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
