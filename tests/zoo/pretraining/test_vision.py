"""Labels of patches in pretraining."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.drawing.scenes import Scene, Thing
from mordal_optuna.zoo.pretraining.vision import located_words

WORDS = ("<pad>", "red", "star", "northwest", "blue", "ring", "southeast")
INDEX = {word: number for number, word in enumerate(WORDS)}


def test_patches_are_named_after_the_mark_they_lie_in() -> None:
    scene = Scene((Thing("red", "star", 0), Thing("blue", "ring", 8)), 0)
    words = located_words([scene.marks()], INDEX, 6).view(6, 6, 3)
    assert [WORDS[n] for n in words[1, 1].tolist()] == ["red", "star", "northwest"]
    assert [WORDS[n] for n in words[5, 4].tolist()] == ["blue", "ring", "southeast"]
    assert int(words[2:4, 2:4].sum()) == 0
    assert np.count_nonzero(words.numpy()) == 2 * 4 * 3
