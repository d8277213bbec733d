"""The quick start's scenes: one to three coloured shapes on a 2 x 2 board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from mordal_optuna.zoo.drawing.pictures import COLORS as PICTURE_COLORS
from mordal_optuna.zoo.drawing.pictures import Mark

if TYPE_CHECKING:
    import numpy as np

COLORS = {
    name: PICTURE_COLORS[name] for name in ("red", "green", "blue", "yellow", "purple", "white")
}
SHAPES = ("circle", "square", "triangle", "cross")
PLACES = ("northwest", "northeast", "southwest", "southeast")
NUMBERS = ("zero", "one", "two", "three")
MOST_THINGS = 3

# Cells per side of the board.
CELLS = 2

# Drawn four times as large and scaled down, so that edges are smooth.
_OVERSAMPLING = 4


@dataclass(frozen=True)
class Thing:
    """One shape on the board."""

    color: str
    shape: str
    place: str

    def __str__(self) -> str:
        """The words of a caption."""
        return f"{self.color} {self.shape} {self.place}"


@dataclass(frozen=True)
class Scene:
    """A board.

    Attributes:
        things: shapes in reading order.
        background: grey level, 0..255.
    """

    things: tuple[Thing, ...]
    background: int

    def describe(self) -> str:
        """The scene in words."""
        return ", ".join(str(thing) for thing in self.things)

    def marks(self) -> tuple[Mark, ...]:
        """One mark per thing: colour, shape and place; the box is the thing's cell."""
        return tuple(_mark(thing) for thing in self.things)


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene of one to three things that differ in shape, in colour and in place."""
    count = int(rng.integers(1, MOST_THINGS + 1))
    places = sorted(rng.choice(len(PLACES), count, replace=False).tolist())
    colors = rng.choice(list(COLORS), count, replace=False).tolist()
    shapes = rng.choice(SHAPES, count, replace=False).tolist()
    things = tuple(
        Thing(color, shape, PLACES[place])
        for color, shape, place in zip(colors, shapes, places, strict=True)
    )
    return Scene(things, int(rng.integers(0, 90)))


def rearranged(scene: Scene, rng: np.random.Generator) -> Scene:
    """A scene with the same colours and redrawn shapes and places."""
    count = len(scene.things)
    places = sorted(rng.choice(len(PLACES), count, replace=False).tolist())
    shapes = rng.choice(SHAPES, count, replace=False).tolist()
    order = rng.permutation(count).tolist()
    things = tuple(
        Thing(scene.things[n].color, shape, PLACES[place])
        for n, shape, place in zip(order, shapes, places, strict=True)
    )
    return Scene(things, scene.background)


def draw(scene: Scene, size: int, rng: np.random.Generator) -> Image.Image:
    """Draw a scene; sizes and offsets from the cells' centres are random.

    Args:
        scene: scene to draw.
        size: side of the image in pixels.
        rng: random generator for offsets and sizes.

    Returns:
        An RGB image of size x size pixels.
    """
    big = size * _OVERSAMPLING
    image = Image.new("RGB", (big, big), (scene.background,) * 3)
    pen = ImageDraw.Draw(image)
    cell = big / CELLS
    for thing in scene.things:
        row, column = divmod(PLACES.index(thing.place), CELLS)
        radius = cell * rng.uniform(0.38, 0.46)
        slack = cell / 2 - radius
        x = (column + 0.5) * cell + rng.uniform(-slack, slack)
        y = (row + 0.5) * cell + rng.uniform(-slack, slack)
        _draw_thing(pen, thing, x, y, radius)
    return image.resize((size, size), Image.Resampling.BOX)


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, x: float, y: float, r: float) -> None:
    color = COLORS[thing.color]
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
    elif thing.shape == "square":
        side = 0.85 * r
        pen.rectangle((x - side, y - side, x + side, y + side), fill=color)
    elif thing.shape == "triangle":
        pen.polygon([(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)], fill=color)
    else:
        bar = r / 3
        pen.rectangle((x - r, y - bar, x + r, y + bar), fill=color)
        pen.rectangle((x - bar, y - r, x + bar, y + r), fill=color)


def _mark(thing: Thing) -> Mark:
    row, column = divmod(PLACES.index(thing.place), CELLS)
    box = (column / CELLS, row / CELLS, (column + 1) / CELLS, (row + 1) / CELLS)
    return Mark(str(thing), (thing.color, thing.shape, thing.place), box)
