"""The training loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mordal_optuna.zoo.pretraining.loop import train
from mordal_optuna.zoo.pretraining.optimizer import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_one_batch_is_drawn_per_step_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.add_module("layer", torch.nn.Linear(3, 3))
    model.eval()
    events: list[str] = []
    losses: list[float] = []

    def batches() -> Iterator[torch.Tensor]:
        while True:
            events.append("batch")
            yield torch.eye(3)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        events.append("loss")
        value = ((model(batch) - 2 * batch) ** 2).mean()
        losses.append(float(value))
        return value

    train(model, Schedule(40, 0.05), batches(), loss, lambda n: events.append(f"step {n}"))
    assert events == ["batch", "loss", "step 1"] * 40
    assert losses[-1] < 0.5 * losses[0]
    assert model.training


def test_no_step_draws_no_batch() -> None:
    model = torch.nn.Sequential()
    model.add_module("layer", torch.nn.Linear(1, 1))
    batches = iter([torch.ones(1, 1)])
    train(model, Schedule(0, 1e-3), batches, lambda b: model(b).sum(), lambda _: None)
    assert len(list(batches)) == 1
