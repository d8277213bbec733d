"""Time and memory of a suggestion and of a pruning decision, against TPE with Hyperband.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.search_overhead.run

Each measurement runs in a separate process. A trial asks for a pair, reports scores rung by rung,
asks the pruner after each, and ends. Curves are derived from the names. `ask` includes the
suggestion of both parameters and, in a database, storing them. `mordal` and `tpe` suggest
categorical parameters over all names; `mordal-numbered` suggests indices, as `suggest_pair` does
for large pools; `mordal-flat` is an unclustered pool, in which every pair has to be considered.

TPE and our search both become slower with the number of trials they have to read, and our search
may end before TPE does. Therefore every case also has the median over its first trials, as many as
our search ran on the same pool and storage: `ask_ms_alike` and `prune_ms_alike`.
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
# Models per side of the pool, number of trials, models per cluster.
POOLS = ((7, 200, 2), (100, 2000, 5), (200, 2000, 5), (1000, 5000, 20))


def cases() -> Iterator[tuple[str, str, int]]:
    """Method, storage and pool side of every case; ours before TPE, which is compared with it."""
    for side, storage in product((7, 100, 1000), ("memory", "sqlite")):
        yield "mordal", storage, side
        yield "tpe", storage, side
        if side > LARGE:
            yield "mordal-numbered", storage, side
    for side in (100, 200):
        yield "mordal-flat", "memory", side


def main() -> None:
    """Measure missing cases, one process per case, and write `results.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", nargs=4, metavar=("METHOD", "STORAGE", "SIDE", "ALIKE"))
    chosen = parser.parse_args()
    if chosen.case:
        method, storage, side, alike = chosen.case
        print(json.dumps(case(method, storage, int(side), int(alike))))
        return
    path = Path(__file__).parent / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cases": {}}
    for method, storage, side in cases():
        key = f"{side}x{side} {storage} {method}"
        if key in results["cases"]:
            continue
        ours = results["cases"].get(f"{side}x{side} {storage} mordal", {"trials": 0})
        alike = ours["trials"] if method == "tpe" else 0
        results["cases"][key] = measured(method, storage, side, alike)
        print(key, results["cases"][key], flush=True)
        results["machine"] = machine("optuna", "sqlalchemy", "numpy")
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def measured(method: str, storage: str, side: int, alike: int) -> dict[str, float]:
    """Figures of one case, measured in a separate process."""
    command = [sys.executable, "-m", __spec__.name, "--case"]
    done = subprocess.run(
        [*command, method, storage, str(side), str(alike)],
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def case(method: str, storage: str, side: int, alike: int) -> dict[str, float]:
    """Measure one case in this process.

    Args:
        method: `mordal`, `tpe`, `mordal-numbered` or `mordal-flat`.
        storage: `memory` or `sqlite`.
        side: number of encoders, and number of LLMs.
        alike: number of first trials in the figures that end in `_alike`; 0 for all.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = next(t for n, t, _ in POOLS if n == side)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.db"
        database = None
        if storage != "memory":
            database = optuna.storages.RDBStorage(f"sqlite:///{file}")
        sampler, pruner = parts(method, side)
        study = optuna.create_study(
            direction="maximize", storage=database, sampler=sampler, pruner=pruner
        )
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
    """Counts the SQL statements of a database."""

    def __init__(self, database: optuna.storages.RDBStorage | None) -> None:
        """Start counting.

        Args:
            database: storage to observe; None for an in-memory storage, which has no statements.
        """
        self._database = database
        self._count = 0
        if database:
            event.listen(database.engine, "before_cursor_execute", self._add)

    def _add(self, *_: object) -> None:
        self._count += 1

    def per_trial(self, trials: int, reports: int) -> dict[str, float]:
        """SQL statements per trial and reports per trial."""
        if self._database is None:
            return {}
        return {"statements": self._count / trials, "reports": reports / trials}


def speed(asks: list[float], prunes: list[list[float]], alike: int) -> dict[str, float]:
    """Milliseconds over all trials, and over the first `alike` trials."""
    return {
        "ask_ms": 1000 * median(asks),
        "ask_ms_last_tenth": 1000 * median(asks[-len(asks) // 10 :]),
        "ask_ms_worst": 1000 * max(asks),
        "prune_ms": 1000 * median(chain.from_iterable(prunes)),
        "alike": min(alike, len(asks)),
        "ask_ms_alike": 1000 * median(asks[:alike]),
        "prune_ms_alike": 1000 * median(chain.from_iterable(prunes[:alike])),
    }


def parts(method: str, side: int) -> tuple[optuna.samplers.BaseSampler, optuna.pruners.BasePruner]:
    """Sampler and pruner of a method."""
    if method == "tpe":
        pruner = optuna.pruners.HyperbandPruner(RUNGS[0], FULL, 2)
        return optuna.samplers.TPESampler(seed=0), pruner
    plan = plan_of(method, side)
    return CkaClusterSampler(plan), LogLinearHalvingPruner(plan)


def plan_of(method: str, side: int) -> MordalPlan:
    """Our search plan for a pool."""
    size = next(s for n, _, s in POOLS if n == side)
    encoders, llms = names(side)
    flat = method == "mordal-flat"
    pool = ClusterTree.flat(encoders, llms) if flat else tree(encoders, llms, size)
    return MordalPlan(pool, RUNGS, FULL, top_clusters=3)


def tree(encoders: list[str], llms: list[str], size: int) -> ClusterTree:
    """A tree with clusters of equal size, in the order of the names."""
    cut = [
        [Group(tuple(x[i : i + size])) for i in range(0, len(x), size)] for x in (encoders, llms)
    ]
    clusters = tuple(CandidateCluster(v, m) for v in cut[0] for m in cut[1])
    return ClusterTree(tuple(encoders), tuple(llms), clusters)


def names(side: int) -> tuple[list[str], list[str]]:
    """Names as long as hub ids."""
    encoders = [f"organisation/vision-encoder-large-{i:04d}" for i in range(side)]
    return encoders, [f"organisation/language-model-7b-{i:04d}" for i in range(side)]


def run(
    study: optuna.Study, side: int, trials: int, plan: MordalPlan | None
) -> tuple[list[float], list[list[float]]]:
    """Run a search; seconds of each trial's ask, and of each trial's pruning decisions."""
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
    """Suggest a pair by names; the result is formatted like `str(Candidate)`."""
    encoder = trial.suggest_categorical("vision_encoder", encoders)
    return f"{encoder} + {trial.suggest_categorical('llm', llms)}"


if __name__ == "__main__":
    main()
