"""The quick start's LLMs: which tokens are trained."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from mordal_optuna.zoo.pretraining.llms import IGNORED, _collate, answer_loss, small_llm
from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS, train_tokenizer

TEXTS = [
    [f"{BOS}USER: red ASSISTANT:", f" red{EOS}"],
    [f"{BOS}USER: blue square ASSISTANT:", f" blue{EOS}", "USER: more ASSISTANT:", f" no{EOS}"],
]


def test_labels_are_the_answers_tokens() -> None:
    tokenizer = train_tokenizer(["".join(parts) for parts in TEXTS], 300)
    batch = _collate(TEXTS, tokenizer)
    for row, parts in enumerate(TEXTS):
        trained = batch.labels[row] != IGNORED
        assert tokenizer.decode(batch.ids[row][trained]) == "".join(parts[1::2])
        assert torch.equal(batch.labels[row][trained], batch.ids[row][trained])
        assert tokenizer.decode(batch.ids[row][batch.mask[row] == 1]) == "".join(parts)


def test_the_loss_is_that_of_labelled_tokens_from_the_position_before() -> None:
    tokenizer = train_tokenizer(["".join(parts) for parts in TEXTS], 300)
    torch.manual_seed(0)
    model = small_llm("llama", tokenizer, width=32, layers=1, intermediate=64)
    batch = _collate(TEXTS, tokenizer)
    hidden = model.base_model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
    logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits
    expected = cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORED
    )
    loss = answer_loss(model, hidden, batch.labels).item()
    assert loss == pytest.approx(expected.item())
