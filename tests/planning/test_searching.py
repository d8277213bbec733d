"""The forecast runs the study's own plan; a method whose jobs are known is forecast exactly."""

from __future__ import annotations

from typing import Any

import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.planning.plan import second_page
from mordal_optuna.planning.searching import forecast
from tests.planning.studies import planned


def with_method(content: dict[str, Any], **search: Any) -> dict[str, Any]:  # noqa: ANN401
    return {**content, "search": search}


def test_the_grid_trains_every_pair_fully(study_content: dict[str, Any]) -> None:
    """Samples, documents, rungs and the price of the grid."""
    content = with_method(study_content, method="grid", first_ratio=1.0, max_ratio=1.0)
    found = planned(content)[1].forecast
    assert found
    assert found.rungs == (64,)
    rung = found.mean.rungs[64]
    assert (rung.candidates, rung.samples_trained, rung.documents) == (4, 256, 64)
    assert (found.mean.features, found.mean.warmup) == (0, 0)
    assert found.low == pytest.approx(found.high)
    assert found.mean.total == pytest.approx(found.grid)
    assert found.full_runs == pytest.approx(4)


def test_lower_rungs_are_prefixes(study_content: dict[str, Any]) -> None:
    """All pairs at a quarter, then one fully: training goes on from its checkpoint."""
    content = with_method(
        study_content, method="all-at-ratio", first_ratio=0.25, max_ratio=0.25, fit_points=2
    )
    found = planned(content)[1].forecast
    assert found
    counts = {samples: rung.samples_trained for samples, rung in found.mean.rungs.items()}
    assert counts == {16: 64, 64: 48}
    assert found.mean.candidates == 4


def test_a_comparison_is_paid_before(study_content: dict[str, Any]) -> None:
    found = planned(study_content)[1].forecast
    assert found
    assert found.mean.features > 0
    assert found.mean.warmup > 0
    assert found.low <= found.mean.total <= found.high


def test_features_are_computed_once_for_an_encoder(study_content: dict[str, Any]) -> None:
    """Without a cache every pair pays for them."""
    content = with_method(study_content, method="grid", first_ratio=1.0, max_ratio=1.0)
    cached, second = planned(content)
    plain = parse_study({**content, "runtime": {"device": "cpu", "feature_cache_gb": 0}})
    without = second_page(
        type(cached)(**{**vars(cached), "settings": plain}), second.device
    ).forecast
    assert second.prices
    assert second.forecast
    assert without
    price = next(iter(second.prices.of.values()))
    # Two encoders with two LLMs each: half of the features are saved.
    saved = without.mean.total - second.forecast.mean.total
    assert saved == pytest.approx(2 * 64 * price.encode, rel=0.05)


def test_the_number_of_pools_decides_the_range(study_content: dict[str, Any]) -> None:
    prices = planned(study_content)[1].prices
    assert prices
    one = forecast(prices, pools=1)
    assert one.low == one.high == pytest.approx(one.mean.total)
