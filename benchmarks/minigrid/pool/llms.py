"""Pretraining of the minigrid's LLMs: answers about pictures that are described in words.

The second schedule has a second loss: an earlier layer must name the word that an answer means
(deep supervision, Lee 2015), so that the later layers only have to match it with the options.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from benchmarks.minigrid.pool.lessons import (
    SHOWN_END,
    SHOWN_START,
    choosing,
    meant,
    segments,
    text,
)
from benchmarks.minigrid.pool.mimetic import set_look_up_weights
from benchmarks.minigrid.pool.prompts import DOUBT_PROMPT, SHORT_PROMPT, WORD_PROMPT
from benchmarks.minigrid.pool.samples import SKILLS, random_sample
from mordal_optuna.zoo.drawing.multiple_choice import CHOICE_PROMPT
from mordal_optuna.zoo.pretraining import tokenizer as tokenizers
from mordal_optuna.zoo.pretraining.llms import IGNORED, answer_loss, small_llm
from mordal_optuna.zoo.pretraining.loop import train
from mordal_optuna.zoo.pretraining.optimizer import Schedule
from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from benchmarks.minigrid.pool.recipe import MinigridLlm, Skill
    from mordal_optuna.progress import Advance

# Endings of prompts and roles of the template; one token each, which halves the sequences.
_PHRASES = (SHORT_PROMPT, WORD_PROMPT, DOUBT_PROMPT, CHOICE_PROMPT, "USER:", " ASSISTANT:")
_SHOWN = re.compile(f"{SHOWN_START}(.*?){SHOWN_END}")
_TOKENIZER_SAMPLES = 1500
_HEAD_WIDTH = 32
_EMBEDDING_SCALE = 0.7
# Peak learning rates of the second schedule.
_CHOOSING_RATE, _CHOOSING_MUON_RATE = 2e-3, 0.012
_SHOWN_NOISE = 0.5
# Number of layers after which the meant word is predicted, and weight of that loss.
_WORD_LAYERS = 3
_WORD_WEIGHT = 0.5
# Batches whose texts are drawn together and sorted by length.
_POOL_BATCHES = 4


class Batch(NamedTuple):
    """Texts, padded on the right.

    Attributes:
        ids: token ids, texts x positions x largest number of tokens at one position; -1 after a
            position's last token.
        mask: attention mask, texts x positions.
        labels: token ids of answers, texts x positions; `IGNORED` elsewhere.
        words: first token of the word that an answer means, at the answer's first position,
            texts x positions; `IGNORED` elsewhere.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    words: torch.Tensor


