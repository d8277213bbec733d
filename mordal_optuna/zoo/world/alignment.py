"""The alignment set of the drawn world, in LLaVA's conversation format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.zoo.world.samples import pick, random_sample

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.world.recipe import WorldAlignment
    from mordal_optuna.zoo.world.samples import Sample


def write_alignment(recipe: WorldAlignment, folder: Path, *, seed: int, advance: Advance) -> None:
    """Write conversations on drawn pictures, all skills mixed, one set for all tasks.

    Args:
        recipe: of the set.
        folder: gets `alignment.json` and `images/`.
        seed: of pictures and questions.
        advance: is told of samples done.
    """
    rng = np.random.default_rng(seed)
    images = folder / "images"
    images.mkdir(parents=True)
    mixture = dict(recipe.mixture)
    records = []
    for number in range(recipe.samples):
        telling = bool(rng.random() < recipe.telling)
        sample = random_sample(pick(mixture, rng), recipe.turns, rng, telling=telling)
        names = []
        for place, picture in enumerate(sample.pictures):
            names.append(f"{number:06d}-{place}.png")
            picture.draw(rng).save(images / names[-1])
        records.append(_record(number, names, sample))
        advance(1)
    (folder / "alignment.json").write_text(json.dumps(records), encoding="utf-8")


def _record(number: int, names: list[str], sample: Sample) -> dict[str, Any]:
    turns = []
    marks = "<image>\n" * len(names)
    for turn in sample.turns:
        turns.append({"from": "human", "value": f"{marks}{turn.prompt}"})
        turns.append({"from": "gpt", "value": turn.answer})
        marks = ""
    image: str | list[str] = names[0] if len(names) == 1 else names
    return {"id": f"sample-{number:06d}", "image": image, "conversations": turns}
