"""The device of this process and the ranks of its launch, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.errors import ConfigError
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.launch import launched_world_size
from mordal_optuna.processes.stopping import StopRequest


@dataclass(frozen=True)
class Launch:
    """Where this process computes, and with which others.

    Attributes:
        device: torch device of this process.
        processes: all ranks of the launch.
        stop: whether this process was asked to end.
    """

    device: torch.device
    processes: Processes = field(default_factory=Processes)
    stop: StopRequest = field(default_factory=StopRequest)


def join_launch(device: str, stop: StopRequest | None = None) -> Launch:
    """Find this process's device and open the group of all ranks of the launch.

    All ranks call it, once each, since it opens a process group.

    Args:
        device: `auto` or a torch device, as `runtime.device` of a study file.
        stop: whether this process was asked to end; None if nobody asks.

    Raises:
        ConfigError: if torch cannot use the device, or the ranks cannot reach each other.
    """
    chosen = find_device(device)
    if launched_world_size() == 1:
        return Launch(chosen, stop=stop or StopRequest())
    device_of_rank = open_accelerator(chosen).device
    return Launch(device_of_rank, Processes.join(), stop or StopRequest())


def find_device(name: str) -> torch.device:
    """The torch device that a study file names.

    Args:
        name: `auto`, which is the accelerator if there is one, or a torch device.

    Raises:
        ConfigError: if torch cannot use the device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            [f"runtime.device: got {name!r}; torch cannot use it here ({reason}); try 'cpu'"]
        ) from error
    return device
