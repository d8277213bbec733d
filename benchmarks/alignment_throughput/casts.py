"""Casts, and bytes kept for the backward pass, of one layer of a 7B Llama with LoRA in bf16.

    python -m benchmarks.alignment_throughput.casts

Counted, not timed, so it needs no GPU. Casts are torch's calls of `_to_copy` that change the
dtype, forwards and backwards. Bytes are those of tensors saved by autograd, each storage once.
What a layer adds is the difference of two layers and one; what a token adds, that of two lengths.
The first row is PEFT's own forward pass, as in training with dropout. The second leaves out the
casts of LoRA's inputs to float32 and back to bf16, as with `compile`. The third is that of other
trainings, which also adds the products of LoRA as they are computed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.alignment_throughput.gpu import joined
from benchmarks.alignment_throughput.parts import LARGE, TINY, Shape
from mordal_optuna.alignment.gradients import replaced
from mordal_optuna.alignment.lora import fused_lora
from mordal_optuna.alignment.loss import TargetLoss

if TYPE_CHECKING:
    from mordal_optuna.models.assemble import Vlm

CPU = torch.device("cpu")
LENGTHS = (16, 48)
KINDS = ("PEFT's own", "in one dtype", "fused")


class Casts(TorchDispatchMode):
    """Counts changes of dtype."""

    def __init__(self) -> None:
        """Start at 0."""
        super().__init__()
        self.number = 0
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count it if it is a cast."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.dtype != args[0].dtype:
            self.number += 1
            self.elements += result.numel()
        return result


@dataclass(frozen=True)
class Counted:
    """What one forward and backward pass took.

    Attributes:
        casts: number of casts.
        cast_elements: numbers that were cast.
        kept_bytes: bytes kept for the backward pass, weights left out.
    """

    casts: int
    cast_elements: int
    kept_bytes: int


def counted(vlm: Vlm, length: int, kind: str) -> Counted:
    """Count one forward and backward pass over random embeddings.

    Args:
        vlm: the pair.
        length: number of tokens of the single row.
        kind: one of `KINDS`.
    """
    loss = TargetLoss(vlm, precision="bf16", device=CPU)
    weights = {p.untyped_storage().data_ptr() for p in vlm.model.parameters()}
    kept: dict[int, int] = {}
    held = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)  # so that no other storage gets its address
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    width = vlm.model.get_input_embeddings().embedding_dim
    embeddings = torch.randn(1, length, width, dtype=torch.bfloat16, requires_grad=True)
    with ExitStack() as contexts:
        if kind != "PEFT's own":
            contexts.enter_context(loss.in_one_dtype())
        if kind == "fused":
            contexts.enter_context(replaced(fused_lora(vlm.model)))
        casts = contexts.enter_context(Casts())
        contexts.enter_context(
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        )
        with torch.autocast("cpu", torch.bfloat16):
            hidden = vlm.model.model.language_model(inputs_embeds=embeddings, use_cache=False)
        hidden.last_hidden_state.float().sum().backward()
    return Counted(casts.number, casts.elements, sum(kept.values()))


def of_a_layer(pairs: dict[int, Vlm], kind: str) -> tuple[float, float, float]:
    """Casts of a layer, and its cast numbers and kept bytes per token.

    Args:
        pairs: a pair with one layer and one with two, by their number.
        kind: one of `KINDS`.
    """
    found = {
        (layers, length): counted(vlm, length, kind)
        for layers, vlm in pairs.items()
        for length in LENGTHS
    }
    casts = found[2, LENGTHS[1]].casts - found[1, LENGTHS[1]].casts

    def per_token(name: str) -> float:
        added = [getattr(found[2, n], name) - getattr(found[1, n], name) for n in LENGTHS]
        return float(added[1] - added[0]) / (LENGTHS[1] - LENGTHS[0])

    return casts, per_token("cast_elements"), per_token("kept_bytes")


def pairs_of(shape: Shape) -> dict[int, Vlm]:
    """A pair with one layer and one with two, by their number.

    Args:
        shape: other sizes of the pair.
    """
    return {
        layers: joined(replace(shape, llm={**shape.llm, "num_hidden_layers": layers}), CPU, None)
        for layers in (1, 2)
    }


def main() -> None:
    """Count and print the table."""
    pairs = pairs_of(replace(LARGE, vision=TINY.vision, llm={**LARGE.llm, "vocab_size": 512}))
    print(f"{'LoRA':20}{'casts a layer':>15}{'cast numbers a token':>22}{'KiB kept a token':>18}")
    for kind in KINDS:
        casts, elements, kept = of_a_layer(pairs, kind)
        print(f"{kind:20}{casts:15.0f}{elements:22,.0f}{kept / 1024:18.1f}", flush=True)


if __name__ == "__main__":
    main()
