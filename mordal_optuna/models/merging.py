"""LoRA merged into the LLM for a while, so that a linear layer is one matrix product in scoring.

The base weights are copied and put back, since subtracting what was added would leave rounding:
training goes on with equal bits. The copies lie in the computer's memory (14 GB for an LLM of 7
billion parameters in bf16), not in that of the device.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from peft.tuners.lora import LoraLayer
from torch.distributed.tensor import DTensor

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from mordal_optuna.models.assemble import Vlm


@contextmanager
def merged_meanwhile(vlm: Vlm) -> Iterator[None]:
    """Give a candidate the weights of its export; afterwards it is as before, bit by bit.

    Args:
        vlm: the candidate, which may be trained any further.

    Raises:
        ConfigError: if the LLM's weights are sharded over processes.
    """
    layers = [layer for layer in vlm.model.modules() if isinstance(layer, LoraLayer)]
    bases: list[torch.Tensor] = [
        layer.get_base_layer().get_parameter("weight") for layer in layers
    ]
    if any(isinstance(weight, DTensor) for weight in bases):
        raise ConfigError(["evaluation.merged: needs whole weights; FSDP shards them"])
    kept = [weight.detach().to("cpu", copy=True) for weight in bases]
    try:
        with _exported_projector(vlm):
            for layer in layers:
                layer.merge(safe_merge=True)
            yield
    finally:
        for layer, copy in zip(layers, kept, strict=True):
            # Not `bases`: merging gives a layer other data, and maybe another parameter.
            layer.get_base_layer().get_parameter("weight").data.copy_(copy)
            layer.merged_adapters.clear()


@contextmanager
def _exported_projector(vlm: Vlm) -> Iterator[None]:
    """Compute the projector in the LLM's dtype, as an export does."""
    projector = vlm.model.model.multi_modal_projector
    before, after = dict(projector._forward_pre_hooks), dict(projector._forward_hooks)
    kept = [(parameter, parameter.data) for parameter in projector.parameters()]
    dtype: torch.dtype = vlm.model.get_input_embeddings().weight.dtype
    projector._forward_pre_hooks.clear()
    projector._forward_hooks.clear()
    for parameter, data in kept:
        parameter.data = data.to(dtype)
    try:
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data
        projector._forward_pre_hooks.update(before)
        projector._forward_hooks.update(after)
