"""The changes to LLaVA, on modules small enough to compute the result by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from mordal_optuna.models.llava import give_patches, keep_head


class Output(SimpleNamespace):
    """Attributes that can be set by key as well, like transformers' outputs."""

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)


class Tower(torch.nn.Module):
    """Returns given hidden states."""

    def __init__(self, *hidden: torch.Tensor) -> None:
        super().__init__()
        self._hidden = hidden

    def forward(self) -> Output:
        """The hidden states."""
        return Output(hidden_states=self._hidden)


def test_registers_between_cls_and_patches_are_dropped_in_the_layer_that_is_used() -> None:
    tokens = torch.arange(12.0).view(1, 6, 2)
    tower = Tower(tokens, tokens)
    give_patches(tower, layer=-1, registers=2, feature_map=False)
    untouched, kept = tower().hidden_states
    assert torch.equal(untouched, tokens)
    assert torch.equal(kept, tokens[:, [0, 3, 4, 5]])


def test_a_feature_map_becomes_one_token_per_pixel_row_by_row() -> None:
    maps = torch.arange(12.0).view(1, 2, 2, 3)
    tower = Tower(maps)
    give_patches(tower, layer=-1, registers=0, feature_map=True)
    (tokens,) = tower().hidden_states
    assert tokens.shape == (1, 6, 2)
    assert torch.equal(tokens[0, 4], maps[0, :, 1, 1])


def test_logits_are_divided_and_capped() -> None:
    head = torch.nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[1.0], [40.0]])
    logits = torch.tensor([[2.0, 80.0]])
    one = torch.tensor([[2.0]])
    assert torch.equal(head(one), logits)
    keep_head(head, softcap=0.0, divisor=1.0)
    assert torch.equal(head(one), logits)
    keep_head(head, softcap=30.0, divisor=4.0)
    assert torch.allclose(head(one), 30 * torch.tanh(logits / 4 / 30))
