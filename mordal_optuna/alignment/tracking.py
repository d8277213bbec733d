"""Names of a candidate's runs in Accelerate's trackers.

Accelerate has one name for all trackers. Some take it for a project that holds runs (W&B), others
for the run itself (TensorBoard, where it is a folder).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Options by which a tracker's run gets a name of its own inside the project of that name.
_RUN_NAMES = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "swanlab": "experiment_name",
}
# Those that group runs by study.
_GROUPS = {"wandb": "group"}


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
