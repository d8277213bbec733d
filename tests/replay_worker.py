"""One worker process on a replayed grid: `python -m tests.replay_worker ADDRESS FOLDER NUMBER`.

It writes down every rung that it begins. The lease and the duration of a rung, in seconds, may
follow.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from mordal_optuna.replay.run import method_settings
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.clusters import cluster_pool
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.ownership import LEASE_SECONDS
from mordal_optuna.study.worker import Worker

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.plan import Plan

STUDY = "replayed"
GRID = synthetic_grid(3)


def grid_search_plan() -> Plan:
    """The default search over the 7 x 7 grid."""
    settings = method_settings("mordal")
    tree = cluster_pool(GRID.encoders, GRID.llms, GRID.vision_similarity, GRID.similarity_of_llms)
    return build_plan(settings, tree, GRID.full_samples)


def main(
    address: str, folder: Path, number: str, lease: float = LEASE_SECONDS, pause: float = 0.05
) -> None:
    """Work until nothing is left to do."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = grid_search_plan()
    claims = ClaimStore(address, STUDY, lease_seconds=lease)
    study = optuna.load_study(
        study_name=STUDY,
        storage=study_storage(address),
        sampler=CkaClusterSampler(plan, claims=claims),
        pruner=LogLinearHalvingPruner(plan),
    )
    log = (folder / f"worker-{number}").open("a", encoding="utf-8")

    def measure(candidate: Candidate, samples: int) -> Measurement:
        print("begins", candidate, samples, sep="|", file=log, flush=True)
        time.sleep(pause)
        if number == "dies" and samples == plan.rungs[1]:
            os._exit(9)
        return GRID.measurement(candidate, samples)

    objective = Objective(plan, measure, claims=claims)
    Worker(study, plan, objective, claims, patience_seconds=20.0, poll_seconds=0.5).run()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], *map(float, sys.argv[4:]))
