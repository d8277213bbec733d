"""LoRA layers in fewer passes over memory, while a candidate is trained.

Symbols:
    x   inputs, n tokens x width
    W   frozen weights, outputs x width
    A   down projection of LoRA, rank x width
    B   up projection of LoRA, outputs x rank
    s   scaling of LoRA
    y   outputs, x W' + s (x A') B'

PEFT computes the second term, multiplies it by s, and adds it: three arrays as large as y, and two
more in the backward pass. Here the products are added to x W' as they are computed, and s
multiplies arrays of n x rank numbers. Source of the formula: Hu et al., 2021, "LoRA: Low-Rank
Adaptation of Large Language Models", section 4.1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch.nn.functional import linear

if TYPE_CHECKING:
    from collections.abc import Callable


def fused_lora(model: torch.nn.Module) -> dict[torch.nn.Module, Callable[..., Any]]:
    """Forward passes for the LoRA layers of a model that can be fused.

    These are plain LoRA without dropout on linear layers. The functions read the layers' weights
    at each call.

    Args:
        model: model with adapters of PEFT, of which one is active.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLinear)]
    return {layer: partial(_forward, layer) for layer in layers if _is_plain(layer)}


def _is_plain(layer: LoraLinear) -> bool:
    if type(layer.base_layer) is not torch.nn.Linear:
        return False
    adapters = layer.active_adapters
    return (
        len(adapters) == 1
        and not layer.merged
        and not layer.disable_adapters
        and adapters[0] in layer.lora_A
        and adapters[0] not in layer.lora_variant
        and layer.lora_B[adapters[0]].bias is None
        and isinstance(layer.lora_dropout[adapters[0]], torch.nn.Identity)
    )


def _forward(layer: LoraLinear, x: torch.Tensor) -> torch.Tensor:
    """Outputs of a layer, in the dtype of autocast if it is active and in that of x otherwise."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    (name,) = layer.active_adapters
    base = layer.base_layer
    y: torch.Tensor = _Fused.apply(
        x.to(dtype),
        base.weight.to(dtype),
        None if base.bias is None else base.bias.to(dtype),
        layer.lora_A[name].weight.to(dtype),
        layer.lora_B[name].weight.to(dtype),
        layer.scaling[name],
    )
    return y


class _Fused(torch.autograd.Function):
    """x W' + s (x A') B', with gradients by x, A and B."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        """Outputs, ... x outputs.

        Args:
            ctx: torch's context.
            x: inputs, ... x width.
            weight: frozen weights W.
            bias: frozen bias; None if there is none.
            down: A.
            up: B.
            scaling: s.
        """
        rows = x.flatten(0, -2)
        low = rows @ down.T
        y = linear(rows, weight, bias)
        y.addmm_(low, up.T, alpha=scaling)
        ctx.save_for_backward(rows, low, weight, down, up)
        ctx.scaling = scaling
        return y.unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401
        """Gradients by the inputs, A and B."""
        rows, low, weight, down, up = ctx.saved_tensors
        by_y = outer.flatten(0, -2)
        by_low = (by_y @ up).mul_(ctx.scaling)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = (by_y @ weight).addmm_(by_low, down).unflatten(0, outer.shape[:-1])
        by_up = (by_y.T @ low).mul_(ctx.scaling)
        return by_x, None, None, by_low.T @ rows, by_up, None
