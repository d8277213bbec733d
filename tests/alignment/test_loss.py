"""Rules: padding the head changes neither losses nor gradients, and copies only where needed."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from mordal_optuna.alignment.loss import aligned_head


def loss_and_gradient(head, hidden, targets):
    """Summed cross entropy behind a head, and its gradient by the hidden states."""
    hidden = hidden.clone().requires_grad_()
    loss = cross_entropy(head(hidden), targets, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, hidden)
    return loss, gradient


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 63, 65, 200])
def test_a_padded_head_gives_the_same_loss_and_gradient(rows, bias):
    torch.manual_seed(0)
    head = torch.nn.Linear(24, rows, bias=bias, dtype=torch.float64).requires_grad_(False)
    hidden, targets = torch.randn(7, 24, dtype=torch.float64), torch.randint(rows, (7,))
    padded = aligned_head(head)
    assert padded(hidden).shape == (7, rows)
    expected, got = (loss_and_gradient(one, hidden, targets) for one in (head, padded))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_only_a_head_with_missing_rows_is_copied():
    whole = torch.nn.Linear(8, 128)
    assert aligned_head(whole) is whole
    assert aligned_head(torch.nn.Linear(8, 129)) is not whole
