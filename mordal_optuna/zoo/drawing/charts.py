"""Bar charts: coloured bars with their values above them, or with grid lines to read them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.zoo.drawing.pictures import COLORS, SIZE, Canvas, Mark

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FEWEST_BARS, MOST_BARS = 2, 4
VALUES = tuple(range(10, 100, 10))

_INK = (20, 20, 20)
_LINE = (170, 170, 170)
# Pixels per unit of value; distance of the base line from the top in pixels.
_UNIT = 0.56
_GROUND = 68.0
# Width and height of a number in pixels; numbers are placed at multiples of it.
_NUMBER = 12


@dataclass(frozen=True)
class Chart:
    """A bar chart; colours and values differ within a chart.

    Attributes:
        bars: 2 to 4 pairs of colour and value, from left to right.
        numbered: whether values are printed above the bars; if not, grid lines are drawn at 20,
            40, 60 and 80.
        paper: grey level of the background, 0..255.
    """

    bars: tuple[tuple[str, int], ...]
    numbered: bool
    paper: int

    def marks(self) -> tuple[Mark, ...]:
        """One mark per bar: the colour, and the value digit by digit."""
        width = 1 / len(self.bars)
        return tuple(
            Mark(f"{color} {value}", (color, *str(value)), (n * width, 0.0, (n + 1) * width, 1.0))
            for n, (color, value) in enumerate(self.bars)
        )

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """Draw the bars, with random widths, on a common base line."""
        canvas = Canvas(self.paper)
        if not self.numbered:
            for value in (20, 40, 60, 80):
                y = _GROUND - value * _UNIT
                canvas.bar((0, y, SIZE, y + 0.5), _LINE)
        slot = SIZE / len(self.bars)
        for number, (color, value) in enumerate(self.bars):
            middle = (number + 0.5) * slot + rng.uniform(-1, 1)
            half = slot * rng.uniform(0.28, 0.38)
            top = _GROUND - value * _UNIT
            canvas.bar((middle - half, top, middle + half, _GROUND), COLORS[color])
            if self.numbered:
                x = _NUMBER * round((middle - _NUMBER / 2) / _NUMBER)
                canvas.text(x, _NUMBER * ((top - _NUMBER) // _NUMBER), str(value), _INK)
        canvas.bar((0, _GROUND, SIZE, _GROUND + 1), _INK)
        return canvas.finish()


def random_chart(rng: np.random.Generator) -> Chart:
    """A random chart; no bar is white, since it would not be visible."""
    count = int(rng.integers(FEWEST_BARS, MOST_BARS + 1))
    colors = rng.choice([c for c in COLORS if c != "white"], count, replace=False).tolist()
    values = rng.choice(VALUES, count, replace=False).tolist()
    bars = tuple(zip(colors, values, strict=True))
    return Chart(bars, bool(rng.random() < 0.6), int(rng.integers(225, 256)))
