"""Which schedule makes f(1) most predictable, on the nine real small candidates of nine.py.

    uv run python -m benchmarks.nine runs/nine
    uv run python -m benchmarks.schedules.run runs/nine

Every pair is aligned under every schedule and scored at every rung; scores are kept in
results.json, so an interrupted run goes on. The truth of a schedule is its own score at r = 1.
From the rungs up to r = 1/4, our curves (`fit_pool`) predict it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import nine
from benchmarks.machine import machine
from mordal_optuna.config import StudySettings
from mordal_optuna.progress import Silent
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.search.curves import Measurement, fit_pool

RESULTS = Path(__file__).parent / "results.json"
SCHEDULES = {
    "constant": {"schedule": "constant"},
    "ema .05": {"schedule": "ema", "average_width": 0.05},
    "ema .1": {"schedule": "ema", "average_width": 0.1},
    "ema .2": {"schedule": "ema", "average_width": 0.2},
    "cooldown .1": {"schedule": "cooldown", "cooldown": 0.1},
    "cooldown .2": {"schedule": "cooldown", "cooldown": 0.2},
    "linear": {"schedule": "linear"},
}
RUNGS = (192, 384, 768, 1536, 3072)
# Of the order of the samples, the projector and LoRA.
SEEDS = (0, 1)
# Predictions use rungs up to a quarter of the data.
LAST = 768


def study(zoo: Path, workdir: Path, changes: dict[str, object], seed: int) -> StudySettings:
    """Their study with another schedule, all documents scored."""
    content = json.loads(nine.study(zoo).model_dump_json())
    content["alignment"].update(changes)
    content.update(workdir=str(workdir), also_score=[], seed=seed)
    return StudySettings.model_validate(content)


def measure(zoo: Path, results: dict) -> None:
    """Whatever results.json lacks."""
    import torch

    from mordal_optuna.workbench.workbench import open_workbench

    torch.set_num_threads(1)
    for seed in SEEDS:
        features = Path(tempfile.mkdtemp())
        for name, changes in SCHEDULES.items():
            done = results["curves"].setdefault(name, {}).setdefault(str(seed), {})
            with tempfile.TemporaryDirectory() as scratch:
                workdir = Path(scratch)
                (workdir / "features").symlink_to(features)
                settings = study(zoo, workdir, changes, seed)
                bench = open_workbench(settings, Silent())
                for candidate in settings.models().candidates:
                    if str(candidate) in done:
                        continue
                    found = [bench.measure(candidate, samples) for samples in RUNGS]
                    done[str(candidate)] = [
                        [m.samples, m.score, m.stderr, m.documents, m.train_seconds] for m in found
                    ]
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(features)


def predicted(curves: dict[str, list[Measurement]]) -> dict[str, float]:
    """Scores at r = 1 as the rungs up to a quarter tell them."""
    known = {name: [m for m in points if m.samples <= LAST] for name, points in curves.items()}
    return {
        name: 1 - float(np.exp(fit.log_error(RUNGS[-1])[0]))
        for name, fit in fit_pool(known, least=3).items()
    }


def summary(rows: dict[str, list[list[float]]]) -> dict[str, float]:
    """How well the early rungs tell the end, and how good the end is."""
    curves = {
        name: [Measurement(int(n), score, stderr, int(docs)) for n, score, stderr, docs, _ in row]
        for name, row in rows.items()
    }
    truth = {name: points[-1].score for name, points in curves.items()}
    guess = predicted(curves)
    names = list(truth)
    differences = np.array([guess[n] - truth[n] for n in names])
    last = [next(m.score for m in curves[n] if m.samples == LAST) for n in names]
    return {
        "final_score": float(np.mean(list(truth.values()))),
        "best_final_score": max(truth.values()),
        "mean_absolute_error": float(np.abs(differences).mean()),
        "bias": float(differences.mean()),
        "error_after_bias": float(np.abs(differences - differences.mean()).mean()),
        "tau_of_predictions": weighted_tau([guess[n] for n in names], [truth[n] for n in names]),
        "tau_of_last_rung": weighted_tau(last, [truth[n] for n in names]),
        "train_seconds": float(np.mean([row[-1][-1] for row in rows.values()])),
    }


def table(results: dict) -> str:
    """Rows for the README."""
    lines = [
        "schedule      final  best  |error|   bias  |error - bias|  tau predicted  tau at 1/4"
        "  seconds"
    ]
    for name, seeds in results["curves"].items():
        each = [summary(rows) for rows in seeds.values()]
        s = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
        lines.append(
            f"{name:12} {100 * s['final_score']:6.1f} {100 * s['best_final_score']:5.1f} "
            f"{100 * s['mean_absolute_error']:8.1f} {100 * s['bias']:+6.1f} "
            f"{100 * s['error_after_bias']:15.1f} {s['tau_of_predictions']:14.3f} "
            f"{s['tau_of_last_rung']:11.3f} {s['train_seconds']:8.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing (without a zoo nothing), judge it, print the table."""
    results = {"curves": {}}
    if RESULTS.is_file():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    if len(sys.argv) > 1:
        results["machine"] = machine("torch", "transformers", "peft")
        measure(Path(sys.argv[1]), results)
    results["summary"] = {
        name: {seed: summary(rows) for seed, rows in seeds.items()}
        for name, seeds in results["curves"].items()
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
