"""One process of plain Optuna: `python -m tests.plain_worker STORAGE FOLDER NUMBER SEEDS JOBS`.

STORAGE is an SQLAlchemy address, `journal:FILE` or `grpc:PORT`. The process takes part in a study
for each seed, with so many threads, and writes down every rung that it trains.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna

from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import Table

if TYPE_CHECKING:
    from mordal_optuna.search.curves import Measurement

NAMES = (("e0", "e1", "e2"), ("l0", "l1", "l2"))


def chosen_plan() -> MordalPlan:
    """Three encoders, three LLMs, every pair a cluster of its own."""
    return MordalPlan(ClusterTree.flat(*NAMES), (512, 1024, 2048), 16384)


def scores(seed: int) -> Table:
    """Levels of errors at random."""
    rng = np.random.default_rng(seed)
    pairs = [Candidate(v, m) for v in NAMES[0] for m in NAMES[1]]
    return Table(dict(zip(pairs, rng.uniform(0.1, 0.4, len(pairs)), strict=True)))


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """The storage of an address."""
    kind, _, place = address.partition(":")
    if kind == "journal":
        backend = optuna.storages.journal.JournalFileBackend(place)
        return optuna.storages.JournalStorage(backend)
    if kind == "grpc":
        return optuna.storages.GrpcStorageProxy(port=int(place))
    return study_storage(address)


def main(address: str, folder: Path, number: str, seeds: int, jobs: int) -> None:
    """Take part in all studies."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage, plan = open_storage(address), chosen_plan()
    for seed in range(seeds):
        measure = scores(seed)
        log = (folder / f"{seed}-{number}").open("a", encoding="utf-8")

        def train(candidate: Candidate, samples: int) -> Measurement:
            print(candidate, samples, sep="|", file=log, flush=True)  # noqa: B023
            return measure(candidate, samples)  # noqa: B023

        study = optuna.create_study(
            study_name=f"seed-{seed}",
            storage=storage,
            direction="maximize",
            load_if_exists=True,
            sampler=CkaClusterSampler(plan),
            pruner=LogLinearHalvingPruner(plan),
        )
        study.optimize(Objective(plan, train), n_jobs=jobs)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
