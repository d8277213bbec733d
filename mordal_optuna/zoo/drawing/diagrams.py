"""Diagrams: a chain of shapes, each with a letter beside it, connected by arrows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.zoo.drawing.pictures import PLACES, SHAPES, SIZE, Canvas, Mark, cell_box

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

LABELS = ("K", "M", "P", "R", "T", "W")
FEWEST_NODES, MOST_NODES = 3, 4
# Word used as the next letter of the last node, which has no arrow.
END = "end"

_INK = (20, 20, 20)
_FILL = (90, 120, 170)
# The outer places in circular order; the middle stays free, so that arrows cross no third node.
_RING = (0, 1, 2, 5, 8, 7, 6, 3)


@dataclass(frozen=True)
class Node:
    """A shape with its letter; `place` is an index into `PLACES`."""

    shape: str
    label: str
    place: int


@dataclass(frozen=True)
class Diagram:
    """A diagram; shapes, letters and places of its nodes differ.

    Attributes:
        nodes: 3 or 4 nodes around the middle, in the order of the arrows.
        paper: grey level of the background, 0..255.
    """

    nodes: tuple[Node, ...]
    paper: int

    def marks(self) -> tuple[Mark, ...]:
        """One mark per node: shape, letter, and the letter that its arrow points to."""
        following = [*(node.label for node in self.nodes[1:]), END]
        return tuple(
            Mark(
                f"{node.shape} {node.label} {after}",
                (node.shape, node.label, after),
                cell_box(node.place),
            )
            for node, after in zip(self.nodes, following, strict=True)
        )

    def draw(self, rng: np.random.Generator) -> Image.Image:
        """Draw arrows first, then shapes and letters."""
        canvas = Canvas(self.paper)
        cell = SIZE / 3
        middles = []
        for node in self.nodes:
            row, column = divmod(node.place, 3)
            x, y = rng.uniform(-1, 1, 2)
            middles.append(((column + 0.5) * cell + x, (row + 0.5) * cell + y))
        for (x0, y0), (x1, y1) in zip(middles, middles[1:], strict=False):
            length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
            gap = 11 / length
            start = (x0 + (x1 - x0) * gap, y0 + (y1 - y0) * gap)
            end = (x1 - (x1 - x0) * gap, y1 - (y1 - y0) * gap)
            canvas.arrow(start, end, _INK)
        for node, (x, y) in zip(self.nodes, middles, strict=True):
            canvas.shape(node.shape, _FILL, x - 5, y, 6)
            row, column = divmod(node.place, 3)
            canvas.text((column + 0.5) * cell + 3, (row + 0.5) * cell, node.label, _INK)
        return canvas.finish()


def random_diagram(rng: np.random.Generator) -> Diagram:
    """A random chain of three or four nodes around the middle."""
    count = int(rng.integers(FEWEST_NODES, MOST_NODES + 1))
    start = int(rng.integers(len(_RING)))
    ring = [_RING[(start + 2 * n) % len(_RING)] for n in range(count)]
    if rng.random() < 0.5:
        ring.reverse()
    shapes = rng.choice(SHAPES, count, replace=False).tolist()
    labels = rng.choice(LABELS, count, replace=False).tolist()
    nodes = tuple(Node(*node) for node in zip(shapes, labels, ring, strict=True))
    assert all(0 <= node.place < len(PLACES) for node in nodes)
    return Diagram(nodes, int(rng.integers(215, 256)))
