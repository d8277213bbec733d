"""Documents: forms of two to four lines, each with a field and its value, in a bitmap font."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.zoo.drawing.pictures import SIZE, Canvas, Mark

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NAMES = ("ann", "bob", "eve", "max", "tom", "zoe", "kim", "ray")
CITIES = ("rome", "oslo", "lima", "bern", "cairo", "delhi")
GOODS = ("pen", "cup", "hat", "bag", "map", "key")
MONTHS = ("jan", "mar", "may", "jul", "sep", "dec")
# Possible values of each field; None for a number of two digits.
FIELDS: dict[str, tuple[str, ...] | None] = {
    "from": NAMES,
    "to": NAMES,
    "city": CITIES,
    "item": GOODS,
    "date": MONTHS,
    "total": None,
    "paid": None,
}
FEWEST_LINES, MOST_LINES = 2, 4

# Height of a line in pixels. Lines begin at multiples of it, which is the width of two letters.
_ROW = 12
_FIRST_ROW = 1
# Width of a letter in pixels.
_LETTER = 6


@dataclass(frozen=True)
class Document:
    """A form.

    Attributes:
        lines: pairs of field and value from top to bottom; fields differ.
        paper: grey level of the background, 0..255.
        ink: grey level of the letters, 0..255.
    """

    lines: tuple[tuple[str, str], ...]
    paper: int
    ink: int

    def marks(self) -> tuple[Mark, ...]:
        """One mark per line: the field, and the value as a word or digit by digit."""
        return tuple(
            Mark(
                f"{field} {value}",
                (field, *(value if value.isdigit() else (value,))),
                (0.0, row * _ROW / SIZE, 1.0, (row + 1) * _ROW / SIZE),
            )
            for row, (field, value) in enumerate(self.lines, start=_FIRST_ROW)
        )

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """Draw the lines, each at a random distance from the left edge."""
        canvas = Canvas(self.paper)
        for row, (field, value) in enumerate(self.lines, start=_FIRST_ROW):
            text = f"{field} {value}"
            places = (SIZE - _LETTER * len(text)) // _ROW + 1
            x = _ROW * int(rng.integers(places))
            canvas.text(x, row * _ROW, text, (self.ink,) * 3)
        return canvas.finish()


def random_document(rng: np.random.Generator) -> Document:
    """A random form of two to four different fields."""
    count = int(rng.integers(FEWEST_LINES, MOST_LINES + 1))
    fields = rng.choice(list(FIELDS), count, replace=False).tolist()
    lines = tuple((field, _value(field, rng)) for field in fields)
    return Document(lines, int(rng.integers(215, 256)), int(rng.integers(0, 60)))


def _value(field: str, rng: np.random.Generator) -> str:
    words = FIELDS[field]
    return str(rng.integers(10, 100)) if words is None else str(rng.choice(words))
