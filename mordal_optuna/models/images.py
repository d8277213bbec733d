"""Images of samples: files, or encoded images in a dataset."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mordal_optuna.errors import DataError

# An image file, or an encoded image.
Picture = Path | bytes


def open_image(picture: Picture) -> Image.Image:
    """Decode an image to RGB.

    Args:
        picture: path of an image file, or content of one.

    Raises:
        DataError: if it cannot be decoded.
    """
    try:
        with Image.open(picture if isinstance(picture, Path) else io.BytesIO(picture)) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        name = str(picture) if isinstance(picture, Path) else f"{len(picture)} bytes"
        raise DataError(name, f"is no image that can be decoded ({error})") from error
