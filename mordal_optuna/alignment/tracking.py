"""Names of a candidate's runs in Accelerate's trackers.

Accelerate has one name for all trackers. Some take it for a project that holds runs (W&B), others
for the run itself (TensorBoard, where it is a folder).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