def pretrain_llm(recipe: MinigridLlm, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an LLM and save it with its tokenizer as an ordinary Hugging Face folder.

    Uses torch's global random state: call it in a separate process, or restore the state.

    Args:
        recipe: settings of the LLM.
        folder: folder to write.
        seed: random seed of weights and texts.
        advance: callback that receives the number of steps just done.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(recipe.vocabulary, seed)
    model = build_llm(recipe, tokenizer)
    rng = np.random.default_rng([seed, 1])
    train(
        model,
        Schedule(recipe.steps, recipe.learning_rate),
        _batches(text, recipe, recipe.steps, tokenizer, rng),
        lambda batch: answers(model, batch),
        advance,
    )
    train(
        model,
        Schedule(recipe.choosing, _CHOOSING_RATE, _CHOOSING_MUON_RATE),
        _batches(choosing, recipe, recipe.choosing, tokenizer, rng),
        lambda batch: answers_and_words(model, batch),
        advance,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def answers(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Mean cross entropy of the answers' tokens."""
    output = model.base_model(
        inputs_embeds=embedded(model, batch.ids), attention_mask=batch.mask, use_cache=False
    )
    return answer_loss(model, output.last_hidden_state, batch.labels)


def answers_and_words(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """`answers` plus the weighted cross entropy of the meant words, predicted by an earlier layer.

    The earlier layer uses the model's final norm and output head.
    """
    base = model.base_model
    output = base(
        inputs_embeds=embedded(model, batch.ids),
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=True,
    )
    norm = base.final_layer_norm if hasattr(base, "final_layer_norm") else base.norm
    layer = min(_WORD_LAYERS, model.config.num_hidden_layers - 1)
    words = answer_loss(model, norm(output.hidden_states[layer]), batch.words)
    return answer_loss(model, output.last_hidden_state, batch.labels) + _WORD_WEIGHT * words


def embedded(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Embeddings of positions, texts x positions x width.

    Several tokens at one position are summed, divided by the root of their number, so that the
    result is as large as one token's embedding, and noise is added.

    Args:
        model: LLM whose embeddings are used.
        ids: token ids as in `Batch`.
    """
    there = (ids >= 0).unsqueeze(-1)
    number = there.sum(2)
    each = model.get_input_embeddings()(ids.clamp(min=0)) * there
    summed = each.sum(2) / number.clamp(min=1) ** 0.5
    size = summed.detach().std(-1, keepdim=True)
    noise = torch.randn_like(summed) * size * _SHOWN_NOISE
    return torch.where(number > 1, summed + noise, summed)


def train_tokenizer(vocabulary: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on texts of all skills; digits and prompt endings are one token."""
    texts = _plain_texts(np.random.default_rng([seed, 0]))
    return tokenizers.train_tokenizer(texts, vocabulary, split_digits=True, phrases=_PHRASES)


def build_llm(recipe: MinigridLlm, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained LLM of the recipe's family and size."""
    model = small_llm(
        recipe.family,
        tokenizer,
        width=recipe.width,
        layers=recipe.layers,
        intermediate=recipe.width * 3 // 2,
        head_width=_HEAD_WIDTH,
    )
    # As large as what the layers soon add to them. Gemma scales its embeddings up on reading.
    scale = recipe.width**-0.5 if recipe.family == "gemma" else 1.0
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(std=_EMBEDDING_SCALE * scale)
    set_look_up_weights(model)
    return model


def _plain_texts(rng: np.random.Generator) -> Iterator[str]:
    """Texts of all skills, without special tokens and phrases."""
    for number in range(_TOKENIZER_SAMPLES):
        plain = "".join(segments(random_sample(SKILLS[number % len(SKILLS)], 2, rng)))
        for phrase in (BOS, EOS, *_PHRASES):
            plain = plain.replace(phrase, "\n")
        yield plain


def _batches(
    lesson: Callable[[Mapping[Skill, float], int, float, np.random.Generator], list[str]],
    recipe: MinigridLlm,
    steps: int,
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Batches of a whole schedule.

    The texts of several batches are drawn together and sorted by length, to reduce padding.
    """
    together = recipe.batch_size * _POOL_BATCHES
    mixture = dict(recipe.mixture)
    for first in range(0, steps, _POOL_BATCHES):
        texts = [lesson(mixture, recipe.turns, first / steps, rng) for _ in range(together)]
        texts.sort(key=lambda parts: sum(len(part) for part in parts))
        for number in rng.permutation(_POOL_BATCHES)[: steps - first].tolist():
            start = number * recipe.batch_size
            yield collate(texts[start : start + recipe.batch_size], tokenizer)


def collate(texts: list[list[str]], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Collate texts, each a list of segments: context, answer, context, answer, ..."""
    encoded = iter(positions([part for parts in texts for part in parts], tokenizer))
    rows = [[next(encoded) for _ in parts] for parts in texts]
    meant_words = tokenizer(
        [word for parts in texts for word in meant(parts)], add_special_tokens=False
    )
    firsts = iter(tokens[0] for tokens in meant_words["input_ids"])
    length = max(sum(len(part) for part in row) for row in rows)
    most = max(len(tokens) for row in rows for part in row for tokens in part)
    ids = torch.full((len(rows), length, most), -1)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full_like(mask, IGNORED)
    words = torch.full_like(mask, IGNORED)
    for number, row in enumerate(rows):
        at = 0
        for place, part in enumerate(row):
            here = slice(at, at + len(part))
            padded = [tokens + [-1] * (most - len(tokens)) for tokens in part]
            ids[number, here] = torch.tensor(padded)
            mask[number, here] = 1
            if place % 2:
                labels[number, here] = ids[number, here, 0]
                words[number, at] = next(firsts)
            at = here.stop
    return Batch(ids, mask, labels, words)


def positions(parts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[list[list[int]]]:
    """Tokens at each position of each segment: one token, or all tokens of a mark shown as one.

    Args:
        parts: segments; see `lessons.shown` for marks at one position.
        tokenizer: tokenizer of the LLM.
    """
    split = [_SHOWN.split(part) for part in parts]
    encoded = iter(
        tokenizer([x for pieces in split for x in pieces], add_special_tokens=False).input_ids
    )
    rows = []
    for pieces in split:
        here: list[list[int]] = []
        for number, _ in enumerate(pieces):
            tokens = next(encoded)
            here += [tokens] if number % 2 else [[token] for token in tokens]
        rows.append(here)
    return rows
