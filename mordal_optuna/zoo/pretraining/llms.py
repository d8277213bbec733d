"""Pretraining of the quick start's LLMs: next-token prediction of answers.

`small_llm` and `answer_loss` also serve other recipes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from mordal_optuna.zoo.pretraining.corpus import text
from mordal_optuna.zoo.pretraining.loop import train
from mordal_optuna.zoo.pretraining.optimizer import Schedule
from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS, train_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.recipe import LlmRecipe

# Label of tokens that are not trained.
IGNORED = -100
_TOKENIZER_TEXTS = 600
_HEAD_WIDTH = 32


class Batch(NamedTuple):
    """Texts, all tensors texts x tokens, padded on the right.

    Attributes:
        ids: token ids.
        mask: attention mask.
        labels: token ids of answers, `IGNORED` elsewhere.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


def pretrain_llm(recipe: LlmRecipe, folder: Path, *, seed: int, advance: Advance) -> None:
    """Pretrain an LLM and save it with its tokenizer as an ordinary Hugging Face folder.

    Uses torch's global random state: call it in a separate process, or restore the state.

    Args:
        recipe: settings of the LLM.
        folder: folder to write.
        seed: random seed of weights and texts.
        advance: callback that receives the number of steps just done.
    """
    torch.manual_seed(seed)
    texts = _plain_texts(recipe, np.random.default_rng(seed))
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    model = small_llm(
        recipe.family,
        tokenizer,
        width=recipe.width,
        layers=recipe.layers,
        intermediate=recipe.width * 3,
    )

    def loss(batch: Batch) -> torch.Tensor:
        output = model.base_model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        return answer_loss(model, output.last_hidden_state, batch.labels)

    batches = _batches(recipe, tokenizer, np.random.default_rng(seed + 1))
    train(model, Schedule(recipe.steps, recipe.learning_rate), batches, loss, advance)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def small_llm(
    family: str,
    tokenizer: PreTrainedTokenizerFast,
    *,
    width: int,
    layers: int,
    intermediate: int,
    head_width: int | None = None,
) -> PreTrainedModel:
    """An untrained LLM with attention heads of width 32 and as many keys as queries.

    Args:
        family: model type in transformers.
        tokenizer: tokenizer of the LLM.
        width: hidden size, a multiple of 32.
        layers: number of transformer layers.
        intermediate: width of the feed-forward layers.
        head_width: `head_dim` to set in the configuration, for families whose default is not
            width / heads.
    """
    heads = width // _HEAD_WIDTH
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        **({} if head_width is None else {"head_dim": head_width}),
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def answer_loss(
    model: PreTrainedModel, hidden: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean cross entropy of the labelled tokens, each predicted from the position before it.

    Args:
        model: LLM whose output head is used.
        hidden: hidden states, texts x tokens x width.
        labels: token ids, texts x tokens; `IGNORED` where nothing is predicted.
    """
    wanted = labels[:, 1:] != IGNORED
    logits = model.get_output_embeddings()(hidden[:, :-1][wanted])
    return cross_entropy(logits, labels[:, 1:][wanted])


def _plain_texts(recipe: LlmRecipe, rng: np.random.Generator) -> Iterator[str]:
    for _ in range(_TOKENIZER_TEXTS):
        yield "".join(text(recipe.corpus, rng)).replace(BOS, "").replace(EOS, "\n")


def _batches(
    recipe: LlmRecipe, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
) -> Iterator[Batch]:
    while True:
        texts = [text(recipe.corpus, rng) for _ in range(recipe.batch_size)]
        yield _collate(texts, tokenizer)


def _collate(texts: list[list[str]], tokenizer: PreTrainedTokenizerFast) -> Batch:
    flat = tokenizer([s for segments in texts for s in segments], add_special_tokens=False)
    encoded = iter(flat["input_ids"])
    rows = [[next(encoded) for _ in segments] for segments in texts]
    length = max(sum(len(part) for part in row) for row in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for number, row in enumerate(rows):
        joined = [token for part in row for token in part]
        wanted = [t if n % 2 else IGNORED for n, part in enumerate(row) for t in part]
        ids[number, : len(joined)] = torch.tensor(joined)
        mask[number, : len(joined)] = 1
        labels[number, : len(joined)] = torch.tensor(wanted)
    return Batch(ids, mask, labels)
