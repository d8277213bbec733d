"""Draw the data of the example's benchmark: 60 road signs in `signs/test.parquet`.

    uv run python make_data.py

Any folder that `datasets.load_dataset` reads will do; yours has photographs.
"""

from __future__ import annotations

import random
from pathlib import Path

from datasets import Dataset
from PIL import Image, ImageDraw

COLORS = ("red", "blue", "green")
SIGNS = 30
SIDE = 64


def draw_sign(color: str, generator: random.Random) -> Image.Image:
    """A disc of one color at a random place on a grey road."""
    image = Image.new("RGB", (SIDE, SIDE), "lightgrey")
    left, top = generator.randint(2, SIDE // 2), generator.randint(2, SIDE // 2)
    ImageDraw.Draw(image).ellipse((left, top, left + SIDE // 3, top + SIDE // 3), fill=color)
    return image


def main() -> None:
    """Two photographs of each sign, which are no independent documents."""
    generator = random.Random(0)
    rows = []
    for sign in range(SIGNS):
        color = generator.choice(COLORS)
        for _ in range(2):
            image = draw_sign(color, generator)
            question = "What color is the sign?"
            rows.append({"image": image, "question": question, "answer": color, "sign": str(sign)})
    Path("signs").mkdir(exist_ok=True)
    Dataset.from_list(rows).to_parquet("signs/test.parquet")


if __name__ == "__main__":
    main()
