"""Peak rates: of a GPU's name, of a CPU's product, and none where nothing is known."""

from __future__ import annotations

import pytest
import torch

from mordal_optuna.alignment.peaks import of_name, peak_operations


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A10G", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA L40", None),
        ("NVIDIA A1000", None),
        ("Some other GPU", None),
    ],
)
def test_a_gpu_is_known_by_its_name_and_no_other_is_taken_for_it(
    name: str, tera: float | None
) -> None:
    assert of_name(name) == (None if tera is None else tera * 1e12)


def test_a_gpu_has_a_peak_in_bf16_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA H200")
    device = torch.device("cuda:0")
    assert peak_operations(device, "bf16") == 989e12
    assert peak_operations(device, "fp32") is None
    assert peak_operations(torch.device("mps"), "bf16") is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cpus_peak_is_measured_without_touching_random_states(precision: str) -> None:
    before = torch.random.get_rng_state()
    peak = peak_operations(torch.device("cpu"), precision)
    assert peak is not None
    assert 1e7 < peak < 1e14
    assert torch.equal(before, torch.random.get_rng_state())
