"""Pretraining of the vision encoders of the drawn world, by one of four targets.

`contrast` and `sigmoid` match pictures with their descriptions (Radford 2021, Zhai 2023), and
have every patch name the mark it lies in besides (LocCa, Wan 2024): a contrastive loss alone
reaches patch features only after far longer pretraining, and at full weight it keeps the naming
from being learned. `name` has patches name their marks
alone. `masked` predicts the pixels of masked patches (SimMIM, Xie 2022) and knows no words.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import (
    Aimv2VisionConfig,
    Aimv2VisionModel,
    BitImageProcessor,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextImageProcessor,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    InternVLVisionConfig,
    InternVLVisionModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from mordal_optuna.zoo.optim import Optimizer
from mordal_optuna.zoo.world.charts import random_chart
from mordal_optuna.zoo.world.diagrams import END, LABELS, random_diagram
from mordal_optuna.zoo.world.documents import FIELDS, random_document
from mordal_optuna.zoo.world.pictures import COLORS, MOST_WORDS, PLACES, SHAPES
from mordal_optuna.zoo.world.scenes import UNCLEAR, random_photo, random_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel
    from transformers.image_processing_utils import BaseImageProcessor

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.world.pictures import Picture
    from mordal_optuna.zoo.world.recipe import Kind, WorldEncoder

_MAKERS: dict[Kind, Callable[[np.random.Generator], Picture]] = {
    "scenes": random_scene,
    "photos": random_photo,
    "charts": random_chart,
    "documents": random_document,
    "diagrams": random_diagram,
}
_PAD = "<pad>"
WORDS = (
    *(_PAD, "<s>", "</s>", UNCLEAR, END, *COLORS, *SHAPES, *PLACES, *LABELS, *"0123456789"),
    *dict.fromkeys([*FIELDS, *(word for words in FIELDS.values() for word in words or ())]),
)
_INDEX = {word: number for number, word in enumerate(WORDS)}
_CAPTION_TOKENS = 18
_TEXT_LAYERS = 1
_EMBEDDING = 64
_HEAD_WIDTH = 32
_POSITION_SCALE = 0.3
_MASKED_SHARE = 0.4
# Of the loss by which pictures and descriptions are matched, beside that of naming.
_MATCHING_WEIGHT = {"contrast": 0.2, "sigmoid": 0.1}
# CLIP's normalisation, used for all families here.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class _Pretraining(torch.nn.Module):
    """An encoder with what it is pretrained with and is thrown away afterwards."""

    def __init__(self, recipe: WorldEncoder) -> None:
        super().__init__()
        self.tower = build_encoder(recipe)
        for name, parameter in self.tower.named_parameters():
            if (
                "position_embedding" in name
            ):  # as large as what patches give: places are seen sooner
                torch.nn.init.normal_(parameter, std=_POSITION_SCALE)
        self.family = recipe.family
        self.target = recipe.target
        self.patch_size = recipe.patch_size
        outputs = MOST_WORDS * (recipe.patch_size**2 if recipe.target == "masked" else len(WORDS))
        self.head = torch.nn.Linear(recipe.width, outputs)
        if recipe.target in ("contrast", "sigmoid"):
            self.text = _text_tower(recipe.width)
            self.projection = torch.nn.Linear(recipe.width, _EMBEDDING)
            self.scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
            self.bias = torch.nn.Parameter(torch.tensor(-10.0))

    def forward(self, pixels: torch.Tensor, pictures: Sequence[Picture]) -> torch.Tensor:
        """The loss."""
        if self.target == "masked":
            return self._masked(pixels)
        patches = self._patches(pixels)
        words = located_words(pictures, math.isqrt(patches.shape[1]))
        named = self.head(patches).unflatten(-1, (MOST_WORDS, len(WORDS)))
        loss = cross_entropy(named.flatten(0, 2), words.flatten())
        if self.target == "name":
            return loss
        return loss + _MATCHING_WEIGHT[self.target] * self._matching(patches, pictures)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.tower(pixel_values=pixels).last_hidden_state
        if hidden.ndim == 4:  # a feature map
            return hidden.flatten(2).transpose(1, 2)
        side = math.isqrt(hidden.shape[1])
        return hidden[:, -(side**2) :]

    def _matching(self, patches: torch.Tensor, pictures: Sequence[Picture]) -> torch.Tensor:
        ids = _captions(pictures)
        text = self.text(input_ids=ids, attention_mask=(ids != 0).long()).text_embeds
        image = self.projection(patches.mean(1))
        image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text))
        logits = self.scale.exp() * image @ text.T
        if self.target == "contrast":
            right = torch.arange(len(logits))
            return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
        sign = 2 * torch.eye(len(logits)) - 1
        return -logsigmoid(sign * (logits + self.bias)).sum() / len(logits)

    def _masked(self, pixels: torch.Tensor) -> torch.Tensor:
        size = self.patch_size
        patches = torch.nn.functional.unfold(pixels, size, stride=size).transpose(1, 2)
        masked = torch.rand(patches.shape[:2]) < _MASKED_SHARE
        hidden = self.tower(pixel_values=pixels, bool_masked_pos=masked).last_hidden_state
        seen = self.head(hidden[:, -patches.shape[1] :][masked])
        return ((seen - patches[masked]) ** 2).mean()


def pretrain_encoder(recipe: WorldEncoder, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an encoder and save its tower with its image processor, as on the hub.

    Uses torch's global random state: call it in a process of its own, or restore the state.

    Args:
        recipe: what to make.
        folder: where to save it.
        seed: of weights and pictures.
        advance: is told of steps done.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = _Pretraining(recipe)
    model.train()
    optimizer = Optimizer(model.named_parameters(), rate=recipe.learning_rate, steps=recipe.steps)
    for _ in range(recipe.steps):
        pictures = random_pictures(recipe, rng)
        drawn = [picture.draw(rng) for picture in pictures]
        model(as_pixels(drawn, recipe.image_size), pictures).backward()
        optimizer.step()
        advance(1)
    model.tower.save_pretrained(folder)
    _image_processor(recipe).save_pretrained(folder)


def random_pictures(recipe: WorldEncoder, rng: np.random.Generator) -> list[Picture]:
    """A batch of pictures, of the recipe's mixture of kinds."""
    kinds = [kind for kind, _ in recipe.mixture]
    shares = np.array([share for _, share in recipe.mixture])
    drawn = rng.choice(len(kinds), recipe.batch_size, p=shares / shares.sum())
    return [_MAKERS[kinds[number]](rng) for number in drawn.tolist()]


