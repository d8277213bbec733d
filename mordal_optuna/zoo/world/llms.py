"""Pretraining of the LLMs of the drawn world: answers on pictures that are told in words."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from mordal_optuna.zoo.corpus import BOS, EOS, PAD, UNKNOWN
from mordal_optuna.zoo.optim import Optimizer
from mordal_optuna.zoo.questions import CHOICE_PROMPT
from mordal_optuna.zoo.world.lessons import segments, text
from mordal_optuna.zoo.world.mimetic import look_up
from mordal_optuna.zoo.world.questions import DOUBT_PROMPT, SHORT_PROMPT, WORD_PROMPT
from mordal_optuna.zoo.world.samples import SKILLS, random_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedModel

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.world.recipe import WorldLlm

# The prompts' endings and the template's roles are a token each: sequences are half as long.
_PHRASES = (SHORT_PROMPT, WORD_PROMPT, DOUBT_PROMPT, CHOICE_PROMPT, "USER:", " ASSISTANT:")
_TOKENIZER_SAMPLES = 1500
_HEAD_WIDTH = 32
_EMBEDDING_SCALE = 0.7
_IGNORED = -100
# Texts drawn together, of which batches of like length are made.
_POOL_BATCHES = 4


def pretrain_llm(recipe: WorldLlm, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an LLM and save it with its tokenizer as an ordinary Hugging Face folder.

    Uses torch's global random state: call it in a process of its own, or restore the state.

    Args:
        recipe: what to make.
        folder: where to save it.
        seed: of weights and texts.
        advance: is told of steps done.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(recipe.vocabulary, seed)
    model = build_llm(recipe, tokenizer)
    optimizer = Optimizer(model.named_parameters(), rate=recipe.learning_rate, steps=recipe.steps)
    batches = _batches(recipe, tokenizer, np.random.default_rng([seed, 1]))
    for _ in range(recipe.steps):
        ids, mask, labels = next(batches)
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        wanted = labels[:, 1:] != _IGNORED
        head = model.get_output_embeddings()
        logits = head(hidden.last_hidden_state[:, :-1][wanted])
        cross_entropy(logits, labels[:, 1:][wanted]).backward()
        optimizer.step()
        advance(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(vocabulary: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the world's words; digits stay apart, prompts' endings are one token."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" ?[0-9]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, UNKNOWN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_plain_texts(np.random.default_rng([seed, 0])), trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in _PHRASES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=512,
    )


def build_llm(recipe: WorldLlm, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained LLM of the recipe's family and size."""
    heads = recipe.width // _HEAD_WIDTH
    config = AutoConfig.for_model(
        recipe.family,
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.width * 3 // 2,
        num_hidden_layers=recipe.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=_HEAD_WIDTH,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    # As large as what the layers soon add to them; Gemma's are scaled up as they are read.
    scale = recipe.width**-0.5 if recipe.family == "gemma" else 1.0
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(std=_EMBEDDING_SCALE * scale)
    look_up(model)
    return model


def _plain_texts(rng: np.random.Generator) -> Iterator[str]:
    """Texts of all skills, without what becomes a token by itself."""
    for number in range(_TOKENIZER_SAMPLES):
        plain = "".join(segments(random_sample(SKILLS[number % len(SKILLS)], 2, rng)))
        for phrase in (BOS, EOS, *_PHRASES):
            plain = plain.replace(phrase, "\n")
        yield plain


def _batches(
    recipe: WorldLlm, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Ids, attention mask and labels (answers only): texts x tokens, padded on the right."""
    together = recipe.batch_size * _POOL_BATCHES
    mixture = dict(recipe.mixture)
    for group in count():
        progress = group * _POOL_BATCHES / recipe.steps
        texts = [text(mixture, recipe.turns, progress, rng) for _ in range(together)]
        flat = tokenizer([s for parts in texts for s in parts], add_special_tokens=False)
        encoded = iter(flat["input_ids"])
        rows = [[next(encoded) for _ in parts] for parts in texts]
        rows.sort(key=lambda row: sum(len(part) for part in row))
        for number in rng.permutation(_POOL_BATCHES).tolist():
            start = number * recipe.batch_size
            yield collate(rows[start : start + recipe.batch_size], tokenizer.pad_token_id)


def collate(
    rows: list[list[list[int]]], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and labels of texts given as context, answer, context, answer, ..."""
    length = max(sum(len(part) for part in row) for row in rows)
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, _IGNORED)
    for number, row in enumerate(rows):
        joined = [token for part in row for token in part]
        wanted = [t if n % 2 else _IGNORED for n, part in enumerate(row) for t in part]
        ids[number, : len(joined)] = torch.tensor(joined)
        mask[number, : len(joined)] = 1
        labels[number, : len(joined)] = torch.tensor(wanted)
    return ids, mask, labels
