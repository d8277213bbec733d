"""Where the time of a candidate goes, and how much of the device's peak its training reaches."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import torch

from mordal_optuna.alignment.peaks import peak_operations
from mordal_optuna.alignment.work import Work  # noqa: TC001 - read from here, too

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mordal_optuna.alignment.batches import Batch, Share

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
