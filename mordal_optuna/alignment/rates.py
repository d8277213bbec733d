"""Rates of this machine's device, measured in about a second, for estimates beforehand.

Symbols:
    R   floating-point operations a second of matrix products of a model's shapes
    a   seconds of an operation however small, its share of the backward pass included
    b   seconds of each further element of an elementwise operation
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import silu

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Seconds in which each figure is measured, and size of the tensors of `a` and of `b`.
_EACH = 0.25
_SMALL, _LARGE = 16, 1 << 18
# Operations of the small network whose time gives a: those that torch dispatches in it.
_LAYERS = 8


@dataclass(frozen=True)
class Rates:
    """Measured rates.

    Attributes:
        products: R.
        operation_seconds: a.
        element_seconds: b.
        bandwidth: bytes a second at which a large tensor is read.
    """

    products: float
    operation_seconds: float
    element_seconds: float
    bandwidth: float


def measure(device: torch.device, precision: str, shapes: Sequence[tuple[int, int, int]]) -> Rates:
    """Measure a device.

    Args:
        device: torch device.
        precision: `fp32` or `bf16`.
        shapes: rows, inner size and columns of matrix products; R is their mean rate by time.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    done, spent = 0.0, 0.0
    for rows, inner, columns in shapes:
        a = torch.full((rows, inner), 0.5, device=device, dtype=dtype)
        b = torch.full((inner, columns), 0.5, device=device, dtype=dtype)
        each = _seconds(partial(torch.mm, a, b), device, _EACH / len(shapes))
        done, spent = done + 2.0 * rows * inner * columns, spent + each
    large = torch.full((_LARGE,), 0.5, device=device, dtype=torch.float32)
    small_seconds = _operation(device)
    pass_seconds = _seconds(lambda: silu(large), device, _EACH)
    each = max(pass_seconds - small_seconds, 0.0) / _LARGE
    bandwidth = 2 * large.nbytes / max(pass_seconds, 1e-9)
    return Rates(done / spent, small_seconds, each, bandwidth)


def _operation(device: torch.device) -> float:
    """a: of a network of small layers, forward and backward, for each of its operations."""
    layers = [torch.nn.Linear(_SMALL, _SMALL, device=device) for _ in range(_LAYERS)]
    value = torch.ones(_SMALL, _SMALL, device=device, requires_grad=True)

    def step() -> torch.Tensor:
        hidden = value
        for layer in layers:
            hidden = hidden * torch.sigmoid(layer(hidden))
        return torch.autograd.grad(hidden.sum(), value)[0]

    # Of a layer: a product with its bias, sigmoid and product forward; two products of numbers,
    # sigmoid's derivative, a product of matrices and a sum of gradients backward.
    return _seconds(step, device, _EACH) / (8 * _LAYERS + 2)


def _seconds(work: Callable[[], object], device: torch.device, least: float) -> float:
    """Mean seconds of some work, which is repeated for a time."""
    work()
    count, begun = 0, perf_counter()
    while (now := perf_counter() - begun) < least or not count:
        work()
        count += 1
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        now = perf_counter() - begun
    return now / count
