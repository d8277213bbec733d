"""Where the time of a candidate goes, and how much of the device's peak its training reaches.

Symbols:
    F   parameters of the LLM's frozen matrices, embeddings and head left out
    L   parameters of LoRA
    H   parameters of the head, P those of the projector
    t   tokens of samples, without padding; y target tokens; v tokens of images

A step computes 4 F t + 6 L t + 4 H y + 6 P v floating-point operations: 2 a parameter and token in
the forward pass, as many for the gradients of activations, and as many again for those of trained
weights (Kaplan et al. 2020, section 2.1). Attention scores, the encoder and what checkpointing
computes again are not counted, so the share of the peak is too low rather than too high.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import torch

from mordal_optuna.alignment.peaks import peak_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mordal_optuna.alignment.batches import Batch, Share
    from mordal_optuna.models.assemble import Vlm

# What time is spent on. In the order of a rung: loading models and checkpoints, tokenising and
# checking samples, encoding images, optimiser steps, waiting for prepared samples, writing
# checkpoints; then waiting for documents, generating answers, judging them; and the rest.
Part = Literal[
    "loading",
    "checking",
    "encoding",
    "training",
    "waiting",
    "saving",
    "reading",
    "generating",
    "judging",
    "other",
]


class Clock:
    """Adds up seconds by part, and what was computed in them; for one thread.

    Spans may be nested: the time of an inner one is not part of the outer one.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        now: Callable[[], float] = perf_counter,
        event: Callable[[], Any] | None = None,
    ) -> None:
        """Start at 0.

        Args:
            device: torch device whose time is measured.
            now: time in seconds.
            event: makes a timing event of the device's stream; None for CUDA's on CUDA devices,
                and for none elsewhere.
        """
        self._device = device
        self._now = now
        cuda = (lambda: torch.cuda.Event(enable_timing=True)) if device.type == "cuda" else None
        self._event = event or cuda
        self._seconds: dict[str, float] = defaultdict(float)
        self._counts: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []  # seconds of inner spans, for each open span
        self._peaks: dict[str, float | None] = {}  # by precision
        self._queued: list[tuple[Part, Any, Any]] = []  # with events before and after

    @contextmanager
    def span(self, part: Part) -> Iterator[None]:
        """Count the time until the end of the block, which waits for what `queued` has queued.

        Args:
            part: what the time is spent on.
        """
        begun = self._now()
        self._inner.append(0.0)
        done = False
        try:
            yield
            done = True
        finally:
            if not done:  # the device may have failed, and is not waited for
                self._queued.clear()
            self._settle(wait=True)
            whole = self._now() - begun
            self._seconds[part] += max(whole - self._inner.pop(), 0.0)
            if self._inner:
                self._inner[-1] += whole

    @contextmanager
    def queued(self, part: Part) -> Iterator[None]:
        """Count the device's time between the beginning and the end of the block, inside a span.

        A GPU works behind the process: what the block queues there is timed by events, without
        waiting for it. While the process waits for samples, the time is that in which the device
        had nothing to do. On other devices the same as `span`.

        Args:
            part: what the time is spent on.
        """
        if self._event is None:
            with self.span(part):
                yield
            return
        before, after = self._event(), self._event()
        before.record()
        try:
            yield
        finally:
            after.record()
            self._queued.append((part, before, after))
            self._settle(wait=False)

    def computed(self, batch: Batch) -> Batch:
        """Count the tokens of a micro-batch, padding included.

        Args:
            batch: micro-batch.

        Returns:
            The same micro-batch.
        """
        self._counts["computed"] += batch["input_ids"].numel()
        return batch

    def trained(self, share: Share, work: Work) -> None:
        """Count a share that has been trained on.

        Args:
            share: this rank's part of a global batch.
            work: operations of the candidate.
        """
        tokens = sum(sample.length for sample in share.encoded)
        images = sum(sample.images for sample in share.encoded if sample.length)
        self._counts["tokens"] += tokens
        self._counts["operations"] += work.of(tokens, share.targets, images)

    def take(self, world: int = 1, precision: str = "fp32") -> dict[str, float]:
        """The sums since the last call, for all ranks, which do the same work at the same time.

        Args:
            world: number of ranks.
            precision: `fp32` or `bf16`, in which the candidate was trained.

        Returns:
            Device-seconds by part, to milliseconds; and if something was trained, `tokens` without
            padding, tokens `computed` with it and, where the device's peak is known,
            floating-point `operations` and those `possible` in the same time.
        """
        taken = {part: round(s * world, 3) for part, s in self._seconds.items()}
        counts = {name: value * world for name, value in self._counts.items()}
        self._seconds.clear()
        self._counts.clear()
        operations = counts.pop("operations", 0.0)
        if operations and precision not in self._peaks:
            self._peaks[precision] = peak_operations(self._device, precision)
        peak = self._peaks.get(precision) if operations else None
        if peak:
            counts |= {"operations": operations, "possible": taken["training"] * peak}
        return taken | counts

    def _settle(self, *, wait: bool) -> None:
        """Add the time of queued blocks that the device has finished, or of all."""
        while self._queued and (wait or self._queued[0][2].query()):
            part, before, after = self._queued.pop(0)
            after.synchronize()
            seconds = before.elapsed_time(after) / 1000
            self._seconds[part] += seconds
            if self._inner:
                self._inner[-1] += seconds


@dataclass(frozen=True)
class Work:
    """Parameters that a candidate's operations are counted by; see the symbols above.

    Attributes:
        frozen: F.
        lora: L.
        head: H.
        projector: P.
        image_tokens: tokens of one image.
    """

    frozen: int
    lora: int
    head: int
    projector: int
    image_tokens: int

    @classmethod
    def per_token(cls, vlm: Vlm) -> Work:
        """Count a candidate's parameters.

        Args:
            vlm: the candidate.
        """
        model = vlm.model.model
        llm = dict(model.language_model.named_parameters())
        embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
        frozen = sum(
            p.numel()
            for name, p in llm.items()
            if "lora_" not in name and p.dim() > 1 and id(p) not in embeddings
        )
        return cls(
            frozen,
            sum(p.numel() for name, p in llm.items() if "lora_" in name),
            vlm.model.lm_head.weight.numel(),
            sum(p.numel() for p in model.multi_modal_projector.parameters()),
            vlm.image_tokens,
        )

    def of(self, tokens: int, targets: int, images: int) -> float:
        """Floating-point operations of forward and backward passes.

        Args:
            tokens: t.
            targets: y.
            images: number of images.
        """
        seen = images * self.image_tokens
        return float(
            (4 * self.frozen + 6 * self.lora) * tokens
            + 4 * self.head * targets
            + 6 * self.projector * seen
        )
