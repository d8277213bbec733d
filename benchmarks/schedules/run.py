"""Which learning-rate schedule makes the final score most predictable, on the pairs of nine.py.

    uv run python -m benchmarks.nine runs/nine
    uv run python -m benchmarks.schedules.run runs/nine

Every pair is aligned under every schedule and scored at every rung. Scores are stored in
results.json, so that an interrupted run can be continued. Curves (`fit_pool`) predict the score at
r = 1 from the rungs up to r = 1/4; the truth is the score at r = 1 under the same schedule.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import nine
from benchmarks.machine import machine
from mordal_optuna.config import StudySettings
from mordal_optuna.progress import Silent
from mordal_optuna.replay.metrics import weighted_tau
from mordal_optuna.search.curves import Measurement, fit_pool

RESULTS = Path(__file__).parent / "results.json"
SCHEDULES: dict[str, dict[str, object]] = {
    "constant": {"schedule": "constant"},
    "ema .05": {"schedule": "ema", "average_width": 0.05},
    "ema .1": {"schedule": "ema", "average_width": 0.1},
    "ema .2": {"schedule": "ema", "average_width": 0.2},
    "cooldown .1": {"schedule": "cooldown", "cooldown": 0.1},
    "cooldown .2": {"schedule": "cooldown", "cooldown": 0.2},
    "linear": {"schedule": "linear"},
}
RUNGS = (192, 384, 768, 1536, 3072)
# Random seeds of the order of samples, the projector and LoRA.
SEEDS = (0, 1)
# Largest rung used for predictions: a quarter of the data.
LAST = 768


def study(zoo: Path, workdir: Path, changes: dict[str, object], seed: int) -> StudySettings:
    """The study of the nine pairs with other alignment settings, scored on the target task alone.

    Args:
        zoo: folder of the built pool.
        workdir: work folder.
        changes: alignment settings to change.
        seed: random seed.
    """
    content = json.loads(nine.study(zoo).model_dump_json())
    content["alignment"].update(changes)
    content.update(workdir=str(workdir), also_score=[], seed=seed)
    return StudySettings.model_validate(content)


def measure(zoo: Path, results: dict[str, Any]) -> None:
    """Measure all curves that the results lack, and write them after every pair."""
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
                    curve = [bench.measure(candidate, samples) for samples in RUNGS]
                    done[str(candidate)] = [
                        [m.samples, m.score, m.stderr, m.documents, m.train_seconds] for m in curve
                    ]
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(features)


def predicted(curves: dict[str, list[Measurement]]) -> dict[str, float]:
    """Scores at r = 1, predicted from the rungs up to a quarter of the data."""
    early = {name: [m for m in points if m.samples <= LAST] for name, points in curves.items()}
    return {
        name: 1 - float(np.exp(fit.log_error(RUNGS[-1])[0]))
        for name, fit in fit_pool(early, least=3).items()
    }


def summary(rows: dict[str, list[list[float]]]) -> dict[str, float]:
    """Errors of the predictions, and the final scores.

    Args:
        rows: rungs of each pair: samples, score, standard error, documents, training seconds.
    """
    curves = {
        name: [Measurement(int(n), score, stderr, int(docs)) for n, score, stderr, docs, _ in row]
        for name, row in rows.items()
    }
    truth = {name: points[-1].score for name, points in curves.items()}
    predictions = predicted(curves)
    names = list(truth)
    true, predictions_in_order = [truth[n] for n in names], [predictions[n] for n in names]
    differences = np.array(predictions_in_order) - np.array(true)
    last = [next(m.score for m in curves[n] if m.samples == LAST) for n in names]
    return {
        "final_score": float(np.mean(list(truth.values()))),
        "best_final_score": max(truth.values()),
        "mean_absolute_error": float(np.abs(differences).mean()),
        "bias": float(differences.mean()),
        "error_after_bias": float(np.abs(differences - differences.mean()).mean()),
        "tau_of_predictions": weighted_tau(
            [predictions[n] for n in names], [truth[n] for n in names]
        ),
        "tau_of_last_rung": weighted_tau(last, true),
        "train_seconds": float(np.mean([row[-1][-1] for row in rows.values()])),
    }


def table(results: dict[str, Any]) -> str:
    """The table of the README as text."""
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
    """Measure missing curves if a pool is given, summarise all curves, and print the table."""
    results: dict[str, Any] = {"curves": {}}
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
