"""The minigrid's alignment set, in LLaVA's conversation format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.pool.samples import pick, random_sample
from mordal_optuna.zoo.tasks.files import Conversation, write_conversations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.minigrid.pool.recipe import MinigridAlignment
    from mordal_optuna.progress import Advance


def write_alignment(
    recipe: MinigridAlignment, folder: Path, *, seed: int, advance: Advance
) -> None:
    """Write conversations about drawn pictures: one set for all tasks, with all skills mixed.

    Args:
        recipe: settings of the set.
        folder: receives `alignment.json` and the folder `images`.
        seed: random seed of pictures and questions.
        advance: callback that receives the number of samples just written.
    """
    write_conversations(folder, _conversations(recipe, np.random.default_rng(seed)), advance)


def _conversations(recipe: MinigridAlignment, rng: np.random.Generator) -> Iterator[Conversation]:
    mixture = dict(recipe.mixture)
    for number in range(recipe.samples):
        telling = bool(rng.random() < recipe.telling)
        sample = random_sample(pick(mixture, rng), recipe.turns, rng, telling=telling)
        images = {
            f"{number:06d}-{place}.png": picture.draw(rng)
            for place, picture in enumerate(sample.pictures)
        }
        turns = tuple((turn.prompt, turn.answer) for turn in sample.turns)
        yield Conversation(f"sample-{number:06d}", images, turns)
