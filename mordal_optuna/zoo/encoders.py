"""Pretraining of the vision encoders: contrastive, sigmoid, or by masked patches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy, logsigmoid
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

from mordal_optuna.zoo.optim import Optimizer
from mordal_optuna.zoo.scenes import CELLS, COLORS, PLACES, SHAPES, draw, random_scene, rearranged

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import CLIPVisionConfig, PreTrainedModel, SiglipVisionConfig

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.recipe import EncoderRecipe
    from mordal_optuna.zoo.scenes import Scene

# The text towers read captions as words: their tokenizer is not part of what is saved, since
# only the vision tower is ever used.
_WORDS = ("<pad>", "<s>", "</s>", *COLORS, *SHAPES, *PLACES)
_CAPTION_TOKENS = 12
_TEXT_LAYERS = 2
_EMBEDDING = 64
_HEAD_WIDTH = 32
_MASKED_SHARE = 0.4
_GROUP = 4
# CLIP's normalisation, used for all families here.
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def pretrain_encoder(recipe: EncoderRecipe, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an encoder and save it with its image processor, as on the hub.

    CLIP and SigLIP are saved whole, with their text towers. Uses torch's global random state:
    call it in a process of its own, or restore the state.

    Args:
        recipe: what to make.
        folder: where to save it.
        seed: of weights and scenes.
        advance: is told of steps done.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, head = _build(recipe)
    both = [*model.named_parameters(), *head.named_parameters(prefix="head")]
    optimizer = Optimizer(both, rate=recipe.learning_rate, steps=recipe.steps)
    for _ in range(recipe.steps):
        scenes = _scenes(recipe.batch_size, rng)
        pixels = _pixels([draw(scene, recipe.image_size, rng) for scene in scenes])
        if isinstance(model, Dinov2Model):
            loss = _masked_loss(model, head, pixels, recipe.patch_size)
        else:
            loss = _language_loss(model, head, pixels, scenes)
        loss.backward()
        optimizer.step()
        advance(1)
    model.save_pretrained(folder)
    _image_processor(recipe).save_pretrained(folder)


def _scenes(count: int, rng: np.random.Generator) -> list[Scene]:
    """Scenes in groups of one set of colours, which a caption's colours cannot tell apart."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        first = random_scene(rng)
        scenes += [first, *(rearranged(first, rng) for _ in range(_GROUP - 1))]
    return scenes[:count]


def _build(recipe: EncoderRecipe) -> tuple[PreTrainedModel, torch.nn.Module]:
    """The model, and a head that is thrown away after pretraining."""
    sizes = {
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.width // _HEAD_WIDTH,
    }
    vision = {
        **sizes,
        "intermediate_size": recipe.width * 4,
        "image_size": recipe.image_size,
        "patch_size": recipe.patch_size,
    }
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
        vision["projection_dim"] = text["projection_dim"] = _EMBEDDING
        config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=_EMBEDDING)
        return CLIPModel(config), torch.nn.Linear(recipe.width, len(_WORDS) * 3)
    if recipe.family == "siglip":
        text["projection_size"] = recipe.width
        model = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
        with torch.no_grad():  # the paper's start: t = 10, b = -10
            model.logit_scale.fill_(math.log(10))
            model.logit_bias.fill_(-10.0)
        return model, torch.nn.Linear(recipe.width, len(_WORDS) * 3)
    dino = Dinov2Config(
        **sizes, mlp_ratio=4, image_size=recipe.image_size, patch_size=recipe.patch_size
    )
    return Dinov2Model(dino), torch.nn.Linear(recipe.width, 3 * recipe.patch_size**2)


def _pixels(images: list) -> torch.Tensor:
    values = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    scaled = values.permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(_MEAN).view(3, 1, 1), torch.tensor(_STD).view(3, 1, 1)
    return (scaled - mean) / std


def _captions(scenes: list[Scene]) -> torch.Tensor:
    """Captions as word ids: scenes x tokens; no two scenes of a batch need differ."""
    ids = torch.zeros(len(scenes), _CAPTION_TOKENS, dtype=torch.long)
    for row, scene in enumerate(scenes):
        words = ["<s>"]
        for thing in scene.things:
            words += [thing.color, thing.shape, thing.place]
        words.append("</s>")
        ids[row, : len(words)] = torch.tensor([_WORDS.index(word) for word in words])
    return ids


def _language_loss(
    model: CLIPModel | SiglipModel,
    head: torch.nn.Module,
    pixels: torch.Tensor,
    scenes: list[Scene],
) -> torch.Tensor:
    """The family's own loss on image and caption, plus location-aware captioning.

    Softmax contrastive for CLIP (Radford 2021), sigmoid for SigLIP (Zhai 2023). Besides, every
    patch names the thing it shows (LocCa, Wan 2024): a contrastive loss alone reaches patch
    features only after far longer pretraining.
    """
    captions = _captions(scenes)
    output = model(input_ids=captions, attention_mask=(captions != 0).long(), pixel_values=pixels)
    words = _located(scenes, model.config.vision_config)
    patches = output.vision_model_output.last_hidden_state[:, -words.shape[1] :]
    named = head(patches).unflatten(-1, (3, len(_WORDS)))
    located = cross_entropy(named.flatten(0, 2), words.flatten())
    return located + _matching_loss(model, output.logits_per_image)


def _matching_loss(model: CLIPModel | SiglipModel, logits: torch.Tensor) -> torch.Tensor:
    if isinstance(model, CLIPModel):
        target = torch.arange(len(logits))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    sign = 2 * torch.eye(len(logits)) - 1
    return -logsigmoid(sign * logits).sum() / len(logits)


def _located(scenes: list[Scene], vision: CLIPVisionConfig | SiglipVisionConfig) -> torch.Tensor:
    """The words of the thing in whose cell a patch lies: scenes x patches x 3, colour first.

    `<pad>` where the cell is empty.
    """
    side = vision.image_size // vision.patch_size
    words = torch.zeros(len(scenes), side, side, 3, dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            y, x = divmod(PLACES.index(thing.place), CELLS)
            told = torch.tensor([_WORDS.index(w) for w in (thing.color, thing.shape, thing.place)])
            half = side // CELLS
            words[row, y * half : (y + 1) * half, x * half : (x + 1) * half] = told
    return words.flatten(1, 2)


def _masked_loss(
    model: Dinov2Model, head: torch.nn.Module, pixels: torch.Tensor, patch: int
) -> torch.Tensor:
    """Mean squared error of the pixels of masked patches (SimMIM, Xie 2022)."""
    patches = torch.nn.functional.unfold(pixels, patch, stride=patch).transpose(1, 2)
    masked = torch.rand(patches.shape[:2]) < _MASKED_SHARE
    hidden = model(pixels, bool_masked_pos=masked).last_hidden_state[:, 1:]
    return ((head(hidden[masked]) - patches[masked]) ** 2).mean()


def _image_processor(
    recipe: EncoderRecipe,
) -> CLIPImageProcessor | SiglipImageProcessor | BitImageProcessor:
    side = {"height": recipe.image_size, "width": recipe.image_size}
    normal = {"image_mean": list(_MEAN), "image_std": list(_STD)}
    if recipe.family == "siglip":
        return SiglipImageProcessor(size=side, **normal)
    processor = CLIPImageProcessor if recipe.family == "clip" else BitImageProcessor
    return processor(size={"shortest_edge": recipe.image_size}, crop_size=side, **normal)
