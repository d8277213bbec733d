"""`mordal launch`: workers as tasks of HyperQueue, on machines that a cluster lends."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.shared import (  # noqa: TC001 - typer reads annotations at run time
    As,
    Method,
    StudyFile,
)
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Processes of HyperQueue that may be lost under a task before it counts as failed. A preempted
# allocation is such a loss, unless it ended by its time limit.
_LOSSES = 100


def launch(
    study_file: StudyFile,
    *,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of workers: tasks of one HyperQueue job.")
    ],
    server: Annotated[
        Path | None,
        typer.Option(
            "--hq-server",
            metavar="DIR",
            help="Server directory of a running HyperQueue server; `hq`'s own by default.",
        ),
    ] = None,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of each worker.")] = 1,
    gpus: Annotated[
        int, typer.Option(min=0, help="GPUs of each worker; several run it under torchrun.")
    ] = 0,
    gpu_kind: Annotated[
        str, typer.Option(help="HyperQueue's name of the GPUs, such as gpus/amd.")
    ] = "gpus/nvidia",
    method: Method = None,
    name: As = None,
) -> None:
    """Submit workers of a study to a HyperQueue server; they start as machines become free.

    Each task runs `mordal worker` in the present folder, with a scratch folder of its own, and
    runs it again after exit status 75. Tasks of lost machines are started elsewhere.
    """
    from mordal_optuna.config import read_study

    read_study(study_file, method=method, name=name, places=False)  # refused now, not on a node
    command = worker_command(study_file, gpus=gpus, method=method, name=name)
    resources = {"cpus": cpus, **({gpu_kind: gpus} if gpus else {})}
    logs = Path("hq-logs").resolve()
    job = submit(command, workers, server, resources, name=study_file.stem, logs=logs)
    where = f" --server-dir {shlex.quote(str(server))}" if server else ""
    study = shlex.quote(str(study_file)) + (f" --as {name}" if name else "")
    study += f" --method {method}" if method else ""
    typer.echo(f"submitted job {job} with {workers} worker{'s' if workers > 1 else ''}")
    typer.echo(f"tasks      hq job info {job}{where}")
    typer.echo(f"study      mordal status {study} --watch")
    typer.echo(f"output     {logs}/{job}-TASK.log")
    typer.echo(f"to end     hq job cancel {job}{where}")


def worker_command(
    study_file: Path, *, gpus: int = 0, method: str | None = None, name: str | None = None
) -> list[str]:
    """The command of one task: a worker that is run again after exit status 75.

    Args:
        study_file: study file, found from the present folder.
        gpus: devices of the worker; several are used by as many processes of one launch.
        method: search method in place of the file's; None to keep that.
        name: name of the study in place of the file's; None to keep that.
    """
    python = sys.executable
    module = ["-m", "mordal_optuna", "worker", str(study_file.resolve())]
    for option, value in (("--method", method), ("--as", name)):
        module += [option, value] if value else []
    launched = [python, *module]
    if gpus > 1:
        # torchrun's own status would be 1 for all, and final.
        torchrun = ["-m", "mordal_optuna.processes.torchrun", "--standalone"]
        launched = [python, *torchrun, f"--nproc-per-node={gpus}", *module]
    return [python, "-m", "mordal_optuna.processes.restarting", "--", *launched]


def submit(
    command: list[str],
    workers: int,
    server: Path | None,
    resources: Mapping[str, int],
    *,
    name: str,
    logs: Path,
) -> int:
    """Submit the same command several times, as tasks of one job.

    Args:
        command: program and arguments.
        workers: number of tasks, at least 1.
        server: server directory of HyperQueue; None for its default.
        resources: amount of each resource that a task needs, `cpus` among them.
        name: name of the job.
        logs: folder for what the tasks print.

    Returns:
        The number of the job.

    Raises:
        ConfigError: if HyperQueue's client is not installed, or no server can be reached.
    """
    try:
        import hyperqueue
        from hyperqueue.ffi.protocol import ResourceRequest
    except ImportError as error:
        raise ConfigError(
            ["mordal launch needs HyperQueue's client: pip install 'mordal-optuna[hyperqueue]'"]
        ) from error
    others = {key: amount for key, amount in resources.items() if key != "cpus"}
    # One task that fails, such as by a full disk of its machine, must not end the others.
    job = hyperqueue.Job(max_fails=None, name=re.sub(r"\W+", "-", name)[:40] or "mordal")
    logs.mkdir(parents=True, exist_ok=True)
    for _ in range(workers):
        output = str(logs / "%{JOB_ID}-%{TASK_ID}.log")
        job.program(
            # HyperQueue opens a file for each stream; two in one file would overwrite each other.
            ["sh", "-c", 'exec "$@" 2>&1', "sh", *command],
            cwd=Path.cwd(),
            stdout=output,
            stderr=output,
            resources=ResourceRequest(cpus=resources["cpus"], resources=others),
            crash_limit=_LOSSES,
        )
    try:
        client = hyperqueue.Client(server)
        return int(client.submit(job).id)
    except RuntimeError as error:  # the client raises no other class
        shown = str(server) if server else "its default directory"
        raise ConfigError(
            [
                f"--hq-server: no HyperQueue server of {shown} can be reached "
                f"({str(error).splitlines()[0]}); start one by `hq server start`"
            ]
        ) from error
