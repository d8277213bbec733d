"""Arrays on disk: found by what shapes them, with what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mordal_optuna.representation.cache import Computed, ComputedStore, images_digest

if TYPE_CHECKING:
    from pathlib import Path

ONES = Computed({"features": np.ones((4, 3))}, {"warmup": 2.0, "features": 1.0})


def test_what_is_kept_is_found_with_its_cost(tmp_path: Path) -> None:
    store = ComputedStore(tmp_path / "features")
    assert store.get({"encoder": "clip"}) is None
    store.put({"encoder": "clip"}, ONES)
    found = store.get({"encoder": "clip"})
    assert found
    assert np.array_equal(found.arrays["features"], ONES.arrays["features"])
    assert found.seconds == ONES.seconds
    assert store.get({"encoder": "siglip"}) is None


def test_a_file_that_was_cut_off_is_not_found(tmp_path: Path) -> None:
    store = ComputedStore(tmp_path)
    store.put({}, ONES)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert store.get({}) is None


def test_the_digest_is_of_pixels_and_sizes() -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert images_digest([red, blue]) == images_digest([red.copy(), blue.copy()])
    assert images_digest([red, blue]) != images_digest([blue, red])
    flat, tall = Image.new("RGB", (8, 2), "red"), Image.new("RGB", (2, 8), "red")
    assert images_digest([flat]) != images_digest([tall])
