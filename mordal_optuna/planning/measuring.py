"""This machine's device, measured; the only module of the room that loads torch, when used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.planning.devices import CPU_SHARE, DEVICES, GPU_SHARE, Device

if TYPE_CHECKING:
    from mordal_optuna.planning.plan import FirstPage

# Tokens of a micro-batch in the products that are measured, at most.
_TOKENS = 4096


def measured_device(first: FirstPage) -> Device:
    """The device of the study file, with rates measured for about a second.

    Args:
        first: what was read of the study.

    Raises:
        ConfigError: if torch cannot use the device.
    """
    import torch

    from mordal_optuna.alignment.rates import measure
    from mordal_optuna.workbench.devices import find_device

    settings = first.settings
    torch.set_num_threads(settings.runtime.threads)
    device = find_device(settings.runtime.device)
    rates = measure(device, settings.alignment.precision, _shapes(first))
    cuda = device.type == "cuda"
    memory = float(torch.cuda.mem_get_info(device)[1]) if cuda else None
    name = torch.cuda.get_device_name(device) if cuda else device.type
    share = GPU_SHARE if cuda else CPU_SHARE
    return replace(
        DEVICES["h100" if cuda else "cpu"],
        name=name,
        rate=rates.products,
        share=share,
        bandwidth=rates.bandwidth,
        memory=memory,
        operation_seconds=rates.operation_seconds,
        element_seconds=rates.element_seconds,
        source=(
            f"measured: {rates.products / 1e12:.3g} tera-operations a second in products, "
            f"{1e6 * rates.operation_seconds:.0f} µs an operation"
        ),
    )


def _shapes(first: FirstPage) -> list[tuple[int, int, int]]:
    """Products of each LLM's feed-forward layers with a micro-batch."""
    recipe = first.settings.alignment
    encoders = [model.encoder.image_tokens for model in first.models if model.encoder]
    length = min(recipe.max_length, (sum(encoders) // len(encoders) if encoders else 0) + 32)
    rows = min(_TOKENS, length * (recipe.most_samples or 8))
    found = [model.llm for model in first.models if model.llm]
    return [(rows, llm.hidden, llm.intermediate) for llm in found] or [(rows, 512, 2048)]
