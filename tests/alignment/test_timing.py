"""Where time goes: parts that add up, times of a queue behind the process, counted operations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch

from mordal_optuna.alignment import timing
from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.alignment.timing import Clock, Part, Work
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.models.assemble import assemble
from mordal_optuna.pool import ModelSource
from mordal_optuna.study.times import PARTS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings

CPU = torch.device("cpu")


class Time:
    """A time that passes when told to, and a device whose queue runs behind it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue = 0.0  # when the device has done what is queued

    def event(self) -> Event:
        """A new event of the queue."""
        return Event(self)


class Event:
    """As `torch.cuda.Event`: recorded now, and reached once the queue is done."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._at = float("inf")

    def record(self) -> None:
        """Reached when all that is queued now is done."""
        self._at = max(self._time.now, self._time.queue)

    def query(self) -> bool:
        """Whether it is reached."""
        return self._time.now >= self._at

    def synchronize(self) -> None:
        """Wait until it is reached."""
        self._time.now = max(self._time.now, self._at)

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds between two events that are reached."""
        assert self.query()
        assert other.query(), "a CUDA event gives no time before it is reached"
        return 1000 * (other._at - self._at)


def test_the_parts_of_nested_spans_add_up_to_the_whole() -> None:
    time = Time()
    clock = Clock(CPU, now=lambda: time.now)
    with clock.span("other"):
        time.now += 1
        with clock.span("training"):
            time.now += 2
            for _ in range(2):
                with clock.queued("encoding"):
                    time.now += 4
        with clock.span("saving"):
            time.now += 8
    taken = clock.take(world=2)
    assert taken == {"encoding": 16.0, "training": 4.0, "saving": 16.0, "other": 2.0}
    assert sum(taken.values()) == 2 * time.now
    assert clock.take() == {}


def test_a_part_that_fails_is_counted_and_the_next_one_is_not_disturbed() -> None:
    time = Time()
    clock = Clock(CPU, now=lambda: time.now, event=time.event)

    def fail() -> None:
        with clock.span("training"):
            with clock.queued("encoding"):
                time.queue += 100
            time.now += 1
            raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        fail()
    assert time.now == 1, "a device that may have failed is not waited for"
    with clock.span("saving"):
        time.now += 2
    assert clock.take() == {"training": 1.0, "saving": 2.0}


def test_on_a_gpu_work_counts_where_it_was_queued() -> None:
    """And waiting only while the queue is empty.

    After 1 s of waiting, the process queues 3 s of encoding and 5 s of training at once, and waits
    for data from 3 s to 10 s. The device has nothing to do from 9 s to 10 s.
    """
    time = Time()
    clock = Clock(CPU, now=lambda: time.now, event=time.event)

    def compute(seconds: float) -> None:
        time.queue = max(time.queue, time.now) + seconds

    with clock.span("training"):
        with clock.queued("waiting"):
            time.now += 1
        with clock.queued("encoding"):
            compute(3)
        compute(5)
        time.now += 2
        with clock.queued("waiting"):
            time.now += 7
        compute(1)
        time.now = time.queue  # the losses are read
    taken = clock.take()
    assert taken == {"waiting": 2.0, "encoding": 3.0, "training": 6.0}
    assert sum(taken.values()) == time.now == time.queue == 11.0


def test_what_is_queued_is_resolved_on_the_way_so_that_few_events_are_kept() -> None:
    time = Time()
    clock = Clock(CPU, now=lambda: time.now, event=time.event)
    with clock.span("training"):
        for _ in range(100):
            with clock.queued("encoding"):
                time.queue = time.now + 1
            time.now += 2
            assert len(clock._queued) <= 2
    assert clock.take() == {"encoding": 100.0, "training": 100.0}


def test_training_counts_its_tokens_its_padding_and_its_parts(
    zoo: Path,
    data: AlignmentSet,
    settings: AlignmentSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peaks: list[str] = []

    def peak(_: torch.device, precision: str) -> float:
        peaks.append(precision)
        return 1e12

    monkeypatch.setattr(timing, "peak_operations", peak)
    encoder = ModelSource("clip", str(zoo / "encoders" / "clip-t"))
    llm = ModelSource("llama", str(zoo / "llms" / "llama-t"))
    vlm = assemble(encoder, llm, lora=settings.lora, precision="fp32", seed=0, device=CPU)
    clock = Clock(CPU)
    trainer = Trainer(
        vlm,
        settings=settings,
        data=data,
        seed=0,
        accelerator=open_accelerator(CPU),
        device=CPU,
        clock=clock,
    )
    trainer.run(16, lambda _: None)
    taken = clock.take(precision="bf16")
    lengths = [trainer._conversations.encode(data.sample(n)).length for n in range(16)]
    assert taken["tokens"] == sum(lengths)
    assert taken["tokens"] < taken["computed"] <= 16 * max(lengths)
    assert {"checking", "waiting", "encoding", "training"} <= taken.keys()
    assert taken["possible"] == taken["training"] * 1e12
    assert taken["operations"] > 4 * trainer._work.frozen * taken["tokens"]
    trainer.run(24, lambda _: None)
    clock.take(precision="bf16")
    assert peaks == ["bf16"], "measured once"


def test_every_part_has_its_label() -> None:
    assert list(get_args(Part)) == list(PARTS)


def test_a_share_without_usable_samples_counts_nothing() -> None:
    clock = Clock(CPU)
    skipped = SimpleNamespace(length=0, images=1)
    share: Any = SimpleNamespace(encoded=[skipped], targets=0)
    clock.trained(share, Work(1, 1, 1, 1, 1))
    assert clock.take().get("operations") is None
