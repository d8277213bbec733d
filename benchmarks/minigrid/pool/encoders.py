"""Pretraining of the minigrid's vision encoders, with one of four losses.

`contrast` and `sigmoid` match pictures with their descriptions (Radford 2021, Zhai 2023), and
patches also learn to name the mark they lie in (LocCa, Wan 2024): a contrastive loss alone reaches
patch features only after far longer pretraining, and at full weight it prevents the naming from
being learned. With `name` patches only name their marks. `masked` predicts the pixels of masked
patches (SimMIM, Xie 2022) and uses no words.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
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

from mordal_optuna.zoo.drawing.charts import random_chart
from mordal_optuna.zoo.drawing.diagrams import END, LABELS, random_diagram
from mordal_optuna.zoo.drawing.documents import FIELDS, random_document
from mordal_optuna.zoo.drawing.pictures import COLORS, MOST_WORDS, PLACES, SHAPES
from mordal_optuna.zoo.drawing.scenes import UNCLEAR, random_photo, random_scene
from mordal_optuna.zoo.pretraining.loop import train
from mordal_optuna.zoo.pretraining.optimizer import Schedule
from mordal_optuna.zoo.pretraining.vision import (
    EMBEDDING,
    HEAD_WIDTH,
    MEAN,
    SPECIAL_WORDS,
    STD,
    as_pixels,
    caption_ids,
    contrastive_loss,
    located_words,
    masked_patch_loss,
    naming_loss,
    sigmoid_loss,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel
    from transformers.image_processing_utils import BaseImageProcessor

    from benchmarks.minigrid.pool.recipe import Kind, MinigridEncoder
    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.drawing.pictures import Mark, Picture

    Marks = Sequence[Sequence[Mark]]

_MAKERS: dict[Kind, Callable[[np.random.Generator], Picture]] = {
    "scenes": random_scene,
    "photos": random_photo,
    "charts": random_chart,
    "documents": random_document,
    "diagrams": random_diagram,
}
WORDS = (
    *(*SPECIAL_WORDS, UNCLEAR, END, *COLORS, *SHAPES, *PLACES, *LABELS, *"0123456789"),
    *dict.fromkeys([*FIELDS, *(word for words in FIELDS.values() for word in words or ())]),
)
INDEX = {word: number for number, word in enumerate(WORDS)}
_CAPTION_TOKENS = 18
_TEXT_LAYERS = 1
_POSITION_SCALE = 0.3
# Weight of the matching loss; the naming loss has weight 1.
_MATCHING_WEIGHT = {"contrast": 0.2, "sigmoid": 0.1}


class _Pretraining(torch.nn.Module):
    """An encoder with the modules that are used in pretraining only."""

    def __init__(self, recipe: MinigridEncoder) -> None:
        super().__init__()
        self.tower = build_encoder(recipe)
        for name, parameter in self.tower.named_parameters():
            if "position_embedding" in name:
                # As large as the patch embeddings, so that places are learned sooner.
                torch.nn.init.normal_(parameter, std=_POSITION_SCALE)
        self.target = recipe.target
        self.patch_size = recipe.patch_size
        outputs = MOST_WORDS * (recipe.patch_size**2 if recipe.target == "masked" else len(WORDS))
        self.head = torch.nn.Linear(recipe.width, outputs)
        if recipe.target in ("contrast", "sigmoid"):
            self.text = _text_tower(recipe.width)
            self.projection = torch.nn.Linear(recipe.width, EMBEDDING)
            self.scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
            self.bias = torch.nn.Parameter(torch.tensor(-10.0))

    def forward(self, pixels: torch.Tensor, marks: Marks) -> torch.Tensor:
        """Loss of a batch."""
        if self.target == "masked":
            return masked_patch_loss(self.tower, self.head, pixels, self.patch_size)
        patches = self._patches(pixels)
        words = located_words(marks, INDEX, math.isqrt(patches.shape[1]))
        loss = naming_loss(self.head, patches, words, len(WORDS))
        if self.target == "name":
            return loss
        return loss + _MATCHING_WEIGHT[self.target] * self._matching(patches, marks)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.tower(pixel_values=pixels).last_hidden_state
        if hidden.ndim == 4:  # a feature map
            return hidden.flatten(2).transpose(1, 2)
        side = math.isqrt(hidden.shape[1])
        return hidden[:, -(side**2) :]

    def _matching(self, patches: torch.Tensor, marks: Marks) -> torch.Tensor:
        ids = caption_ids(marks, INDEX, _CAPTION_TOKENS)
        text = self.text(input_ids=ids, attention_mask=(ids != 0).long()).text_embeds
        image = self.projection(patches.mean(1))
        image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text))
        logits = self.scale.exp() * image @ text.T
        if self.target == "contrast":
            return contrastive_loss(logits)
        return sigmoid_loss(logits + self.bias)


def pretrain_encoder(
    recipe: MinigridEncoder, folder: Path, *, seed: int, advance: Advance
) -> None:
    """Pretrain an encoder and save its vision tower with its image processor, as on the hub.

    Uses torch's global random state: call it in a separate process, or restore the state.

    Args:
        recipe: settings of the encoder.
        folder: folder to write.
        seed: random seed of weights and pictures.
        advance: callback that receives the number of steps just done.
    """
    torch.manual_seed(seed)
    model = _Pretraining(recipe)
    batches = _batches(recipe, np.random.default_rng(seed))
    schedule = Schedule(recipe.steps, recipe.learning_rate)
    train(model, schedule, batches, lambda batch: model(*batch), advance)
    model.tower.save_pretrained(folder)
    _image_processor(recipe).save_pretrained(folder)


def _batches(
    recipe: MinigridEncoder, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, Marks]]:
    while True:
        pictures = random_pictures(recipe, rng)
        images = [picture.draw(rng) for picture in pictures]
        yield as_pixels(images, recipe.image_size), [picture.marks() for picture in pictures]


def random_pictures(recipe: MinigridEncoder, rng: np.random.Generator) -> list[Picture]:
    """A random batch of pictures; kinds are drawn by their shares in the recipe's mixture."""
    kinds = [kind for kind, _ in recipe.mixture]
    shares = np.array([share for _, share in recipe.mixture])
    drawn = rng.choice(len(kinds), recipe.batch_size, p=shares / shares.sum())
    return [_MAKERS[kinds[number]](rng) for number in drawn.tolist()]


def build_encoder(recipe: MinigridEncoder) -> PreTrainedModel:
    """An untrained vision tower of the recipe's family and size."""
    common = {"hidden_size": recipe.width, "num_hidden_layers": recipe.layers}
    common |= {"num_attention_heads": recipe.width // HEAD_WIDTH}
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
    # Each stage halves the map until one feature covers a patch; the last stage is the widest.
    stages = int(math.log2(recipe.patch_size // 4)) + 1
    sizes = [max(16, recipe.width >> (stages - 1 - n)) for n in range(stages)]
    depths = [*[1] * (stages - 1), recipe.layers]
    return ConvNextModel(ConvNextConfig(num_stages=stages, hidden_sizes=sizes, depths=depths))


def _text_tower(width: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=_TEXT_LAYERS,
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=_CAPTION_TOKENS,
        projection_dim=EMBEDDING,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return CLIPTextModelWithProjection(config)


def _image_processor(recipe: MinigridEncoder) -> BaseImageProcessor:
    side = {"height": recipe.image_size, "width": recipe.image_size}
    normal = {"image_mean": list(MEAN), "image_std": list(STD), "resample": 3}
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
