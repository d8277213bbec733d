"""Working on a study beside other workers, each with a folder of its own.

Workers join and leave at any time. What one at a time may do is done in turns (`study.turns`); the
search itself is shared out by claims (`study.claims`). Files that all need lie under the study
file's addresses; a worker's own files lie in its scratch folder.
"""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mordal_optuna.driver import is_finished, open_study, stored_result, work
from mordal_optuna.files.folders import make_folder
from mordal_optuna.files.locking import alone_in
from mordal_optuna.processes.launch import launched_world_size
from mordal_optuna.search.attributes import REPORTED, STOPPED_BECAUSE
from mordal_optuna.study.membership import joined
from mordal_optuna.study.presence import Presence
from mordal_optuna.study.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mordal_optuna.config import StudySettings
    from mordal_optuna.processes.stopping import StopRequest
    from mordal_optuna.progress import Progress
    from mordal_optuna.study.result import StudyResult

# What is left in a scratch folder that nobody will use again: files of experiment trackers.
_OF_VALUE = ("logs",)


def join_study(
    settings: StudySettings,
    progress: Progress,
    *,
    scratch: Path | None = None,
    stop: StopRequest | None = None,
) -> StudyResult:
    """Work on a study beside other workers until it has ended; the first worker begins it.

    Args:
        settings: the study file's settings.
        progress: receives progress updates.
        scratch: folder of this worker's own files, used by no other worker at the same time; None
            for one under the work folder, which is removed at the end.
        stop: whether this process was asked to end; None if nobody asks.

    Returns:
        The result: winner, ranking, costs and scores on further tasks.

    Raises:
        BusyError: if a process runs the study alone, or another one uses the scratch folder.
        Preempted: if this process was asked to end.
        LastingOutageError: if an outage lasts too long.
        MordalError: as `driver.run_study`.
    """
    make_folder(settings.workdir)
    study, address = open_study(settings), settings.storage_url()
    if not is_finished(study, settings):
        with (
            _scratch_folder(settings, scratch) as folder,
            Presence(address, settings.study, devices=launched_world_size()) as present,
            joined(address, settings.study, does=present.does) as member,
        ):
            work(study, settings.with_scratch(folder), progress, member, stop)
    elif launched_world_size() > 1:
        from mordal_optuna.workbench.following import end_launch

        end_launch(settings.runtime.device)
    return stored_result(study, settings)


def report_once(settings: StudySettings, report: Callable[[], None]) -> None:
    """Report the end of a study, unless another worker has; the others wait until it is done.

    A study that went on after its end, because failures were cleared, is reported again.

    Args:
        settings: the study file's settings.
        report: writes the report.

    Raises:
        StoreError: if the database cannot be used.
    """
    with Turns(settings.storage_url(), settings.study).wait_for("report"):
        study = open_study(settings)
        end = [study.user_attrs.get(STOPPED_BECAUSE), len(study.get_trials(deepcopy=False))]
        if study.user_attrs.get(REPORTED) != end:
            report()
            study.set_user_attr(REPORTED, end)


@contextmanager
def _scratch_folder(settings: StudySettings, given: Path | None) -> Iterator[Path]:
    """The folder of this worker's own files, which no other worker uses meanwhile."""
    name = f"{platform.node() or 'host'}-{os.getpid()}"
    folder = given or settings.workdir / "workers" / name
    make_folder(folder, "--scratch" if given else "workdir")
    try:
        with alone_in(folder):
            yield folder
    finally:
        if given is None:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a scratch folder that no later worker finds again, except what is of value."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in _OF_VALUE:
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
