"""`mordal worker` and `mordal run --workers`: several workers on one study."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path  # noqa: TC003 - typer reads the annotations at run time
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.ending import AGAIN, MEND
from mordal_optuna.cli.finishing import telling_failure
from mordal_optuna.cli.shared import (
    As,
    Method,
    StudyFile,
    dashboard_command,
    interruptible,
    preemptible,
    present,
    quiet_libraries,
)
from mordal_optuna.files.folders import make_folder
from mordal_optuna.processes.launch import launched_rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from mordal_optuna.config import StudySettings
    from mordal_optuna.processes.stopping import StopRequest

# The variable by which a process sees some of a machine's accelerators, by torch's name of them.
_VISIBLE = {
    "cuda": "CUDA_VISIBLE_DEVICES",
    "xpu": "ZE_AFFINITY_MASK",
    "npu": "ASCEND_RT_VISIBLE_DEVICES",
    "hpu": "HABANA_VISIBLE_MODULES",
}


def worker(
    study_file: StudyFile,
    *,
    scratch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for this worker's own files; kept, and used again by a later worker.",
        ),
    ] = None,
    method: Method = None,
    name: As = None,
    grow_from: Annotated[
        str | None,
        typer.Option(metavar="STUDY", help="As for `mordal run`; the same for all workers."),
    ] = None,
    report: Annotated[
        bool, typer.Option(hidden=True, help="Print the result if no other worker has.")
    ] = True,
) -> None:
    """Join a study as one of several workers, on this or other machines; the first begins it.

    At the end one of the workers prints the result and writes the report, as `mordal run` does.

    Exit status: 0 if the study has ended; 75 if the same command may be tried again (after
    SIGTERM, or an outage that lasted too long); 2 for what a person must mend.
    """
    with interruptible(), preemptible() as stop:
        _work(study_file, scratch, method, name, grow_from, stop, report=report)


def _work(
    study_file: Path,
    scratch: Path | None,
    method: str | None,
    name: str | None,
    grow_from: str | None,
    stop: StopRequest,
    *,
    report: bool,
) -> None:
    from rich.console import Console

    from mordal_optuna.config import read_study

    settings = read_study(study_file, method=method, name=name, extends=grow_from)
    quiet_libraries()
    from mordal_optuna.driver import follow_study  # after what is quick to refuse
    from mordal_optuna.joining import join_study, report_once
    from mordal_optuna.reporting.console import ConsoleProgress

    if launched_rank() > 0:
        follow_study(settings, stop)
        return
    with (
        telling_failure(settings),
        ConsoleProgress(Console(highlight=False)) as progress,
    ):
        result = join_study(settings, progress, scratch=scratch, stop=stop)
        progress.note(f"the study has ended: {result.stopped_because}")
        progress.note(f"winner: {result.winner.candidate}; `mordal run` prints the result")
    if report:
        command = dashboard_command(study_file, method, name)
        report_once(settings, lambda: present(settings, result, command, as_json=False))


def run_workers(
    study_file: Path,
    count: int,
    method: str | None,
    name: str | None,
    grow_from: str | None,
    *,
    as_json: bool = False,
) -> StudySettings:
    """Start workers on this machine and wait until all have ended; none is started again.

    Args:
        study_file: study file.
        count: number of workers, at least 1.
        method: search method in place of the file's; None to keep that.
        name: name of the study in place of the file's; None to keep that.
        grow_from: name of an earlier study whose scores are taken over; None for the file's.
        as_json: True to show what they print on standard error.

    Returns:
        The study's settings; the study has ended.

    Raises:
        Exit: with the status of a worker, if none has ended the study.
    """
    from mordal_optuna.config import read_study
    from mordal_optuna.driver import is_finished, open_study

    settings = read_study(study_file, method=method, name=name, extends=grow_from)
    quiet_libraries()
    make_folder(settings.workdir)
    if is_finished(open_study(settings), settings):
        return settings
    command = [sys.executable, "-m", "mordal_optuna", "worker", str(study_file), "--no-report"]
    for option, value in (("--method", method), ("--as", name), ("--grow-from", grow_from)):
        command += [option, value] if value else []
    devices = visible_devices(settings.runtime.device)
    started = []
    for number in range(count):
        scratch = settings.workdir / "workers" / f"local-{number + 1}"
        chosen = dict([devices[number % len(devices)]]) if devices else {}
        started.append(
            subprocess.Popen(
                [*command, "--scratch", str(scratch)],
                env={**os.environ, **chosen},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        )
    statuses = _ended(started, sys.stderr if as_json else sys.stdout)
    if 0 not in statuses and not is_finished(open_study(settings), settings):
        known = [status for status in (MEND, AGAIN) if status in statuses]
        raise typer.Exit(known[0] if known else 1)
    return settings


def visible_devices(wanted: str) -> list[tuple[str, str]]:
    """The variable and value with which a process sees one accelerator, for each of several.

    Args:
        wanted: `runtime.device` of the study file.

    Returns:
        One entry for each accelerator of this process; empty with fewer than two, and if the
        study file names one.
    """
    import torch

    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None or wanted not in ("auto", kind.type) or kind.type not in _VISIBLE:
        return []
    count, variable = torch.accelerator.device_count(), _VISIBLE[kind.type]
    seen = [device for device in os.environ.get(variable, "").split(",") if device]
    named = seen if len(seen) == count else [str(number) for number in range(count)]
    return [(variable, device) for device in named] if count > 1 else []


def _ended(workers: Sequence[subprocess.Popen[str]], out: TextIO) -> list[int]:
    """Show what workers print, and wait for them; they are asked to end if this process is.

    Returns:
        Their exit statuses.
    """
    shown = [
        threading.Thread(target=_show, args=(f"[{number}] ", worker.stdout, out), daemon=True)
        for number, worker in enumerate(workers, start=1)
    ]
    try:
        for thread in shown:
            thread.start()
        statuses = [worker.wait() for worker in workers]
    except BaseException:
        # Ctrl-C reaches workers of the same terminal by itself; SIGTERM does not.
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait()
        raise
    for thread in shown:
        thread.join()
    return statuses


def _show(prefix: str, lines: Iterator[str], out: TextIO) -> None:
    for line in lines:
        out.write(f"{prefix}{line}")
        out.flush()
