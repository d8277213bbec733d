"""Peak rate of a device: a datasheet's figure for known GPUs, a measured product for CPUs.

Rates are in floating-point operations a second, dense (without sparsity), for matrix products in
bf16 that are summed in fp32. Sources are NVIDIA's datasheets and architecture whitepapers of each
product: "NVIDIA A100 Tensor Core GPU" (312), "H100 Tensor Core GPU" (SXM 989, PCIe 756, NVL 835),
"H200 Tensor Core GPU" (SXM 989, NVL 835), "Blackwell architecture" (B200 2,250), "L40S" (362),
"L4" (121), "A10" (125), "Ada GPU architecture" (RTX 4090 165), "GA102 architecture" (RTX 3090 71);
and AMD's "Instinct MI300X" (1,307) and "MI250X" (383). Datasheets that print rates with sparsity
are halved.
"""

from __future__ import annotations

import re
from time import perf_counter

import torch

# Pattern of the name that torch reports, and tera-operations a second; the first match counts.
_BF16 = (
    (r"H200 NVL|H100 NVL", 835),
    (r"H100 PCIe", 756),
    (r"H100|H200|GH200", 989),
    (r"\bB200", 2250),
    (r"\bA100\b", 312),
    (r"L40S", 362),
    (r"\bL4\b", 121),
    (r"\bA10\b|A10G", 125),
    (r"RTX 4090\b(?! D)", 165),
    (r"RTX 3090\b(?! Ti)", 71),
    (r"MI300X", 1307),
    (r"MI250X", 383),
)
_SIDE = 512
# Seconds after which a CPU's product is not repeated any more.
_LONG_ENOUGH = 0.1


def peak_operations(device: torch.device, precision: str) -> float | None:
    """Peak rate of a device in floating-point operations a second.

    Args:
        device: torch device.
        precision: `fp32` or `bf16`.

    Returns:
        The rate; None for devices that are not in the table, and for GPUs in fp32, whose rate
        depends on whether products are rounded to TF32.
    """
    if device.type == "cpu":
        return _measured(precision)
    if device.type != "cuda" or precision != "bf16":
        return None
    return of_name(torch.cuda.get_device_name(device))


def of_name(name: str) -> float | None:
    """Peak rate in bf16 of the GPU of a name; None if it is not in the table.

    Args:
        name: name that torch reports, such as "NVIDIA H100 80GB HBM3".
    """
    found = (rate for pattern, rate in _BF16 if re.search(pattern, name))
    rate = next(found, None)
    return None if rate is None else rate * 1e12


def _measured(precision: str) -> float:
    """Rate of the best of several products of two square matrices on the CPU's threads."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.full((_SIDE, _SIDE), 0.5, dtype=dtype)
    best, begun = float("inf"), perf_counter()
    with torch.no_grad():
        while perf_counter() - begun < _LONG_ENOUGH:
            start = perf_counter()
            torch.mm(a, a)
            best = min(best, perf_counter() - start)
    return 2 * _SIDE**3 / best
