"""Curves of some pairs on all tasks of a study, to see where scores leave chance and level off.

    python -m benchmarks.minigrid.make.trial STUDY.yaml results.json clip-m+llama-m ...

Builds missing parts of the study's pool, trains every given pair to all rungs and scores it there
on every task. Pairs that are in the results file already are not measured again. Seconds are CPU
seconds of this process, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.minigrid.make.setting import Setting, build_pool
from benchmarks.pairs import open_session, scored_rungs
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.pool import Candidate

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings


def main() -> None:
    """Measure the given pairs that the results file does not have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("pairs", nargs="+", help="ENCODER+LLM")
    given = parser.parse_args()
    build_pool(given.study, workers=2)
    setting = Setting(given.study)
    torch.set_num_threads(setting.settings.runtime.threads)
    curves: dict[str, Any] = {}
    if given.results.is_file():
        curves = json.loads(given.results.read_text(encoding="utf-8"))
    for pair in given.pairs:
        if pair not in curves:
            curves[pair] = measure(setting, Candidate(*pair.split("+")))
            given.results.write_text(json.dumps(curves, indent=1), encoding="utf-8")
        print(table(pair, curves[pair]), flush=True)


def measure(setting: Setting, candidate: Candidate) -> dict[str, Any]:
    """Scores of a pair by task and rung, with seconds.

    Args:
        setting: the study.
        candidate: the pair.

    Returns:
        `samples`, `scores` by task, `train_seconds` and `score_seconds` by rung.
    """
    settings = setting.settings
    session = open_session(
        settings,
        candidate,
        setting.data,
        checkpoints=CheckpointStore(settings.checkpoint_folder()),
        machine=_machine(settings),
    )
    curve: dict[str, Any] = {"samples": [], "scores": {task.name: [] for task in setting.tasks}}
    curve |= {"train_seconds": [], "score_seconds": []}
    for rung in scored_rungs(session, setting.rungs, setting.tasks):
        for score in rung.scores:
            curve["scores"][score.task].append(round(score.value, 4))
        curve["samples"].append(rung.samples)
        curve["train_seconds"].append(round(rung.train_cpu_seconds, 1))
        curve["score_seconds"].append(round(rung.score_cpu_seconds, 1))
        print(table(str(candidate), curve), flush=True)
    return curve


def _machine(settings: StudySettings) -> Machine:
    return Machine(
        torch.device("cpu"),
        features=settings.workdir / "features",
        feature_bytes=int(settings.runtime.feature_cache_gb * 1e9),
        threads=1,
    )


def table(pair: str, curve: dict[str, Any]) -> str:
    """A pair's errors by task and rung, as text.

    Args:
        pair: name of the pair.
        curve: result of `measure`.
    """
    lines = [f"{pair}: error at " + " ".join(f"{n:>5}" for n in curve["samples"])]
    for task, scores in curve["scores"].items():
        lines.append(f"  {task:<16} " + " ".join(f"{1 - value:5.2f}" for value in scores))
    means = [sum(s) / len(s) for s in zip(*curve["scores"].values(), strict=True)]
    lines.append(f"  {'mean':<16} " + " ".join(f"{1 - value:5.2f}" for value in means))
    train, scored = sum(curve["train_seconds"]), sum(curve["score_seconds"])
    lines.append(f"  CPU seconds: training {train:.0f}, scoring {scored:.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
