"""A candidate's run in Accelerate's trackers, its name, and what it is told.

The loss is passed on at every step that Accelerate's trackers are told of (see `train`); scores,
costs, ranks and estimates at every rung, at the rung's number of samples.

Accelerate has one name for all trackers. Some take it for a project that holds runs (W&B), others
for the run itself (TensorBoard, where it is a folder).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from accelerate import Accelerator

    from mordal_optuna.alignment.machine import Machine

# Options by which a tracker's run gets a name of its own inside the project of that name.
_RUN_NAMES = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "swanlab": "experiment_name",
}
# Modes of Weights & Biases that need no key.
_WITHOUT_KEY = ("offline", "disabled", "dryrun")
# Those that group runs by study.
_GROUPS = {"wandb": "group"}


class TrackedRun:
    """A candidate's run in the trackers; opened at its first use, and nothing without trackers."""

    def __init__(
        self,
        accelerator: Accelerator,
        machine: Machine,
        pair: str,
        run: Callable[[], str],
    ) -> None:
        """Set up a run.

        Args:
            accelerator: Accelerate, opened with the machine's trackers.
            machine: trackers and name of the study.
            pair: name of the candidate, as it is shown.
            run: returns the address of the candidate's checkpoints, which the trackers store.
        """
        self._accelerator = accelerator
        self._trackers = machine.trackers
        self._study = machine.project
        self._pair = pair
        self._run = run
        self._is_open = False

    def open(self) -> None:
        """Open the run, unless it is open."""
        if not self._trackers or self._is_open:
            return
        project, options = names_in(self._trackers, self._study, self._pair)
        self._accelerator.init_trackers(project, config={"run": self._run()}, init_kwargs=options)
        self._is_open = True

    def log(self, values: Mapping[str, float], samples: int) -> None:
        """Pass numbers on, on rank 0.

        Args:
            values: numbers by name.
            samples: number of alignment samples that they belong to, not below earlier ones.
        """
        if self._trackers and values:
            self.open()
            self._accelerator.log(dict(values), step=samples)

    def close(self) -> None:
        """End the run."""
        if self._is_open:
            self._accelerator.end_training()
            self._is_open = False


def check_trackers(trackers: Sequence[str]) -> None:
    """Refuse, before anything is trained, a tracker that would ask for a key in vain.

    Args:
        trackers: names of Accelerate's trackers; that they are installed is checked by Accelerate.

    Raises:
        ConfigError: if Weights & Biases has no key and nobody can be asked for one.
    """
    if "wandb" not in trackers or os.environ.get("WANDB_MODE") in _WITHOUT_KEY:
        return
    import wandb

    if wandb.api.api_key is None and not sys.stdin.isatty():
        raise ConfigError(
            [
                "runtime.trackers: wandb has no key; set WANDB_API_KEY, run `wandb login` once, "
                "or set WANDB_MODE=offline"
            ]
        )


def names_in(
    trackers: Sequence[str], study: str, pair: str
) -> tuple[str, dict[str, dict[str, Any]]]:
    """The project and the options of a candidate's runs.

    Args:
        trackers: names of Accelerate's trackers.
        study: name of the study.
        pair: name of the candidate, as it is shown.

    Returns:
        Name of the project, and options by tracker. The project is the study if every tracker
        names its runs by themselves. Otherwise it is `STUDY-ENCODER-LLM`, as for TensorBoard.
    """
    options = {
        name: {
            _RUN_NAMES[name]: f"{study}/{pair}",
            **({_GROUPS[name]: study} if name in _GROUPS else {}),
        }
        for name in trackers
        if name in _RUN_NAMES
    }
    alone = all(name in _RUN_NAMES for name in trackers)
    return study if alone else f"{study}-{pair.replace(' + ', '-')}", options
