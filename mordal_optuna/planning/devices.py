"""Devices that a study may run on: their rates and memory, from datasheets or measured.

Datasheets: dense bf16 rate, bandwidth and size of the memory of NVIDIA's H100 SXM, H200 SXM, A100
80GB SXM, L40S, L4 and GeForce RTX 4090 and 3090. The rates are those of `alignment/peaks.py`,
which has the sources; a test compares the two.

Of that rate, training is assumed to reach 40 %, as in `replay/costs.py`. No GPU has been measured
by this project; `benchmarks/alignment_throughput/gpu.py` measures the share on yours, and
`--rate` takes the tera-operations a second that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mordal_optuna.errors import ConfigError

# Share of a GPU's datasheet rate that matrix products of training reach. On a CPU, the rate is
# that of products of the models' own shapes, of which almost all is reached.
GPU_SHARE, CPU_SHARE = 0.4, 0.9
# Seconds in which a GPU's kernel is started by eager PyTorch.
_LAUNCH = 8e-6


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes:
        name: its name.
        rate: floating-point operations a second of matrix products.
        share: share of the rate that is reached.
        bandwidth: bytes a second of the memory.
        memory: bytes of the memory; None if it is not known.
        operation_seconds: time that one operation of PyTorch takes however small it is.
        element_seconds: time of an elementwise operation for each element.
        host_seconds: time in which an image is read, a sample tokenised or a document judged,
            where nothing else is computed meanwhile; 0 where threads do it beside the device.
        source: where the figures come from.
    """

    name: str
    rate: float
    share: float
    bandwidth: float
    memory: float | None
    operation_seconds: float
    element_seconds: float
    host_seconds: float
    source: str

    @property
    def reached(self) -> float:
        """Floating-point operations a second that are reached."""
        return self.rate * self.share


def _gpu(name: str, rate: float, bandwidth: float, memory: float) -> Device:
    source = f"datasheet, {100 * GPU_SHARE:.0f} % of its bf16 rate assumed"
    return Device(
        name,
        rate * 1e12,
        GPU_SHARE,
        bandwidth * 1e9,
        memory * 1e9,
        _LAUNCH,
        1.5 * 4 / (bandwidth * 1e9),
        0.0,
        source,
    )


# A CPU's core that nobody has measured: one AVX-512 core of a server at 2.5 GHz.
_CPU = Device("cpu", 6e10, CPU_SHARE, 1e10, None, 1.5e-5, 1e-9, 5e-4, "one server core, assumed")
DEVICES = {
    "h100": _gpu("h100", 989, 3350, 80),
    "h200": _gpu("h200", 989, 4800, 141),
    "a100": _gpu("a100", 312, 2039, 80),
    "l40s": _gpu("l40s", 362, 864, 48),
    "l4": _gpu("l4", 121, 300, 24),
    "4090": _gpu("4090", 165, 1008, 24),
    "3090": _gpu("3090", 71, 936, 24),
    "cpu": _CPU,
}


def device_named(name: str, rate: float | None = None) -> Device:
    """A device of the table.

    Args:
        name: its name.
        rate: floating-point operations a second that training reaches on it, in 10^12; None for
            the assumed share of the datasheet's.

    Raises:
        ConfigError: if the table does not have it, or the rate is not above 0.
    """
    if name not in DEVICES:
        raise ConfigError([f"--device: got {name!r}; allowed are {', '.join(DEVICES)}"])
    device = DEVICES[name]
    if rate is None:
        return device
    if rate <= 0:
        raise ConfigError([f"--rate: got {rate:g}; it must be above 0 tera-operations a second"])
    source = f"{rate:g} tera-operations a second, as given"
    return replace(device, rate=rate * 1e12, share=1.0, source=source)
