"""Bar charts: heights show values."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.zoo.drawing.charts import FEWEST_BARS, MOST_BARS, VALUES, Chart, random_chart
from mordal_optuna.zoo.drawing.pictures import COLORS


@pytest.mark.parametrize("numbered", [True, False])
def test_heights_are_proportional_to_values(numbered: bool) -> None:  # noqa: FBT001
    chart = Chart((("red", 20), ("blue", 80)), numbered, paper=255)
    pixels = np.asarray(chart.draw(np.random.default_rng(0))).astype(int)
    heights = []
    for color, _ in chart.bars:
        near = np.abs(pixels - COLORS[color]).sum(axis=-1) < 60
        heights.append(near.sum(axis=0).max())
    assert heights[1] / heights[0] == pytest.approx(4, rel=0.15)


def test_colours_and_values_differ_and_no_bar_is_white() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        colors, values = zip(*random_chart(rng).bars, strict=True)
        assert FEWEST_BARS <= len(set(colors)) == len(colors) <= MOST_BARS
        assert len(set(values)) == len(values)
        assert set(values) <= set(VALUES)
        assert "white" not in colors
