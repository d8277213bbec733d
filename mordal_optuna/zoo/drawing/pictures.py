"""The common interface of drawn pictures: a canvas, and marks, which name the parts of a picture.

Pictures are drawn at twice their size and scaled down, so that edges are smooth. Text is drawn
last, in a bitmap font at its native size, so that letters stay sharp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    import numpy as np

# Side of a picture in pixels. Image processors resize it for encoders of other input sizes.
SIZE = 72
# Largest number of words in one mark.
MOST_WORDS = 3

COLORS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 40),
    "purple": (150, 60, 190),
    "white": (245, 245, 245),
    "orange": (240, 130, 30),
    "cyan": (60, 210, 220),
}
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
# Three rows of three, from the top left.
PLACES = (
    *("northwest", "north", "northeast"),
    *("west", "center", "east"),
    *("southwest", "south", "southeast"),
)
CELLS = 3

_OVERSAMPLING = 2

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """A part of a picture, with its name and position.

    Attributes:
        text: text of the mark in a description of the picture.
        words: words that an encoder may learn to predict for the mark, at most `MOST_WORDS`.
        box: left, top, right, bottom as shares of the picture's side, 0..1.
    """

    text: str
    words: tuple[str, ...]
    box: Box


class Picture(Protocol):
    """A picture that can be described and drawn."""

    def marks(self) -> tuple[Mark, ...]:
        """Marks of all parts, in reading order."""
        ...

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """Draw an RGB image of `SIZE` x `SIZE` pixels, with random offsets and sizes."""
        ...


def describe(picture: Picture) -> str:
    """Description of a picture: the texts of all marks."""
    return " ".join(f"{mark.text};" for mark in picture.marks())


def cell_box(place: int) -> Box:
    """Box of a place, given as an index into `PLACES`."""
    row, column = divmod(place, CELLS)
    return column / CELLS, row / CELLS, (column + 1) / CELLS, (row + 1) / CELLS


class Canvas:
    """A drawing surface; all lengths are in pixels of the finished picture."""

    def __init__(self, background: int | tuple[int, int, int]) -> None:
        """Create an empty canvas.

        Args:
            background: grey level or RGB colour, 0..255.
        """
        color = (background,) * 3 if isinstance(background, int) else background
        side = SIZE * _OVERSAMPLING
        self._image = Image.new("RGB", (side, side), color)
        self._pen = ImageDraw.Draw(self._image)
        self._texts: list[tuple[float, float, str, tuple[int, int, int]]] = []

    def shape(self, shape: str, color: tuple[int, int, int], x: float, y: float, r: float) -> None:
        """Draw one of `SHAPES` with centre (x, y) and radius r."""
        x, y, r = x * _OVERSAMPLING, y * _OVERSAMPLING, r * _OVERSAMPLING
        if shape == "circle":
            self._pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
        elif shape == "square":
            side = 0.85 * r
            self._pen.rectangle((x - side, y - side, x + side, y + side), fill=color)
        elif shape == "triangle":
            self._pen.polygon([(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)], fill=color)
        elif shape == "cross":
            bar = r / 3
            self._pen.rectangle((x - r, y - bar, x + r, y + bar), fill=color)
            self._pen.rectangle((x - bar, y - r, x + bar, y + r), fill=color)
        elif shape == "star":
            self._pen.polygon(_star(x, y, r), fill=color)
        else:
            width = max(2, round(r * 0.35))
            self._pen.ellipse((x - r, y - r, x + r, y + r), outline=color, width=width)

    def bar(self, box: Box, color: tuple[int, int, int]) -> None:
        """Draw a filled rectangle."""
        left, top, right, bottom = (v * _OVERSAMPLING for v in box)
        self._pen.rectangle((left, top, right, bottom), fill=color)

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], color: tuple[int, int, int]
    ) -> None:
        """Draw a line with an arrowhead at its end."""
        (x0, y0), (x1, y1) = ((x * _OVERSAMPLING, y * _OVERSAMPLING) for x, y in (start, end))
        self._pen.line((x0, y0, x1, y1), fill=color, width=_OVERSAMPLING)
        angle = math.atan2(y1 - y0, x1 - x0)
        head = 5 * _OVERSAMPLING
        sides = [
            (x1 - head * math.cos(angle + turn), y1 - head * math.sin(angle + turn))
            for turn in (-0.5, 0.5)
        ]
        self._pen.polygon([(x1, y1), *sides], fill=color)

    def text(self, x: float, y: float, text: str, color: tuple[int, int, int]) -> None:
        """Draw text in letters of 6 x 11 pixels, its top left corner at (x, y)."""
        self._texts.append((x, y, text, color))

    def finish(self) -> Image.Image:
        """The finished picture, `SIZE` x `SIZE` pixels."""
        image = self._image.resize((SIZE, SIZE), Image.Resampling.BOX)
        pen = ImageDraw.Draw(image)
        for x, y, text, color in self._texts:
            pen.text((round(x), round(y)), text, fill=color, font=_font())
        return image


@cache
def _font() -> ImageFont.ImageFont:
    return ImageFont.load_default_imagefont()


def _star(x: float, y: float, r: float) -> list[tuple[float, float]]:
    points = []
    for corner in range(10):
        reach = r if corner % 2 == 0 else 0.42 * r
        angle = math.pi * (corner / 5 - 0.5)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points
