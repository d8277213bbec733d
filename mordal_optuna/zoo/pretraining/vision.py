"""Pixels, labels and losses of all encoders' pretraining."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy, logsigmoid

from mordal_optuna.zoo.drawing.pictures import MOST_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.zoo.drawing.pictures import Mark

# CLIP's normalisation, used for all families.
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTH = 32
EMBEDDING = 64
# Special words of the vocabularies, with ids 0, 1 and 2.
SPECIAL_WORDS = ("<pad>", "<s>", "</s>")
_MASKED_SHARE = 0.4


def as_pixels(images: Sequence[Image.Image], size: int) -> torch.Tensor:
    """Images as encoder input: resized and normalised, images x 3 x size x size."""
    resized = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]
    values = torch.from_numpy(np.stack([np.asarray(image) for image in resized]))
    scaled = values.permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (scaled - mean) / std


def caption_ids(
    marks: Sequence[Sequence[Mark]], index: Mapping[str, int], length: int
) -> torch.Tensor:
    """Captions as word ids, pictures x length, padded with 0.

    Args:
        marks: marks of each picture.
        index: id of each word.
        length: number of words per caption, with start and end; longer captions are cut.
    """
    ids = torch.zeros(len(marks), length, dtype=torch.long)
    for row, picture in enumerate(marks):
        words = [word for mark in picture for word in mark.words][: length - 2]
        caption = [index[word] for word in ("<s>", *words, "</s>")]
        ids[row, : len(caption)] = torch.tensor(caption)
    return ids


def located_words(
    marks: Sequence[Sequence[Mark]], index: Mapping[str, int], side: int
) -> torch.Tensor:
    """Ids of the words of the mark that contains a patch's centre.

    Args:
        marks: marks of each picture.
        index: id of each word.
        side: number of patches per side.

    Returns:
        Pictures x patches x `MOST_WORDS`; 0 where no mark is, and after a mark's last word.
    """
    words = torch.zeros(len(marks), side, side, MOST_WORDS, dtype=torch.long)
    centres = (np.arange(side) + 0.5) / side
    for row, picture in enumerate(marks):
        for mark in picture:
            left, top, right, bottom = mark.box
            across = np.flatnonzero((centres >= left) & (centres < right))
            down = np.flatnonzero((centres >= top) & (centres < bottom))
            if not len(across) or not len(down):
                continue
            ids = [index[word] for word in mark.words]
            area = words[row, down[0] : down[-1] + 1, across[0] : across[-1] + 1]
            area[..., : len(ids)] = torch.tensor(ids)
    return words.flatten(1, 2)


def naming_loss(
    head: torch.nn.Module, patches: torch.Tensor, words: torch.Tensor, vocabulary: int
) -> torch.Tensor:
    """Mean cross entropy of the words that patches predict (LocCa, Wan 2024).

    Args:
        head: maps a patch feature to `MOST_WORDS` x vocabulary logits.
        patches: patch features, pictures x patches x width.
        words: word ids from `located_words`.
        vocabulary: number of words.
    """
    named = head(patches).unflatten(-1, (MOST_WORDS, vocabulary))
    return cross_entropy(named.flatten(0, 2), words.flatten())


def contrastive_loss(logits: torch.Tensor) -> torch.Tensor:
    """CLIP's softmax loss (Radford 2021) of pictures x captions logits; pairs on the diagonal."""
    target = torch.arange(len(logits))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def sigmoid_loss(logits: torch.Tensor) -> torch.Tensor:
    """SigLIP's loss (Zhai 2023) of pictures x captions logits; pairs on the diagonal."""
    sign = 2 * torch.eye(len(logits)) - 1
    return -logsigmoid(sign * logits).sum() / len(logits)


def masked_patch_loss(
    tower: Any, head: torch.nn.Module, pixels: torch.Tensor, patch_size: int
) -> torch.Tensor:
    """Mean squared error of the pixels of masked patches (SimMIM, Xie 2022).

    Args:
        tower: encoder that accepts `bool_masked_pos`.
        head: maps a patch feature to 3 x patch_size x patch_size pixel values.
        pixels: pictures x 3 x size x size.
        patch_size: side of a patch in pixels.
    """
    patches = torch.nn.functional.unfold(pixels, patch_size, stride=patch_size).transpose(1, 2)
    masked = torch.rand(patches.shape[:2]) < _MASKED_SHARE
    hidden = tower(pixel_values=pixels, bool_masked_pos=masked).last_hidden_state
    predicted = head(hidden[:, -patches.shape[1] :][masked])
    return ((predicted - patches[masked]) ** 2).mean()
