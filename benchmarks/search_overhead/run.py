"""Time and memory of a suggestion and of a pruning decision, against TPE with Hyperband.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.search_overhead.run

Each measurement is a process of its own. A trial asks for a pair, reports scores rung by rung,
asks the pruner after each, and ends. Curves are made up from the names. `ask` includes the
suggestion of both parameters and, in a database, their storing. `mordal` and `tpe` ask for
categorical parameters over all names; `mordal-numbered` as `suggest_pair` does for large pools;
`mordal-flat` is a pool that is not clustered, where every pair has to be looked at.

Both TPE and our search grow slower with the trials they have to read, and our search may end
before TPE does. So every case also has the median over its first trials alone, as many as our
search ran on the same pool and storage: `ask_ms_alike` and `prune_ms_alike`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from itertools import chain, product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import optuna
from sqlalchemy import event

from benchmarks.machine import machine
from mordal_optuna.search.clusters import CandidateCluster, ClusterTree, Group
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.space import LARGE, suggest_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNGS, FULL = (1024, 2048, 4096), 32768
# side of the pool, trials, cluster size
POOLS = ((7, 200, 2), (100, 2000, 5), (200, 2000, 5), (1000, 5000, 20))


def cases() -> Iterator[tuple[str, str, int]]:
    """Method, storage and side of every case; ours before TPE, which is compared with it."""
    for side, storage in product((7, 100, 1000), ("memory", "sqlite")):
        yield "mordal", storage, side
        yield "tpe", storage, side
        if side > LARGE:
            yield "mordal-numbered", storage, side
    for side in (100, 200):
        yield "mordal-flat", "memory", side


def main() -> None:
    """Measure what is missing, one process a case, and write `results.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs=4, metavar=("METHOD", "STORAGE", "SIDE", "ALIKE"))
    chosen = parser.parse_args()
    if chosen.case:
        method, storage, side, alike = chosen.case
        print(json.dumps(case(method, storage, int(side), int(alike))))
        return
    path = Path(__file__).parent / "results.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cases": {}}
    for method, storage, side in cases():
        key = f"{side}x{side} {storage} {method}"
        if key in known["cases"]:
            continue
        ours = known["cases"].get(f"{side}x{side} {storage} mordal", {"trials": 0})
        alike = ours["trials"] if method == "tpe" else 0
        known["cases"][key] = measured(method, storage, side, alike)
        print(key, known["cases"][key], flush=True)
        known["machine"] = machine("optuna", "sqlalchemy", "numpy")
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def measured(method: str, storage: str, side: int, alike: int) -> dict[str, float]:
    """One case in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, "--case"]
    done = subprocess.run(
        [*command, method, storage, str(side), str(alike)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def case(method: str, storage: str, side: int, alike: int) -> dict[str, float]:
    """One pool, one storage, one method.

    Args:
        method: `mordal`, `tpe`, `mordal-numbered` or `mordal-flat`.
        storage: `memory` or `sqlite`.
        side: encoders of the pool, and LLMs.
        alike: trials that our search took where this one is compared with it; 0 for all.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = next(t for n, t, _ in POOLS if n == side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.db"
        database = None
        if storage != "memory":
            database = optuna.storages.RDBStorage(f"sqlite:///{file}")
        study = optuna.create_study(direction="maximize", storage=database, **parts(method, side))
        numbered = method == "mordal-numbered"
        statements = Statements(database)
        asks, prunes = run(study, side, trials, plan_of(method, side) if numbered else None)
        return {
            "trials": len(asks),
            **speed(asks, prunes, alike or len(asks)),
            **statements.per_trial(len(asks), sum(map(len, prunes))),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
            "database_mb": file.stat().st_size / 2**20 if database else 0.0,
        }


class Statements:
    """Counts what is asked of a database."""

    def __init__(self, database: optuna.storages.RDBStorage | None) -> None:
        """Count from now on; nothing in memory."""
        self._database = database
        self._count = 0
        if database:
            event.listen(database.engine, "before_cursor_execute", self._add)

    def _add(self, *_: object) -> None:
        self._count += 1

    def per_trial(self, trials: int, reports: int) -> dict[str, float]:
        """SQL statements a trial, and the reports a trial that they belong to."""
        if self._database is None:
            return {}
        return {"statements": self._count / trials, "reports": reports / trials}


def speed(asks: list[float], prunes: list[list[float]], alike: int) -> dict[str, float]:
    """Milliseconds over all trials, and over the first so many."""
    return {
        "ask_ms": 1000 * median(asks),
        "ask_ms_last_tenth": 1000 * median(asks[-len(asks) // 10 :]),
        "ask_ms_worst": 1000 * max(asks),
        "prune_ms": 1000 * median(chain.from_iterable(prunes)),
        "alike": min(alike, len(asks)),
        "ask_ms_alike": 1000 * median(asks[:alike]),
        "prune_ms_alike": 1000 * median(chain.from_iterable(prunes[:alike])),
    }


def parts(method: str, side: int) -> dict[str, object]:
    """Sampler and pruner."""
    if method == "tpe":
        pruner = optuna.pruners.HyperbandPruner(RUNGS[0], FULL, 2)
        return {"sampler": optuna.samplers.TPESampler(seed=0), "pruner": pruner}
    plan = plan_of(method, side)
    return {"sampler": CkaClusterSampler(plan), "pruner": LogLinearHalvingPruner(plan)}


def plan_of(method: str, side: int) -> MordalPlan:
    """Our search over a pool."""
    size = next(s for n, _, s in POOLS if n == side)
    encoders, llms = names(side)
    flat = method == "mordal-flat"
    pool = ClusterTree.flat(encoders, llms) if flat else tree(encoders, llms, size)
    return MordalPlan(pool, RUNGS, FULL, top_clusters=3)


def tree(encoders: list[str], llms: list[str], size: int) -> ClusterTree:
    """Clusters of equal size, in the order of the names."""
    cut = [
        [Group(tuple(x[i : i + size])) for i in range(0, len(x), size)] for x in (encoders, llms)
    ]
    clusters = tuple(CandidateCluster(v, m) for v in cut[0] for m in cut[1])
    return ClusterTree(tuple(encoders), tuple(llms), clusters)


def names(side: int) -> tuple[list[str], list[str]]:
    """As long as a hub id."""
    encoders = [f"organisation/vision-encoder-large-{i:04d}" for i in range(side)]
    return encoders, [f"organisation/language-model-7b-{i:04d}" for i in range(side)]


def run(
    study: optuna.Study, side: int, trials: int, plan: MordalPlan | None
) -> tuple[list[float], list[list[float]]]:
    """Seconds of each trial's ask and of its pruning decisions."""
    encoders, llms = names(side)
    asks: list[float] = []
    prunes: list[list[float]] = []
    for _ in range(trials):
        start = time.perf_counter()
        trial = study.ask()
        pair = str(suggest_pair(trial, plan)) if plan else by_names(trial, encoders, llms)
        asks.append(time.perf_counter() - start)
        prunes.append([])
        level = 0.1 + 0.3 * (zlib.crc32(pair.encode()) / 2**32)
        state = optuna.trial.TrialState.COMPLETE
        for samples in (*RUNGS, FULL):
            trial.report(1 - level * (samples / FULL) ** -0.2, samples)
            start = time.perf_counter()
            stop = trial.should_prune()
            prunes[-1].append(time.perf_counter() - start)
            if stop:
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, 1 - level if state.name == "COMPLETE" else None, state=state)
        if "mordal:stopped_because" in study.user_attrs:
            break
    return asks, prunes


def by_names(trial: optuna.Trial, encoders: list[str], llms: list[str]) -> str:
    """The pair, as `str(Candidate)` writes it."""
    encoder = trial.suggest_categorical("vision_encoder", encoders)
    return f"{encoder} + {trial.suggest_categorical('llm', llms)}"


if __name__ == "__main__":
    main()
