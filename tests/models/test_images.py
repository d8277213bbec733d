"""Images: decoded to RGB from files and from encoded bytes; what cannot be decoded is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mordal_optuna.errors import DataError
from mordal_optuna.models.images import open_image

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_and_its_bytes_are_decoded_to_the_same_rgb_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (3, 2), (255, 0, 0, 128)).save(path)
    images = [open_image(path), open_image(path.read_bytes())]
    assert [(image.mode, image.size) for image in images] == [("RGB", (3, 2))] * 2
    assert images[0].tobytes() == images[1].tobytes()
    assert images[0].getpixel((0, 0)) == (255, 0, 0)


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50.0).save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"a\.png.*is no image that can be decoded"):
        open_image(path)
    with pytest.raises(DataError, match="'4 bytes': is no image that can be decoded"):
        open_image(b"text")
