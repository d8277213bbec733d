"""Labels and losses of pretraining."""

from __future__ import annotations

import numpy as np
import torch

from mordal_optuna.zoo.drawing.scenes import Scene, Thing
from mordal_optuna.zoo.pretraining.vision import (
    caption_ids,
    contrastive_loss,
    located_words,
    sigmoid_loss,
)

WORDS = ("<pad>", "red", "star", "northwest", "blue", "ring", "southeast")
INDEX = {word: number for number, word in enumerate(WORDS)}


def test_patches_are_named_after_the_mark_they_lie_in() -> None:
    scene = Scene((Thing("red", "star", 0), Thing("blue", "ring", 8)), 0)
    words = located_words([scene.marks()], INDEX, 6).view(6, 6, 3)
    assert [WORDS[n] for n in words[1, 1].tolist()] == ["red", "star", "northwest"]
    assert [WORDS[n] for n in words[5, 4].tolist()] == ["blue", "ring", "southeast"]
    assert int(words[2:4, 2:4].sum()) == 0
    assert np.count_nonzero(words.numpy()) == 2 * 4 * 3


def test_captions_have_start_and_end_and_are_cut() -> None:
    scene = Scene((Thing("red", "star", 0), Thing("blue", "ring", 8)), 0)
    index = INDEX | {"<s>": 7, "</s>": 8}
    assert caption_ids([scene.marks()], index, 9).tolist() == [[7, 1, 2, 3, 4, 5, 6, 8, 0]]
    assert caption_ids([scene.marks()], index, 5).tolist() == [[7, 1, 2, 3, 8]]


def test_matching_losses_are_small_where_pairs_match() -> None:
    right, wrong = 20 * torch.eye(3) - 10, 10 - 20 * torch.eye(3)
    for loss in (contrastive_loss, sigmoid_loss):
        assert float(loss(right)) < 0.01 < 10 < float(loss(wrong))
