"""Studies of the study file of `tests.cli.calls`, as a search leaves them in its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from mordal_optuna.config import read_study
from mordal_optuna.driver import study_plan
from mordal_optuna.search.attributes import CONFIG, FULL_SAMPLES, store_value
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.comparing import compares_models
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import Representation, store_representation
from tests.cli.calls import study_file
from tests.search.synthetic import Table

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings

FULL = 65536
ALIKE = ((1.0, 0.5), (0.5, 1.0))


def file_named(folder: Path, name: str = "s", *, more: str = "") -> Path:
    """A study file in a new folder, with further lines."""
    folder.mkdir(exist_ok=True)
    file = study_file(folder)
    file.write_text(file.read_text().replace("study: s\n", f"study: {name}\n") + more)
    return file


def run_for(file: Path, trials: int | None = None, *, method: str | None = None) -> StudySettings:
    """Search for so many trials, or to the end, and store the study; nothing is trained.

    The search runs in memory and is copied, since every change of a file waits for the disk.
    """
    settings = read_study(file, method=method)
    plan = study_plan(settings, FULL, None)
    memory = optuna.storages.InMemoryStorage()
    study = optuna.create_study(
        study_name=settings.study,
        storage=memory,
        direction="maximize",
        sampler=CkaClusterSampler(plan, seed=0),
        pruner=LogLinearHalvingPruner(plan),
    )
    store_value(study, CONFIG, settings.fingerprint())
    study.set_user_attr(FULL_SAMPLES, FULL)
    pool = settings.models()
    if compares_models(settings.search):
        times = {"features": 7.0, "similarity": 1.0, "warmup": 2.0}
        tree = ClusterTree.flat(pool.encoder_names, pool.llm_names)
        alike = dict.fromkeys(pool.encoder_names, ALIKE)
        store_representation(study, Representation(ALIKE, alike, tree, times))
    levels = {c: 0.2 + 0.02 * n for n, c in enumerate(pool.candidates)}
    study.optimize(Objective(plan, Table(levels)), n_trials=trials)
    settings.workdir.mkdir(exist_ok=True)
    optuna.copy_study(
        from_study_name=settings.study,
        from_storage=memory,
        to_storage=study_storage(settings.storage_url()),
    )
    return settings
