"""The table of devices agrees with the rates by which training judges itself."""

from __future__ import annotations

import pytest

from mordal_optuna.errors import ConfigError
from mordal_optuna.planning.devices import DEVICES, device_named

NAMES = {
    "h100": "NVIDIA H100 80GB HBM3",
    "h200": "NVIDIA H200",
    "a100": "NVIDIA A100-SXM4-80GB",
    "l40s": "NVIDIA L40S",
    "l4": "NVIDIA L4",
    "4090": "NVIDIA GeForce RTX 4090",
    "3090": "NVIDIA GeForce RTX 3090",
}


def test_rates_are_those_of_the_peaks() -> None:
    from mordal_optuna.alignment.peaks import of_name

    assert set(NAMES) == set(DEVICES) - {"cpu"}
    for name, reported in NAMES.items():
        assert DEVICES[name].rate == of_name(reported)


def test_a_rate_replaces_the_assumption() -> None:
    assert device_named("h100").reached == pytest.approx(0.4 * 989e12)
    assert device_named("h100", 500).reached == 500e12
    with pytest.raises(ConfigError, match="--device: got 'tpu'; allowed are h100"):
        device_named("tpu")
    with pytest.raises(ConfigError, match="--rate: got -1"):
        device_named("h100", -1)
