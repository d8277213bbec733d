"""The training loop of all pretraining."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from mordal_optuna.zoo.pretraining.optimizer import Optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.pretraining.optimizer import Schedule

B = TypeVar("B")


def train(
    model: torch.nn.Module,
    schedule: Schedule,
    batches: Iterable[B],
    loss: Callable[[B], torch.Tensor],
    advance: Advance,
) -> None:
    """Train all parameters of a model.

    Batches are drawn one at a time, so that a source that shares a random generator with the loss
    keeps its order of draws.

    Args:
        model: the model; set to training mode.
        schedule: number of steps and learning rates.
        batches: source of batches; no more than one per step is drawn.
        loss: computes the scalar loss of a batch.
        advance: callback that receives the number of steps just done.
    """
    model.train()
    optimizer = Optimizer(model.named_parameters(), schedule)
    for batch in islice(batches, schedule.steps):
        loss(batch).backward()
        optimizer.step()
        advance(1)
