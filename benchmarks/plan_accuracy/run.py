"""Compare the plan of the quick start with what it then spends on the same machine.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.plan_accuracy.run [--again]

Measures this machine's rates as `mordal plan --measure` does, runs the quick start in a new work
folder (the pool in `runs/zoo` is built unless it is there), measures the rates again, and writes
`results.json`: rates, what was spent by part, and the plans by the rates before, after, and by
their mean. Other programs on the machine slow both down, and not at the same time, so it should be
idle; the two rates show whether it was. `--again` computes the plans anew from stored rates.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import machine
from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped_study
from mordal_optuna.planning.devices import Device
from mordal_optuna.planning.measuring import measured_device
from mordal_optuna.planning.plan import FirstPage, first_page, second_page

HERE = Path(__file__).parent
WORKDIR = Path("runs/plan-accuracy")
PARTS = ("features", "warmup", "training", "evaluation", "total")


def plan(first: FirstPage, device: Device) -> dict[str, float]:
    """Device-seconds by part that the plan expects.

    Args:
        first: first page of the quick start's plan.
        device: measured device.
    """
    found = second_page(first, device).forecast
    assert found
    parts = {part: round(getattr(found.mean, part), 2) for part in PARTS}
    more = {"low": found.low, "high": found.high, "full_runs": found.full_runs}
    return {**parts, **{name: round(value, 2) for name, value in more.items()}}


def between(before: Device, after: Device) -> Device:
    """A device with the means of two measurements; seconds are averaged, not rates.

    Args:
        before: measured before the run.
        after: measured after it.
    """
    return replace(
        before,
        rate=2 / (1 / before.rate + 1 / after.rate),
        bandwidth=2 / (1 / before.bandwidth + 1 / after.bandwidth),
        operation_seconds=(before.operation_seconds + after.operation_seconds) / 2,
        element_seconds=(before.element_seconds + after.element_seconds) / 2,
    )


def spend() -> dict[str, Any]:
    """Run the quick start in a new work folder; its cost as `mordal run --json` prints it."""
    shutil.rmtree(WORKDIR, ignore_errors=True)
    content = yaml.safe_load(shipped_study("quickstart").read_text(encoding="utf-8"))
    WORKDIR.mkdir(parents=True)
    file = WORKDIR / "study.yaml"
    file.write_text(yaml.safe_dump({**content, "workdir": str(WORKDIR)}), encoding="utf-8")
    command = [sys.executable, "-m", "mordal_optuna", "run", str(file), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, run, measure, and write the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", action="store_true")
    again = parser.parse_args().again
    file = HERE / "results.json"
    first = first_page(read_study(shipped_study("quickstart"), places=False))
    if again:
        stored = json.loads(file.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Device)}
        devices = [
            Device(**{k: v for k, v in stored["devices"][when].items() if k in names})
            for when in ("before", "after")
        ]
        # What is assumed, not measured, is that of the present version.
        devices = [replace(device, host_seconds=_assumed()) for device in devices]
        spent, time = stored["spent"], stored["time"]
    else:
        devices = [measured_device(first)]
        result = spend()
        devices.append(measured_device(first))
        spent, time = result["costs"], result["time"]
    report: dict[str, Any] = {
        "machine": stored["machine"] if again else machine("torch", "transformers"),
        "devices": {
            when: asdict(device) for when, device in zip(("before", "after"), devices, strict=True)
        },
        "spent": spent,
        "time": time,
    }
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plans = {
        "before": plan(first, devices[0]),
        "after": plan(first, devices[1]),
        "mean": plan(first, between(*devices)),
    }
    report["plans"] = plans
    report["ratio"] = {
        when: round(found["total"] / spent["total"], 3) for when, found in plans.items()
    }
    file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"plans": plans, "spent": spent, "ratio": report["ratio"]}, indent=1))


def _assumed() -> float:
    from mordal_optuna.planning.devices import DEVICES

    return DEVICES["cpu"].host_seconds


if __name__ == "__main__":
    main()
