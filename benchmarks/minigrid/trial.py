"""Curves of some pairs on all tasks of a study: is the pool in the regime that searches assume?

    python -m benchmarks.minigrid.trial studies/minigrid.yaml results.json clip-m+llama-m ...

builds what the study's pool lacks, trains every pair given to the rungs and scores it there on
every task. What is in the results file already is not measured again. Seconds are CPU seconds of
this process, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.config import read_study
from mordal_optuna.evaluation.score import score
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.zoo.build import build
from mordal_optuna.zoo.recipe import recipe

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings

RATIOS = (32, 16, 8, 4, 2, 1)


def main() -> None:
    """Measure the pairs of the command line that the results lack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("pairs", nargs="+", help="ENCODER+LLM")
    given = parser.parse_args()
    settings = read_study(given.study)
    torch.set_num_threads(settings.runtime.threads)
    if settings.zoo:
        build(recipe(settings.zoo.recipe), settings.zoo.folder, Silent(), workers=2)
    found: dict[str, Any] = {}
    if given.results.is_file():
        found = json.loads(given.results.read_text(encoding="utf-8"))
    for pair in given.pairs:
        if pair not in found:
            found[pair] = measure(settings, Candidate(*pair.split("+")))
            given.results.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(table(pair, found[pair]), flush=True)


def measure(settings: StudySettings, candidate: Candidate) -> dict[str, Any]:
    """Scores of a pair by task and rung, and what they took.

    Args:
        settings: the study.
        candidate: the pair.

    Returns:
        `samples`, `scores` by task, `train_seconds` and `score_seconds` by rung.
    """
    asked = (settings.task, *settings.also_score)
    tasks = [build_task(t, settings.task_folders, seed=settings.seed) for t in asked]
    data = AlignmentSet.read(settings.alignment, seed=settings.seed, progress=Silent(), threads=1)
    encoder, llm = settings.models().parts(candidate)
    session = AlignmentSession(
        encoder,
        llm,
        settings=settings.alignment,
        seed=settings.seed,
        data=data,
        checkpoints=CheckpointStore(settings.checkpoint_folder()),
        machine=Machine(
            torch.device("cpu"),
            features=settings.workdir / "features",
            feature_bytes=int(settings.runtime.feature_cache_gb * 1e9),
            threads=1,
        ),
    )
    found: dict[str, Any] = {"samples": [], "scores": {t.name: [] for t in asked}}
    found |= {"train_seconds": [], "score_seconds": []}
    for ratio in RATIOS:
        start = process_time()
        samples = len(data) // ratio
        session.advance(samples, Silent())
        trained = process_time()
        scores = score(session.vlm.model, session.vlm.processor, tasks)
        assert scores is not None
        for value in scores:
            found["scores"][value.task].append(round(value.value, 4))
        found["samples"].append(samples)
        found["train_seconds"].append(round(trained - start, 1))
        found["score_seconds"].append(round(process_time() - trained, 1))
        print(table(str(candidate), found), flush=True)
    return found


def table(pair: str, found: dict[str, Any]) -> str:
    """A pair's errors by task and rung."""
    lines = [f"{pair}: error at " + " ".join(f"{n:>5}" for n in found["samples"])]
    for task, scores in found["scores"].items():
        lines.append(f"  {task:<16} " + " ".join(f"{1 - value:5.2f}" for value in scores))
    means = [sum(s) / len(s) for s in zip(*found["scores"].values(), strict=True)]
    lines.append(f"  {'mean':<16} " + " ".join(f"{1 - value:5.2f}" for value in means))
    train, scored = sum(found["train_seconds"]), sum(found["score_seconds"])
    lines.append(f"  CPU seconds: training {train:.0f}, scoring {scored:.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
