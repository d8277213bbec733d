"""The optimiser: which parameters Muon gets, and the learning rates."""

from __future__ import annotations

import pytest
import torch

from mordal_optuna.zoo.pretraining.optimizer import Optimizer, Schedule


class Model(torch.nn.Module):
    """A matrix outside and a matrix inside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Linear(4, 4)
        self.layer = torch.nn.Linear(4, 4)


def test_muon_gets_the_matrices_of_layers_and_adamw_everything_else() -> None:
    model = Model()
    optimizer = Optimizer(model.named_parameters(), Schedule(10, 1e-3))
    (muon, _), (adam, _) = optimizer._parts
    ids = [{id(p) for g in part.param_groups for p in g["params"]} for part in (muon, adam)]
    assert ids[0] == {id(model.layer.weight)}
    others = (model.layer.bias, model.embedding.weight, model.embedding.bias)
    assert ids[1] == {id(parameter) for parameter in others}


def test_rates_warm_up_for_a_tenth_and_decay_to_five_percent() -> None:
    model = Model()
    schedule = Schedule(100, 1e-3, 0.02)
    optimizer = Optimizer(model.named_parameters(), schedule)
    rates = []
    for _ in range(schedule.steps):
        model.layer(model.embedding(torch.ones(1, 4))).sum().backward()
        optimizer.step()
        rates.append([part.param_groups[0]["lr"] for part, _ in optimizer._parts])
    muon, adam = zip(*rates, strict=True)
    assert adam[0] == pytest.approx(1e-4)
    assert max(adam) == pytest.approx(1e-3, rel=0.03)
    assert adam.index(max(adam)) == 9
    assert adam[-1] == pytest.approx(5e-5, rel=0.01)
    assert [m / a for m, a in rates] == pytest.approx([20.0] * 100)
    assert muon[-1] < muon[50] < muon[9]


def test_gradients_are_clipped_and_cleared() -> None:
    """A gradient that is a million times larger gives the same first step."""
    weights = []
    for scale in (1e3, 1e9):
        torch.manual_seed(0)
        model = Model()
        optimizer = Optimizer(model.named_parameters(), Schedule(10, 1e-3))
        (model.layer(model.embedding(torch.ones(1, 4))).sum() * scale).backward()
        optimizer.step()
        assert all(parameter.grad is None for parameter in model.parameters())
        weights.append(model.embedding.weight.detach().clone())
    assert torch.allclose(*weights, atol=1e-6)
