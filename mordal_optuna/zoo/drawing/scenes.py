"""Scenes of two to five coloured shapes at nine places, and degraded photos of a single shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PIL import ImageEnhance, ImageFilter

from mordal_optuna.zoo.drawing.pictures import (
    CELLS,
    COLORS,
    PLACES,
    SHAPES,
    SIZE,
    Canvas,
    Mark,
    cell_box,
)

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FEWEST_THINGS, MOST_THINGS = 2, 5
# Description of a photo in which nothing can be recognised.
UNCLEAR = "unclear"


@dataclass(frozen=True)
class Thing:
    """One shape; `place` is an index into `PLACES`."""

    color: str
    shape: str
    place: int


@dataclass(frozen=True)
class Scene:
    """A scene.

    Attributes:
        things: things in reading order; their shapes differ.
        background: grey level, 0..255.
    """

    things: tuple[Thing, ...]
    background: int

    def marks(self) -> tuple[Mark, ...]:
        """One mark per thing: colour, shape, place."""
        return tuple(_mark(thing) for thing in self.things)

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """Draw the scene; offsets and sizes vary too little to make shapes ambiguous."""
        canvas = Canvas(self.background)
        cell = SIZE / CELLS
        for thing in self.things:
            row, column = divmod(thing.place, CELLS)
            radius = cell * rng.uniform(0.40, 0.46)
            x = (column + 0.5) * cell + rng.uniform(-1, 1)
            y = (row + 0.5) * cell + rng.uniform(-1, 1)
            canvas.shape(thing.shape, COLORS[thing.color], x, y, radius)
        return canvas.finish()


@dataclass(frozen=True)
class Photo:
    """A single large thing, or nothing, photographed with a possible fault.

    Attributes:
        thing: thing in the photo; None for an empty photo.
        background: grey level, 0..255.
        fault: kind of degradation.
        strength: strength of the degradation, 0..1.
    """

    thing: Thing | None
    background: int
    fault: Literal["none", "blur", "dark"]
    strength: float

    @property
    def doubt(self) -> float:
        """Probability that a viewer cannot recognise the thing, 0..1."""
        if self.thing is None:
            return 1.0
        if self.fault == "none":
            return 0.0
        return min(1.0, max(0.0, (self.strength - 0.35) / 0.3))

    def marks(self) -> tuple[Mark, ...]:
        """One mark: the thing, or `UNCLEAR` where it cannot be recognised."""
        if self.thing is None or self.doubt >= 0.5:
            return (Mark(UNCLEAR, (UNCLEAR,), (0.0, 0.0, 1.0, 1.0)),)
        mark = _mark(self.thing)
        return (Mark(mark.text, mark.words, (0.2, 0.2, 0.8, 0.8)),)

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """Draw the thing near the middle, then blur or darken the photo."""
        canvas = Canvas(self.background)
        x, y = SIZE / 2 + rng.uniform(-8, 8, 2)
        if self.thing is not None:
            color = COLORS[self.thing.color]
            canvas.shape(self.thing.shape, color, x, y, SIZE * rng.uniform(0.2, 0.32))
        image = canvas.finish()
        if self.fault == "blur":
            image = image.filter(ImageFilter.GaussianBlur(16 * self.strength))
        elif self.fault == "dark":
            image = ImageEnhance.Brightness(image).enhance((1 - self.strength) ** 2)
        return image


def random_scene(rng: np.random.Generator, *, most: int = MOST_THINGS) -> Scene:
    """A random scene in which places and shapes differ; colours may repeat.

    Args:
        rng: random generator for the things.
        most: largest number of things.
    """
    count = int(rng.integers(FEWEST_THINGS, most + 1))
    places = sorted(rng.choice(len(PLACES), count, replace=False).tolist())
    shapes = rng.choice(SHAPES, count, replace=False).tolist()
    colors = rng.choice(list(COLORS), count).tolist()
    things = tuple(
        Thing(color, shape, place)
        for color, shape, place in zip(colors, shapes, places, strict=True)
    )
    return Scene(things, int(rng.integers(0, 90)))


def random_photo(rng: np.random.Generator) -> Photo:
    """A random photo: half of them clear, the others blurred, dark or empty."""
    color, shape = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES))
    thing = Thing(color, shape, PLACES.index("center"))
    background = int(rng.integers(0, 90))
    kind = int(rng.integers(10))
    if kind < 5:
        return Photo(thing, background, "none", 0.0)
    if kind < 9:
        return Photo(thing, background, "blur" if kind < 7 else "dark", float(rng.random()))
    return Photo(None, background, "none", 0.0)


def _mark(thing: Thing) -> Mark:
    words = (thing.color, thing.shape, PLACES[thing.place])
    return Mark(" ".join(words), words, cell_box(thing.place))
