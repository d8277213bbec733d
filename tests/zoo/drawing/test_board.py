"""Scenes on the 2 x 2 board: things differ, and drawings show them."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.drawing.board import (
    COLORS,
    PLACES,
    SHAPES,
    Scene,
    Thing,
    draw,
    random_scene,
    rearranged,
)


def test_no_two_things_share_colour_shape_or_place() -> None:
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(200):
        scene = random_scene(rng)
        counts.add(len(scene.things))
        for values in zip(*((t.color, t.shape, t.place) for t in scene.things), strict=True):
            assert len(set(values)) == len(values)
    assert counts == {1, 2, 3}


def test_a_thing_is_drawn_at_its_place_in_its_colour() -> None:
    rng = np.random.default_rng(0)
    for place, (row, column) in zip(PLACES, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        scene = Scene((Thing("red", "square", place),), background=0)
        pixels = np.asarray(draw(scene, 48, rng)).astype(int)
        red = pixels[..., 0] > 150
        centre = np.argwhere(red).mean(axis=0)
        assert (centre // 24 == (row, column)).all()
        assert tuple(np.median(pixels[red], axis=0)) == COLORS["red"]


def test_shapes_look_different() -> None:
    sizes = set()
    for shape in SHAPES:
        scene = Scene((Thing("white", shape, "northwest"),), background=0)
        pixels = np.asarray(draw(scene, 96, np.random.default_rng(1)))
        sizes.add(int((pixels[..., 0] > 128).sum()))
    assert len(sizes) == len(SHAPES)


def test_rearranging_keeps_the_colours() -> None:
    rng = np.random.default_rng(2)
    scene = next(s for s in iter(lambda: random_scene(rng), None) if len(s.things) == 3)
    others = [rearranged(scene, rng) for _ in range(20)]
    colors = {thing.color for thing in scene.things}
    assert all({thing.color for thing in other.things} == colors for other in others)
    assert len({other.describe() for other in others}) > 10
