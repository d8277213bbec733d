"""The first message of a launch: whether the other ranks open a workbench, or end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.processes.channel import Channel
from mordal_optuna.progress import Silent
from mordal_optuna.workbench.commands import OpenWorkbench
from mordal_optuna.workbench.devices import join_launch
from mordal_optuna.workbench.workbench import open_workbench

if TYPE_CHECKING:
    from mordal_optuna.processes.stopping import StopRequest


def follow_launch(device: str, stop: StopRequest | None = None) -> None:
    """Ranks above 0: open the workbench that rank 0 opens, and follow it until rank 0 is done.

    Args:
        device: `auto` or a torch device, as `runtime.device` of a study file.
        stop: whether this process was asked to end; None if nobody asks.

    Raises:
        MordalError: if the workbench cannot be opened.
    """
    launch = join_launch(device, stop)
    first = Channel[OpenWorkbench](launch.processes).receive()
    if isinstance(first, OpenWorkbench):
        open_workbench(first.settings, Silent(), launch=launch).follow()


def end_launch(device: str) -> None:
    """Rank 0: let the other ranks end if there is nothing to do and no workbench is opened.

    Args:
        device: `auto` or a torch device, as `runtime.device` of a study file.
    """
    Channel[OpenWorkbench](join_launch(device).processes).stop()
