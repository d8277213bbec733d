"""Pretraining of the LLMs of the drawn world: answers on pictures that are told in words.

The second schedule has a second loss: an earlier layer must name the word that an answer stands
for (deep supervision, Lee 2015), so that the layers after it need only match it with the options.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from mordal_optuna.zoo.corpus import BOS, EOS, PAD, UNKNOWN
from mordal_optuna.zoo.optim import Optimizer
from mordal_optuna.zoo.questions import CHOICE_PROMPT
from mordal_optuna.zoo.world.lessons import SHOWN_END, SHOWN_START, choosing, meant, segments, text
from mordal_optuna.zoo.world.mimetic import look_up
from mordal_optuna.zoo.world.questions import DOUBT_PROMPT, SHORT_PROMPT, WORD_PROMPT
from mordal_optuna.zoo.world.samples import SKILLS, random_sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from transformers import PreTrainedModel

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.world.recipe import Skill, WorldLlm

# The prompts' endings and the template's roles are a token each: sequences are half as long.
_PHRASES = (SHORT_PROMPT, WORD_PROMPT, DOUBT_PROMPT, CHOICE_PROMPT, "USER:", " ASSISTANT:")
_SHOWN = re.compile(f"{SHOWN_START}(.*?){SHOWN_END}")
_TOKENIZER_SAMPLES = 1500
_HEAD_WIDTH = 32
_EMBEDDING_SCALE = 0.7
_IGNORED = -100
# Peak rates of the second schedule; the layers after which the word meant is to be known, and the
# weight of that loss.
_CHOOSING_RATE, _CHOOSING_MUON_RATE = 2e-3, 0.012
_SHOWN_NOISE = 0.5
_KNOWN_AFTER = 3
_KNOWN_WEIGHT = 0.5
# Texts drawn together, of which batches of like length are made.
_POOL_BATCHES = 4


class Batch(NamedTuple):
    """Texts, all of texts x positions.

    Attributes:
        ids: tokens; x the most at one position, of which those from the first -1 on are none.
        mask: attention mask.
        labels: the tokens of answers, elsewhere -100.
        words: the first token of what an answer stands for, where it begins; elsewhere -100.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    words: torch.Tensor


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
    rng = np.random.default_rng([seed, 1])
    optimizer = Optimizer(model.named_parameters(), rate=recipe.learning_rate, steps=recipe.steps)
    for batch in _batches(text, recipe, recipe.steps, tokenizer, rng):
        answers(model, batch).backward()
        optimizer.step()
        advance(1)
    optimizer = Optimizer(
        model.named_parameters(),
        rate=_CHOOSING_RATE,
        steps=recipe.choosing,
        muon_rate=_CHOOSING_MUON_RATE,
    )
    for batch in _batches(choosing, recipe, recipe.choosing, tokenizer, rng):
        answers_and_words(model, batch).backward()
        optimizer.step()
        advance(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def answers(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Mean cross entropy of the answers' tokens."""
    read = model.base_model(
        inputs_embeds=embedded(model, batch.ids), attention_mask=batch.mask, use_cache=False
    )
    return _named(model, read.last_hidden_state, batch.labels)


def answers_and_words(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """`answers`, and what final norm and output head say of an earlier layer against the words."""
    base = model.base_model
    read = base(
        inputs_embeds=embedded(model, batch.ids),
        attention_mask=batch.mask,
        use_cache=False,
        output_hidden_states=True,
    )
    norm = base.final_layer_norm if hasattr(base, "final_layer_norm") else base.norm
    known = min(_KNOWN_AFTER, model.config.num_hidden_layers - 1)
    words = _named(model, norm(read.hidden_states[known]), batch.words)
    return _named(model, read.last_hidden_state, batch.labels) + _KNOWN_WEIGHT * words


def embedded(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Embeddings of positions: texts x positions x width.

    Where several tokens stand at one position, their sum over the root of their number, so that it
    is as large as one token's, with noise.
    """
    there = (ids >= 0).unsqueeze(-1)
    number = there.sum(2)
    each = model.get_input_embeddings()(ids.clamp(min=0)) * there
    summed = each.sum(2) / number.clamp(min=1) ** 0.5
    size = summed.detach().std(-1, keepdim=True)
    noise = torch.randn_like(summed) * size * _SHOWN_NOISE
    return torch.where(number > 1, summed + noise, summed)


def _named(model: PreTrainedModel, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of labels under what the token before each of them names."""
    wanted = labels[:, 1:] != _IGNORED
    logits = model.get_output_embeddings()(hidden[:, :-1][wanted])
    return cross_entropy(logits, labels[:, 1:][wanted])


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
    lesson: Callable[[Mapping[Skill, float], int, float, np.random.Generator], list[str]],
    recipe: WorldLlm,
    steps: int,
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Batches of a whole schedule; several are drawn together, so that lengths are alike."""
    together = recipe.batch_size * _POOL_BATCHES
    mixture = dict(recipe.mixture)
    for first in range(0, steps, _POOL_BATCHES):
        texts = [lesson(mixture, recipe.turns, first / steps, rng) for _ in range(together)]
        texts.sort(key=lambda parts: sum(len(part) for part in parts))
        for number in rng.permutation(_POOL_BATCHES)[: steps - first].tolist():
            start = number * recipe.batch_size
            yield collate(texts[start : start + recipe.batch_size], tokenizer)


def collate(texts: list[list[str]], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Positions of texts given as context, answer, context, answer, ..., padded on the right."""
    encoded = iter(positions([part for parts in texts for part in parts], tokenizer))
    rows = [[next(encoded) for _ in parts] for parts in texts]
    said = tokenizer([w for parts in texts for w in meant(parts)], add_special_tokens=False)
    firsts = iter(tokens[0] for tokens in said["input_ids"])
    length = max(sum(len(part) for part in row) for row in rows)
    most = max(len(tokens) for row in rows for part in row for tokens in part)
    ids = torch.full((len(rows), length, most), -1)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full_like(mask, _IGNORED)
    words = torch.full_like(mask, _IGNORED)
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
    """The tokens at every position of each text: one, or all those of a mark that is shown."""
    split = [_SHOWN.split(part) for part in parts]
    encoded = iter(
        tokenizer([x for pieces in split for x in pieces], add_special_tokens=False).input_ids
    )
    found = []
    for pieces in split:
        here: list[list[int]] = []
        for number, _ in enumerate(pieces):
            tokens = next(encoded)
            here += [tokens] if number % 2 else [[token] for token in tokens]
        found.append(here)
    return found
