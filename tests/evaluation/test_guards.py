"""Guards: lmms-eval leaves no traces in the process that runs it."""

from __future__ import annotations

import os
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from loguru import logger

from mordal_optuna.evaluation.guards import (
    import_lmms_eval,
    launch_hidden,
    quiet,
    random_states_kept,
)


def test_the_import_keeps_loguru_sinks() -> None:
    sink: list[str] = []
    handle = logger.add(sink.append)
    import_lmms_eval()
    logger.info("heard")
    logger.remove(handle)
    assert any("heard" in line for line in sink)


def test_random_states_are_restored_after_an_error_too() -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(1))  # noqa: NPY002

    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    expected = draws()
    random.setstate(before[0])
    np.random.set_state(before[1])  # noqa: NPY002
    torch.random.set_rng_state(before[2])

    @random_states_kept()
    def reseed_and_fail() -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        raise KeyError

    with pytest.raises(KeyError):
        reseed_and_fail()
    assert draws() == expected


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_discarded_and_warnings_filters_are_restored(
    capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    before = warnings.filters[:]
    with quiet():
        getattr(sys, stream).write("chatter")
        warnings.simplefilter("ignore")
    assert capsys.readouterr() == ("", "")
    assert warnings.filters == before
    getattr(sys, stream).write("heard")
    assert "heard" in "".join(capsys.readouterr())


def test_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="seen"), quiet():
        raise ValueError("seen")


def test_the_launch_is_hidden_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was not set stays unset."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    seen: list[set[str]] = []

    @launch_hidden()
    def look_and_fail() -> None:
        seen.append({"RANK", "WORLD_SIZE", "LOCAL_RANK"} & os.environ.keys())
        raise KeyError

    with pytest.raises(KeyError):
        look_and_fail()
    assert seen == [set()]
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("1", "2")
    assert "LOCAL_RANK" not in os.environ
