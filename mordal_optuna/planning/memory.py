"""Memory of a candidate's training on one device, and what fits into it.

Symbols:
    w       bytes of a frozen weight: 2 in bf16, 4 in fp32
    T       trained parameters: projector and LoRA, kept in fp32
    d, i, l width, feed-forward width and layers of the LLM
    m       tokens of a micro-batch, padding included

Weights take w bytes each, trained parameters 16: their value, gradient and AdamW's two moments. A
token and layer keep about (10 d + 4 i) w bytes for the backward pass: 168 KiB for a Llama of 7B in
bf16, of which `benchmarks/alignment_throughput/casts.py` counts 167.9. With checkpointing a layer
keeps d w bytes a token, and one layer at a time all of them. Logits are computed in parts of at
most 2^28 bytes, of which about three are in memory at once (`alignment/loss.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mordal_optuna.planning.seconds import Sized

BYTES = {"bf16": 2, "fp32": 4}
# Bytes of a trained parameter, and bytes of logits in parts.
_TRAINED, _LOGITS = 16, 3 << 28
_WIDTHS, _FEEDS = 10, 4
# What the libraries take, and the share of a device's memory that can be used.
_CONTEXT, _USABLE = 1.5e9, 0.92


@dataclass(frozen=True)
class Memory:
    """Memory of a candidate's training, in bytes.

    Attributes:
        weights: frozen weights of LLM and encoder.
        trained: projector and LoRA with gradients and moments.
        logits: logits of some target tokens, and their gradients.
        context: what the libraries take.
        each_token: activations of a token of a micro-batch.
        each_token_recomputed: the same with gradient checkpointing.
        tokens: tokens of the largest micro-batch that the recipe makes.
        longest: tokens of the longest sample.
    """

    weights: float
    trained: float
    logits: float
    context: float
    each_token: float
    each_token_recomputed: float
    tokens: int
    longest: int

    @property
    def fixed(self) -> float:
        """Bytes beside the activations."""
        return self.weights + self.trained + self.logits + self.context

    @property
    def total(self) -> float:
        """Bytes with the largest micro-batch, as the recipe makes it."""
        return self.fixed + self.tokens * self.each_token

    def fitting_tokens(self, memory: float, *, recomputed: bool = False) -> int:
        """Most tokens of a micro-batch that fit, in steps of 256; 0 if nothing fits.

        Args:
            memory: bytes of the device.
            recomputed: whether activations are computed again.
        """
        each = self.each_token_recomputed if recomputed else self.each_token
        left = _USABLE * memory - self.fixed
        return max(0, int(left // each) // 256 * 256)

    def fits(self, memory: float) -> bool:
        """Whether the recipe fits as it is.

        Args:
            memory: bytes of the device.
        """
        return self.total <= _USABLE * memory


def training_memory(sized: Sized, *, world: int = 1) -> Memory:
    """Memory of a candidate's training on one device.

    Args:
        sized: the candidate.
        world: number of devices that share a global batch; each holds the whole model.
    """
    recipe, llm, encoder = sized.recipe, sized.llm, sized.encoder
    each = BYTES[recipe.precision]
    longest = int(sized.lengths.max(initial=1))
    samples = min(recipe.most_samples or recipe.batch_size, max(1, recipe.batch_size // world))
    tokens = samples * longest
    if recipe.micro_batch_tokens is not None:
        tokens = max(longest, min(tokens, recipe.micro_batch_tokens))
    kept = (_WIDTHS * llm.hidden + _FEEDS * llm.intermediate) * each
    thin = llm.hidden * each * llm.layers + kept
    targets = float(np.mean(sized.tokens.targets)) * samples
    logits = min(_LOGITS, 12.0 * targets * llm.vocabulary)
    return Memory(
        weights=float((llm.parameters + encoder.parameters) * each),
        trained=float((sized.projector + sized.lora) * _TRAINED),
        logits=logits,
        context=_CONTEXT,
        each_token=float(thin if sized.recomputes else kept * llm.layers),
        each_token_recomputed=float(thin),
        tokens=tokens,
        longest=longest,
    )
