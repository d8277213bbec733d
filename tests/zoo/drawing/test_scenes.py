"""Scenes at nine places, and photos."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.zoo.drawing.pictures import COLORS, SIZE
from mordal_optuna.zoo.drawing.scenes import (
    FEWEST_THINGS,
    MOST_THINGS,
    UNCLEAR,
    Photo,
    Scene,
    Thing,
    random_photo,
    random_scene,
)


def test_shapes_and_places_differ_within_a_scene() -> None:
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(200):
        things = random_scene(rng).things
        counts.add(len(things))
        assert len({thing.shape for thing in things}) == len(things)
        assert [thing.place for thing in things] == sorted({thing.place for thing in things})
    assert counts == set(range(FEWEST_THINGS, MOST_THINGS + 1))


@pytest.mark.parametrize("place", range(9))
def test_a_thing_is_drawn_at_its_place_in_its_colour(place: int) -> None:
    scene = Scene((Thing("red", "square", place),), background=0)
    pixels = np.asarray(scene.draw(np.random.default_rng(0))).astype(int)
    red = pixels[..., 0] > 150
    assert (np.argwhere(red).mean(axis=0) // (SIZE / 3) == divmod(place, 3)).all()
    assert tuple(np.median(pixels[red], axis=0)) == COLORS["red"]


def test_a_photo_becomes_unclear_with_the_strength_of_its_fault() -> None:
    thing = Thing("red", "star", 4)
    doubts = [Photo(thing, 0, "blur", strength).doubt for strength in (0.0, 0.4, 0.6, 1.0)]
    assert doubts == sorted(doubts)
    assert (doubts[0], doubts[-1]) == (0.0, 1.0)
    assert Photo(thing, 0, "none", 1.0).doubt == 0.0
    assert Photo(None, 0, "none", 0.0).marks()[0].words == (UNCLEAR,)
    assert Photo(thing, 0, "dark", 0.9).marks()[0].words == (UNCLEAR,)
    assert Photo(thing, 0, "dark", 0.1).marks()[0].words == ("red", "star", "center")


def test_half_of_the_photos_have_no_fault() -> None:
    rng = np.random.default_rng(0)
    photos = [random_photo(rng) for _ in range(400)]
    clear = sum(photo.fault == "none" and photo.thing is not None for photo in photos)
    assert clear / len(photos) == pytest.approx(0.5, abs=0.07)
