"""Pretraining of the quick start's vision encoders: contrastive, sigmoid, or masked patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from mordal_optuna.zoo.drawing.board import COLORS, PLACES, SHAPES, draw, random_scene, rearranged
from mordal_optuna.zoo.drawing.pictures import MOST_WORDS
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
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedModel

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.drawing.board import Scene
    from mordal_optuna.zoo.recipe import EncoderRecipe

    Batch = tuple[torch.Tensor, list[Scene]]

# The text towers read captions word by word. Their vocabulary is not saved, since only the vision
# towers are used later.
_WORDS = (*SPECIAL_WORDS, *COLORS, *SHAPES, *PLACES)
_INDEX = {word: number for number, word in enumerate(_WORDS)}
_CAPTION_TOKENS = 12
_TEXT_LAYERS = 2
# Scenes of a batch that have the same colours.
_GROUP = 4


class _Pretraining(torch.nn.Module):
    """An encoder with the head that is used in pretraining only."""

    def __init__(self, recipe: EncoderRecipe) -> None:
        super().__init__()
        self.tower = _untrained(recipe)
        self.patch_size = recipe.patch_size
        self.patches_per_side = recipe.image_size // recipe.patch_size
        masked = recipe.family == "dinov2"
        outputs = recipe.patch_size**2 if masked else len(_WORDS)
        self.head = torch.nn.Linear(recipe.width, MOST_WORDS * outputs)

    def forward(self, pixels: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
        """Loss of a batch.

        A contrastive loss alone reaches patch features only after far longer pretraining, so that
        patches also learn to name the thing they show.
        """
        if isinstance(self.tower, Dinov2Model):
            return masked_patch_loss(self.tower, self.head, pixels, self.patch_size)
        marks = [scene.marks() for scene in scenes]
        captions = caption_ids(marks, _INDEX, _CAPTION_TOKENS)
        output = self.tower(
            input_ids=captions, attention_mask=(captions != 0).long(), pixel_values=pixels
        )
        words = located_words(marks, _INDEX, self.patches_per_side)
        patches = output.vision_model_output.last_hidden_state[:, -words.shape[1] :]
        matching = contrastive_loss if isinstance(self.tower, CLIPModel) else sigmoid_loss
        named = naming_loss(self.head, patches, words, len(_WORDS))
        return named + matching(output.logits_per_image)


def pretrain_encoder(recipe: EncoderRecipe, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an encoder and save it with its image processor, as on the hub.

    CLIP and SigLIP are saved with their text towers. Uses torch's global random state: call it in
    a separate process, or restore the state.

    Args:
        recipe: settings of the encoder.
        folder: folder to write.
        seed: random seed of weights and scenes.
        advance: callback that receives the number of steps just done.
    """
    torch.manual_seed(seed)
    model = _Pretraining(recipe)
    batches = _batches(recipe, np.random.default_rng(seed))
    schedule = Schedule(recipe.steps, recipe.learning_rate)
    train(model, schedule, batches, lambda batch: model(*batch), advance)
    model.tower.save_pretrained(folder)
    _image_processor(recipe).save_pretrained(folder)


def _batches(recipe: EncoderRecipe, rng: np.random.Generator) -> Iterator[Batch]:
    while True:
        scenes = _scenes(recipe.batch_size, rng)
        images = [draw(scene, recipe.image_size, rng) for scene in scenes]
        yield as_pixels(images, recipe.image_size), scenes


def _scenes(count: int, rng: np.random.Generator) -> list[Scene]:
    """Scenes in groups with the same colours, so that colours alone do not identify a caption."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        first = random_scene(rng)
        scenes += [first, *(rearranged(first, rng) for _ in range(_GROUP - 1))]
    return scenes[:count]


def _untrained(recipe: EncoderRecipe) -> PreTrainedModel:
    sizes = {
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.width // HEAD_WIDTH,
    }
    image = {"image_size": recipe.image_size, "patch_size": recipe.patch_size}
    vision = {**sizes, **image, "intermediate_size": recipe.width * 4}
    text = {
        **sizes,
        "num_hidden_layers": _TEXT_LAYERS,
        "intermediate_size": recipe.width * 2,
        "vocab_size": len(_WORDS),
        "max_position_embeddings": _CAPTION_TOKENS,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if recipe.family == "clip":
        vision["projection_dim"] = text["projection_dim"] = EMBEDDING
        return CLIPModel(
            CLIPConfig(vision_config=vision, text_config=text, projection_dim=EMBEDDING)
        )
    if recipe.family == "siglip":
        text["projection_size"] = recipe.width
        model = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
        with torch.no_grad():  # the paper's initial values: t = 10, b = -10
            model.logit_scale.fill_(math.log(10))
            model.logit_bias.fill_(-10.0)
        return model
    return Dinov2Model(Dinov2Config(**sizes, mlp_ratio=4, **image))


def _image_processor(recipe: EncoderRecipe) -> Any:
    side = {"height": recipe.image_size, "width": recipe.image_size}
    normal = {"image_mean": list(MEAN), "image_std": list(STD)}
    if recipe.family == "siglip":
        return SiglipImageProcessor(size=side, **normal)
    processor = CLIPImageProcessor if recipe.family == "clip" else BitImageProcessor
    return processor(size={"shortest_edge": recipe.image_size}, crop_size=side, **normal)
