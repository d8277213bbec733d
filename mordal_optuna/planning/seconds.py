"""Device-seconds of training, scoring and comparing, from sizes of models and rates of a device.

Symbols:
    F, L, H, P   parameters of the LLM's matrices, LoRA, head and projector, see `alignment.work`
    t, y         tokens and target tokens of a sample
    d, l         width and layers of the LLM
    R            floating-point operations a second
    a, b         seconds of an operation however small, and of an element of an elementwise one

A training sample takes (4 F t + 6 L t + 4 H y + 6 P v) / R for its matrix products, 6 t^2 d l / R
for attention (a causal mask halves it), and once more 2 F t / R where activations are computed
again. Elementwise operations take b for each of their elements, about 89 a token, layer and unit
of width, and each operation at least a: 164 a layer and micro-batch, and 42 a layer and step for
the gradients of LoRA's 14 matrices; 70 a micro-batch and 100 a step beside the layers. A step of
generation reads all weights once, or takes 75 operations a layer.

Operations and elements of layers were counted for Llama, Gemma and Qwen3 with LoRA in PyTorch 2.15
by `benchmarks/plan_accuracy/operations.py`. They matter for tiny models alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.alignment.memory import TokenBudget, parts
from mordal_optuna.alignment.work import Work

if TYPE_CHECKING:
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.planning.devices import Device
    from mordal_optuna.planning.shapes import EncoderShape, LlmShape
    from mordal_optuna.planning.tokens import Tokens

# Operations of a decoder layer with LoRA, forward and backward, and forward alone; operations of
# an encoder's layer; elements of elementwise operations for each token and unit of width.
TRAINED_LAYER, FORWARD_LAYER, ENCODER_LAYER = 164, 75, 15
TRAINED_ELEMENTS, FORWARD_ELEMENTS, ENCODER_ELEMENTS = 89, 39, 20
# Operations of an optimiser step for each layer: gradients of LoRA's matrices are divided, clipped
# and applied.
_STEP_LAYER = 42
# Operations beside the layers: embeddings, projector and loss of a micro-batch; losses, the rate
# and the projector's update of a step.
_MICRO_BATCH, _STEP = 70, 100
# Bytes a second at which weights are read from a disk, and seconds to build a model.
_DISK, _BUILDING = 1e9, 0.3
# Tokens of a question beside its image, and of a short answer with its end.
QUESTION, ANSWER = 40, 4


@dataclass(frozen=True)
class Sized:
    """A candidate's sizes under a recipe.

    Attributes:
        encoder: sizes of the encoder.
        llm: sizes of the LLM.
        recipe: alignment recipe.
        tokens: tokens of samples by the LLM.
        device: the device.
    """

    encoder: EncoderShape
    llm: LlmShape
    recipe: AlignmentSettings
    tokens: Tokens
    device: Device

    @property
    def projector(self) -> int:
        """P: two layers with biases, from the encoder's width to the LLM's."""
        d = self.llm.hidden
        return self.encoder.width * d + d + d * d + d

    @property
    def lora(self) -> int:
        """L; 0 where the projector alone is trained."""
        return self.llm.lora(self.recipe.lora.rank) if self.recipe.lora else 0

    @property
    def lengths(self) -> np.ndarray:
        """T of each sample that was counted."""
        return self.tokens.lengths(self.encoder.image_tokens, self.recipe.max_length)

    @property
    def recomputes(self) -> bool:
        """Whether activations are computed again by the recipe; `auto` does so where need be."""
        return self.recipe.gradient_checkpointing is True


@dataclass(frozen=True)
class Pass:
    """What one pass over a batch of samples computes.

    Attributes:
        tokens: tokens without padding.
        computed: tokens with padding.
        micro_batches: number of micro-batches.
    """

    tokens: float
    computed: float
    micro_batches: float


def mean_batch(sized: Sized, ranks: int = 1) -> Pass:
    """The mean global batch, made of the samples that were counted, as training splits it.

    Args:
        sized: the candidate.
        ranks: number of processes that share a batch.
    """
    recipe = sized.recipe
    share, lengths = max(1, recipe.batch_size // ranks), sized.lengths
    budget = TokenBudget(recipe.most_samples, recipe.micro_batch_tokens)
    batching = recipe.batching if sized.llm.packs else "grouped"
    computed, counts = [], []
    order = np.random.default_rng(0)
    for start in range(0, max(1, len(lengths)), share):
        chosen = lengths[start : start + share]
        if len(chosen) < share:  # as many samples as a share has, drawn again
            chosen = order.choice(lengths, share)
        ordered = np.sort(chosen).tolist()
        rows = list(parts(ordered, budget, batching))
        joined = batching == "packed"
        computed.append(
            sum(sum(ordered[a:b]) if joined else (b - a) * ordered[b - 1] for a, b in rows)
        )
        counts.append(len(rows))
    times = ranks  # the other ranks' shares are alike
    return Pass(
        float(np.mean(lengths)) * recipe.batch_size,
        float(np.mean(computed)) * times,
        float(np.mean(counts)) * times,
    )


def train_seconds(sized: Sized, *, lora: bool = True) -> float:
    """Device-seconds of training on one sample, its image's features given.

    Args:
        sized: the candidate.
        lora: False for the warm-up of the projector, with which LLMs are compared.
    """
    llm, device, batch = sized.llm, sized.device, mean_batch(sized)
    size = sized.recipe.batch_size
    t = batch.computed / size
    work = Work(
        llm.linear,
        sized.lora if lora else 0,
        llm.head,
        sized.projector,
        sized.encoder.image_tokens,
    )
    images = float(np.mean(sized.tokens.images))
    targets = float(np.mean(sized.tokens.targets))
    products = work.of(t, targets, images)
    products += 6.0 * t * float(np.mean(sized.lengths)) * llm.hidden * llm.layers
    if sized.recomputes:
        products += 2.0 * llm.linear * t
    elements = TRAINED_ELEMENTS * t * llm.hidden * llm.layers
    operations = llm.layers * (TRAINED_LAYER * batch.micro_batches + (_STEP_LAYER if lora else 0))
    operations += _MICRO_BATCH * batch.micro_batches + _STEP
    # A sample is tokenised twice: when its rung is checked, and when it is trained on.
    fixed = operations * device.operation_seconds / size + 2 * device.host_seconds
    return products / device.reached + elements * device.element_seconds + fixed


def encode_seconds(encoder: EncoderShape, device: Device, *, at_once: int = 16) -> float:
    """Device-seconds of one image's features.

    Args:
        encoder: sizes of the encoder.
        device: the device.
        at_once: number of images that are encoded together.
    """
    elements = ENCODER_ELEMENTS * encoder.sequence * encoder.width * encoder.layers
    fixed = ENCODER_LAYER * encoder.layers * device.operation_seconds / at_once
    seconds = encoder.operations / device.reached
    return seconds + elements * device.element_seconds + fixed + device.host_seconds


def load_seconds(sized: Sized, bytes_each: int) -> float:
    """Device-seconds in which a candidate is loaded.

    Args:
        sized: the candidate.
        bytes_each: bytes of a parameter.
    """
    weights = (sized.llm.parameters + sized.encoder.parameters) * bytes_each
    return _BUILDING + weights / _DISK


def score_seconds(
    sized: Sized,
    *,
    batch_size: int,
    new_tokens: int | None,
    likelihood: bool,
    bytes_each: int,
) -> float:
    """Device-seconds of one document: its image, its answer, and the answer's likelihood.

    Args:
        sized: the candidate.
        batch_size: number of documents answered at once.
        new_tokens: most tokens of an answer; None if it is not known.
        likelihood: whether the likelihood of the reference answer is measured.
        bytes_each: bytes of a parameter.
    """
    llm, device = sized.llm, sized.device
    length = sized.encoder.image_tokens + QUESTION
    steps = min(new_tokens or ANSWER, ANSWER)
    passes = 2 if likelihood else 1
    products = 2.0 * (llm.linear + sized.lora) * (length * passes + steps)
    products += 2.0 * llm.head * (steps + 1 + (passes - 1) * ANSWER)
    products += passes * 2.0 * length**2 * llm.hidden * llm.layers
    elements = FORWARD_ELEMENTS * length * passes * llm.hidden * llm.layers
    calls = FORWARD_LAYER * llm.layers * device.operation_seconds
    step = max(calls, (llm.parameters * bytes_each) / device.bandwidth)
    seconds = products / device.reached + elements * device.element_seconds
    seconds += (calls * passes + step * steps) / batch_size
    image = encode_seconds(sized.encoder, device, at_once=batch_size)
    return seconds + image + device.host_seconds
