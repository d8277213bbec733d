"""A batch size that does not fit is halved, and tried again later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mordal_optuna.evaluation.sizes import BatchSize

if TYPE_CHECKING:
    import pytest


def test_the_size_that_was_asked_for_is_kept_while_it_fits(cpu: torch.device) -> None:
    size = BatchSize(24, cpu)
    assert (size.now, size.portion(100)) == (24, 100)
    size.succeed()
    assert size.now == 24


def test_a_halved_size_grows_again_after_ever_more_documents(cpu: torch.device) -> None:
    size = BatchSize(16, cpu)
    portions = []
    for _ in range(2):
        size.fail()
        assert size.now == 8
        portions.append(size.portion(10**6))
        size.succeed()
        assert size.now == 16
    assert portions == [128, 256]
    assert size.portion(7) == 7


def test_one_document_is_the_least(cpu: torch.device) -> None:
    size = BatchSize(1, cpu)
    size.fail()
    assert size.now == 1


def test_auto_doubles_on_cuda_until_half_of_the_memory_is_used(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert BatchSize(None, cpu).now == 32
    size = BatchSize(None, torch.device("cuda"))
    monkeypatch.setattr(BatchSize, "_used", lambda self: self.now / 150)
    sizes = [size.now]
    for _ in range(5):
        size.succeed()
        sizes.append(size.now)
    assert sizes == [16, 32, 64, 128, 128, 128]
    assert size.portion(10**6) == 10**6


def test_auto_does_not_try_again_what_has_not_fitted(
    cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(BatchSize, "_used", lambda _: 0.1)
    size = BatchSize(None, torch.device("cuda"))
    size.succeed()
    size.fail()
    size.succeed()
    assert size.now == 16
