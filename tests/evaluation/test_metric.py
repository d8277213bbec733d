"""The declared metric: its key without the filter, and its bounds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mordal_optuna.evaluation.metric import MetricSpec


def test_the_documents_key_is_the_metric_without_the_filter() -> None:
    assert MetricSpec(metric="exact_match,flexible-extract").document_key == "exact_match"


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "exact_match"},
        {"metric": "a,b,c"},
        {"scale": 0},
        {"chance": 1.0},
        {"chance": -0.1},
        {"chanse": 0.5},
    ],
)
def test_values_outside_their_documented_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MetricSpec(**{"metric": "exact_match,none", **options})
