"""`mordal dashboard`: optuna-dashboard on a study, with its figures, notes and report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mordal_optuna.cli.shared import (
    As,
    Method,
    StudyFile,
    dashboard_command,
    quiet_libraries,
    write_and_publish,
)
from mordal_optuna.errors import ConfigError, SearchError
from mordal_optuna.files.folders import make_folder

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings

_LOCAL = ("127.0.0.1", "localhost")


def dashboard(
    study_file: StudyFile,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets every machine in.")
    ] = _LOCAL[0],
    method: Method = None,
    name: As = None,
) -> None:
    """Open optuna-dashboard on a study: figures, notes and the report; Ctrl-C ends it."""
    from mordal_optuna.config import read_study
    from mordal_optuna.reporting.dashboard import artifact_folder, is_installed

    if not is_installed():
        raise ConfigError(
            [
                "optuna-dashboard is not installed; install the extra `dashboard`, as by `uv run "
                "--extra dashboard mordal dashboard ...` or `pip install 'optuna-dashboard>=0.21'`"
            ]
        )
    settings = read_study(study_file, method=method, name=name)
    quiet_libraries()
    page = _prepared(settings, dashboard_command(study_file, method, name))
    # Loads optuna-dashboard, which takes a second.
    from mordal_optuna.reporting.serving import dashboard_server
    from mordal_optuna.study.claims import study_storage

    storage, folder = study_storage(settings.storage_url()), artifact_folder(settings.workdir)
    with dashboard_server(storage, folder, host=host, port=port) as server:
        typer.echo(f"http://{host}:{server.server_port}{page}")
        if host not in _LOCAL:
            typer.echo(
                "whoever reaches this address can change and delete all studies of the database",
                err=True,
            )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo()


def _prepared(settings: StudySettings, command: str) -> str:
    """Publish the result so far, and its report; return the address of the study's page."""
    import optuna

    from mordal_optuna.driver import load_study, open_study
    from mordal_optuna.reporting.dashboard import study_address
    from mordal_optuna.study.claims import study_storage

    make_folder(settings.workdir)  # where SQLite's file is by default
    try:
        result = load_study(settings)
    except SearchError:
        # There is nothing to publish before the first score, but a study to look at.
        storage = study_storage(settings.storage_url())
        if settings.study not in optuna.get_all_study_names(storage):
            raise
        return study_address(optuna.load_study(study_name=settings.study, storage=storage))
    study = open_study(settings)
    write_and_publish(settings, study, result, command)
    return study_address(study)
