"""Untrained LLMs of every family look back and copy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.minigrid.pool.llms import build_llm, train_tokenizer
from benchmarks.minigrid.pool.minigrid import MINIGRID

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from benchmarks.minigrid.pool.recipe import MinigridLlm

RECIPES = {recipe.family: replace(recipe, width=96, layers=2) for recipe in MINIGRID.llms}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(512, 0)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_first_layer_attends_to_what_stands_just_before(
    recipe: MinigridLlm, tokenizer: PreTrainedTokenizerFast
) -> None:
    torch.manual_seed(0)
    model = build_llm(recipe, tokenizer)
    model.set_attn_implementation("eager")
    ids = torch.randint(4, len(tokenizer), (4, 40))
    with torch.no_grad():
        first, second = model(input_ids=ids, output_attentions=True).attentions
    near = [layer[:, :, 30, 26:30].sum(-1).mean() for layer in (first, second)]
    assert near[0] > 0.45 > near[1]
