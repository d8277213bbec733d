"""Which models a search compares."""

from __future__ import annotations

import pytest

from mordal_optuna.search.methods.comparing import Compared, compared_models, compares_models
from tests.search.synthetic import settings


@pytest.mark.parametrize(
    ("method", "encoders", "llms"),
    [("mordal", True, True), ("cross", True, True), ("random", False, False)],
)
def test_methods_get_what_they_need(method: str, encoders: bool, llms: bool) -> None:  # noqa: FBT001
    options = settings(method)
    assert compared_models(options, 7, 7, warmup_share=0.1) == Compared(encoders, llms)
    assert compares_models(options) == encoders


def test_joint_compares_llms_where_it_is_cheap_against_the_start() -> None:
    """7 warm-ups at 8 % cost .56 full runs, the start 14 / 8 = 1.75; at 2 % they cost .14."""
    options = settings("joint", max_ratio=1.0)
    dear = compared_models(options, 7, 7, warmup_share=0.08)
    cheap = compared_models(options, 7, 7, warmup_share=0.02)
    assert (dear.encoders, dear.llms, cheap.encoders, cheap.llms) == (True, False, True, True)
    assert "0.56 full runs" in dear.reason
    assert "1.75" in dear.reason


@pytest.mark.parametrize(
    ("compare", "expected"),
    [("all", (True, True)), ("encoders", (True, False)), ("none", (False, False))],
)
def test_the_decision_can_be_told(compare: str, expected: tuple[bool, bool]) -> None:
    for method in ("joint", "mordal", "random"):
        options = settings(method, compare=compare)
        found = compared_models(options, 7, 7, warmup_share=0.0)
        assert (found.encoders, found.llms) == expected
        assert compares_models(options) == expected[0]