def build_encoder(recipe: WorldEncoder) -> PreTrainedModel:
    """An untrained vision tower of the recipe's family and size."""
    common = {"hidden_size": recipe.width, "num_hidden_layers": recipe.layers}
    common |= {"num_attention_heads": recipe.width // _HEAD_WIDTH}
    common |= {"image_size": recipe.image_size, "patch_size": recipe.patch_size}
    wide = {"intermediate_size": recipe.width * 4}
    if recipe.family == "clip":
        return CLIPVisionModel(CLIPVisionConfig(**common, **wide))
    if recipe.family == "siglip":
        return SiglipVisionModel(SiglipVisionConfig(**common, **wide, vision_use_head=False))
    if recipe.family == "dinov2":
        return Dinov2Model(Dinov2Config(**common, mlp_ratio=4))
    if recipe.family == "vit":
        return ViTModel(ViTConfig(**common, **wide))
    if recipe.family == "aimv2":
        config = Aimv2VisionConfig(**common, intermediate_size=recipe.width * 3, use_head=False)
        return Aimv2VisionModel(config)
    if recipe.family == "internvl":
        return InternVLVisionModel(InternVLVisionConfig(**common, **wide, use_qk_norm=True))
    # Stages that halve the map, until a feature stands for a patch; the last one is the widest.
    stages = int(math.log2(recipe.patch_size // 4)) + 1
    sizes = [max(16, recipe.width >> (stages - 1 - n)) for n in range(stages)]
    depths = [*[1] * (stages - 1), recipe.layers]
    return ConvNextModel(ConvNextConfig(num_stages=stages, hidden_sizes=sizes, depths=depths))


def as_pixels(images: Sequence[Image.Image], size: int) -> torch.Tensor:
    """Images as an encoder wants them: resized and normalised, images x 3 x size x size."""
    resized = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]
    values = torch.from_numpy(np.stack([np.asarray(image) for image in resized]))
    scaled = values.permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return (scaled - mean) / std


def located_words(pictures: Sequence[Picture], side: int) -> torch.Tensor:
    """The words of the mark in which a patch's middle lies: pictures x patches x `MOST_WORDS`.

    `<pad>` where there is none, and after a mark's last word.
    """
    words = torch.zeros(len(pictures), side, side, MOST_WORDS, dtype=torch.long)
    middles = (np.arange(side) + 0.5) / side
    for row, picture in enumerate(pictures):
        for mark in picture.marks():
            left, top, right, bottom = mark.box
            across = np.flatnonzero((middles >= left) & (middles < right))
            down = np.flatnonzero((middles >= top) & (middles < bottom))
            if not len(across) or not len(down):
                continue
            told = [_INDEX[word] for word in mark.words]
            area = words[row, down[0] : down[-1] + 1, across[0] : across[-1] + 1]
            area[..., : len(told)] = torch.tensor(told)
    return words.flatten(1, 2)


def _captions(pictures: Sequence[Picture]) -> torch.Tensor:
    """Descriptions as word ids: pictures x tokens."""
    ids = torch.zeros(len(pictures), _CAPTION_TOKENS, dtype=torch.long)
    for row, picture in enumerate(pictures):
        words = [word for mark in picture.marks() for word in mark.words]
        told = ["<s>", *words[: _CAPTION_TOKENS - 2], "</s>"]
        ids[row, : len(told)] = torch.tensor([_INDEX[word] for word in told])
    return ids


def _text_tower(width: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=_TEXT_LAYERS,
        num_attention_heads=width // _HEAD_WIDTH,
        max_position_embeddings=_CAPTION_TOKENS,
        projection_dim=_EMBEDDING,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return CLIPTextModelWithProjection(config)


def _image_processor(recipe: WorldEncoder) -> BaseImageProcessor:
    side = {"height": recipe.image_size, "width": recipe.image_size}
    normal = {"image_mean": list(_MEAN), "image_std": list(_STD), "resample": 3}
    if recipe.family == "siglip":
        return SiglipImageProcessor(size=side, **normal)
    if recipe.family == "vit":
        return ViTImageProcessor(size=side, **normal)
    if recipe.family == "convnext":
        return ConvNextImageProcessor(
            size={"shortest_edge": recipe.image_size}, crop_pct=1.0, **normal
        )
    processor = BitImageProcessor if recipe.family == "dinov2" else CLIPImageProcessor
    return processor(size={"shortest_edge": recipe.image_size}, crop_size=side, **normal)
