"""How an LLM of the drawn world is trained: which tokens count, and for which layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.minigrid.pool.lessons import shown
from benchmarks.minigrid.pool.llms import (
    answers,
    answers_and_words,
    build_llm,
    collate,
    embedded,
    positions,
    train_tokenizer,
)
from benchmarks.minigrid.pool.recipe import MinigridLlm
from mordal_optuna.zoo.drawing.scenes import Scene, Thing

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FAMILIES = ("llama", "qwen3", "mistral", "gemma", "olmo2", "gpt_neox")
SCENE = Scene((Thing("red", "star", 3), Thing("blue", "ring", 7)), background=0)
TEXTS = [
    ["<s>USER: Which is red?\nA. blue\nB. red\n? ASSISTANT:", " B</s>"],
    [
        "<s>USER: What color is the star? ASSISTANT:",
        " red</s>",
        "USER: And? ASSISTANT:",
        " no</s>",
    ],
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(400, 0)


def model(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    torch.manual_seed(0)
    recipe = MinigridLlm("x", family, (("scenes", 1.0),), 64, 3, 400, 0, 0, 2, 1e-3)  # type: ignore[arg-type]
    return build_llm(recipe, tokenizer)


def test_answers_are_trained_and_words_stand_where_answers_begin(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    batch = collate(TEXTS, tokenizer)
    said = [tokenizer.decode(row[row != -100]) for row in batch.labels]
    assert said == [" B</s>", " red</s> no</s>"]
    meant = [tokenizer.decode(row[row != -100]) for row in batch.words]
    first, second = (
        "".join(tokenizer.decode(tokenizer.encode(word)[0]) for word in words)
        for words in ((" red",), (" red", " no"))
    )
    assert meant == [first, second]
    begins = (batch.labels[:, 1:] != -100) & (batch.labels[:, :-1] == -100)
    assert torch.equal(batch.words[:, 1:] != -100, begins)
    assert batch.ids.shape[2] == 1
    assert batch.mask.sum(1).tolist() == [
        len(tokenizer.encode("".join(parts), add_special_tokens=False)) for parts in TEXTS
    ]


def test_a_shown_mark_stands_at_one_position(tokenizer: PreTrainedTokenizerFast) -> None:
    """All its tokens; between the marks nothing stands."""
    (found,) = positions([f"USER:{shown(SCENE)}\n"], tokenizer)
    *_, first, second, end = found
    assert tokenizer.decode(first) == " red star west"
    assert tokenizer.decode(second) == " blue ring south"
    assert tokenizer.decode(end) == "\n"
    assert [len(tokens) for tokens in found[:-3]] == [1] * (len(found) - 3)


def test_several_tokens_at_a_position_are_as_large_as_one_and_noisy(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    made = model("llama", tokenizer)
    ids = torch.tensor([[[5, -1, -1], [5, 6, 7]]])
    one, three = torch.stack([embedded(made, ids)[0] for _ in range(400)], 1)
    weight = made.get_input_embeddings().weight
    assert torch.equal(one, weight[5].expand_as(one))
    summed = weight[5:8].sum(0) / 3**0.5
    assert torch.allclose(three.mean(0), summed, atol=0.15)
    assert float((three - summed).detach().std() / summed.detach().std()) == pytest.approx(
        0.5, abs=0.03
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_second_loss_asks_an_earlier_layer_for_the_word(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The last layer's weights have a share in the answers alone, so their gradients are equal."""
    made = model(family, tokenizer)
    batch = collate(TEXTS, tokenizer)
    last = dict(made.base_model.layers[-1].named_parameters())
    first = dict(made.base_model.layers[0].named_parameters())
    found = []
    for loss in (answers, answers_and_words):
        made.zero_grad()
        loss(made, batch).backward()
        found.append([{n: p.grad.clone() for n, p in part.items()} for part in (last, first)])
    (last_alone, first_alone), (last_both, first_both) = found
    assert all(torch.allclose(last_alone[n], last_both[n], atol=1e-6) for n in last)
    assert any(not torch.allclose(first_alone[n], first_both[n], atol=1e-4) for n in first)
