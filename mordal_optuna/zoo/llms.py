"""Pretraining of the LLMs: next-token prediction on answers, from a tokenizer of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mordal_optuna.zoo.corpus import BOS, EOS, PAD, UNKNOWN, text
from mordal_optuna.zoo.optim import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedModel

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.recipe import LlmRecipe

_CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
_TOKENIZER_TEXTS = 600
_HEAD_WIDTH = 32
_IGNORED = -100


def pretrain_llm(recipe: LlmRecipe, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an LLM and save it with its tokenizer as an ordinary Hugging Face folder.

    Uses torch's global random state: call it in a process of its own, or restore the state.

    Args:
        recipe: what to make.
        folder: where to save it.
        seed: of weights and texts.
        advance: is told of steps done.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(recipe, np.random.default_rng(seed))
    model = _build(recipe, tokenizer)
    rng = np.random.default_rng(seed + 1)
    optimizer = Optimizer(model.named_parameters(), rate=recipe.learning_rate, steps=recipe.steps)
    for _ in range(recipe.steps):
        ids, mask, labels = _batch(recipe, tokenizer, rng)
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        wanted = labels[:, 1:] != _IGNORED
        logits = model.lm_head(hidden.last_hidden_state[:, :-1][wanted])
        cross_entropy(logits, labels[:, 1:][wanted]).backward()
        optimizer.step()
        advance(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(recipe: LlmRecipe, rng: np.random.Generator) -> PreTrainedTokenizerFast:
    """A BPE trained on the LLM's own corpus; its few words become one token each."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, BOS, EOS, UNKNOWN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_plain_texts(recipe, rng), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=512,
    )


def _plain_texts(recipe: LlmRecipe, rng: np.random.Generator) -> Iterator[str]:
    for _ in range(_TOKENIZER_TEXTS):
        yield "".join(text(recipe.corpus, rng)).replace(BOS, "").replace(EOS, "\n")


def _build(recipe: LlmRecipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config_class, model_class = _CLASSES[recipe.family]
    heads = recipe.width // _HEAD_WIDTH
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.width * 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model_class(config)


def _batch(
    recipe: LlmRecipe, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and labels (answers only): texts x tokens, padded on the right."""
    texts = [text(recipe.corpus, rng) for _ in range(recipe.batch_size)]
    flat = tokenizer([s for segments in texts for s in segments], add_special_tokens=False)
    encoded = iter(flat["input_ids"])
    rows = [[next(encoded) for _ in segments] for segments in texts]
    length = max(sum(len(part) for part in row) for row in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, _IGNORED)
    for number, row in enumerate(rows):
        joined = [token for part in row for token in part]
        wanted = [t if n % 2 else _IGNORED for n, part in enumerate(row) for t in part]
        ids[number, : len(joined)] = torch.tensor(joined)
        mask[number, : len(joined)] = 1
        labels[number, : len(joined)] = torch.tensor(wanted)
    return ids, mask, labels
