"""Time and memory of a decision and of the final ranking of the method `joint`.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.search_overhead.joint

Each case runs in a separate process and replaces its figures in `joint.json`, so that the command
measures anew each time; `--side` chooses cases. Scores are drawn: the ln error of a pair is a sum
of effects of its parts and its own, and falls with the samples. Scored pairs are those of
a balanced design, at the lowest rungs first.

A decision is one round of jobs: posterior, test whether the answer is good enough, choice. The
model of the round before is there, as in a search; hyperparameters are fitted anew with up to 400
scores and each time their number doubles. The first decision, after a restart, begins with all
scores at once. A ranking is what the search prints at its end: estimates of all
pairs and probabilities of being best. Memory is the rise of the process's peak over what it had
before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.machine import machine
from benchmarks.search_overhead.run import names
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.joint.board import Situation, Target
from mordal_optuna.search.joint.choice import KnowledgeGradient
from mordal_optuna.search.joint.design import balanced_start
from mordal_optuna.search.joint.job_costs import JobCosts
from mordal_optuna.search.joint.posterior import JointModel
from mordal_optuna.search.ranking import Ranker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.methods.joint import Scored

RUNGS = (512, 1024, 2048, 4096, 8192, 16384)
FULL = RUNGS[-1]
# Models per side of the pool, and number of scores.
POOLS = ((7, 60), (16, 200), (100, 1000), (1000, 5000))
# Rungs at which a scored pair is scored, and jobs of a round.
_EACH, _ROUND = 2, 4
_DOCUMENTS = 500


@dataclass(frozen=True)
class Case:
    """A pool with scores.

    Attributes:
        tree: the pool.
        history: all scores.
    """

    tree: ClusterTree
    history: History

    @staticmethod
    def drawn(side: int, count: int) -> Case:
        """A pool of side x side with a number of scores, at most two a pair."""
        rng = np.random.default_rng(0)
        encoders, llms = names(side)
        pairs = balanced_start(encoders, llms, -(-count // (_EACH * side)))
        u, v = (dict(zip(n, rng.normal(0, 0.15, side), strict=True)) for n in (encoders, llms))
        history = {}
        scores_left = count
        for candidate in islice(pairs, -(-count // _EACH)):
            level = -0.7 + u[candidate.vision_encoder] + v[candidate.llm] + rng.normal(0, 0.1)
            rows = []
            for samples in RUNGS[2 : 2 + min(_EACH, scores_left)]:
                y = level - 0.1 * np.log2(samples / FULL) + rng.normal(0, 0.05)
                error = min(float(np.exp(y)), 0.99)
                stderr = (error * (1 - error) / _DOCUMENTS) ** 0.5
                rows.append(Measurement(samples, 1 - error, stderr, _DOCUMENTS, samples * 0.01, 2))
            scores_left -= len(rows)
            history[candidate] = CandidateHistory(tuple(rows))
        return Case(ClusterTree.flat(encoders, llms), History(history))

    @property
    def scores(self) -> list[Scored]:
        """All scores, rung by rung, as rounds ask for them."""
        rows = [(c, "", m) for c, r in self.history.candidates.items() for m in r.measurements]
        return sorted(rows, key=lambda row: row[2].samples)

    def model(self, count: int, before: JointModel | None = None) -> JointModel:
        """The model of the first scores, with its posterior."""
        scores = [(c, m) for c, _, m in self.scores[:count]]
        model = JointModel.following(before, scores, self.tree.candidates, FULL)
        model.posterior.expected_regret(int(model.posterior.mean.argmin()))
        return model

    def decide(self, before: JointModel | None) -> int:
        """Choose a round; returns the number of its jobs.

        Args:
            before: the model of the round before, which lacks the last four scores; None after
                a restart.
        """
        known: dict[Candidate, dict[str, list[Measurement]]] = {}
        for candidate, task, measurement in self.scores:
            known.setdefault(candidate, {}).setdefault(task, []).append(measurement)
        model = self.model(len(self.scores), before)
        situation = Situation(
            targets=(Target(model, _DOCUMENTS),),
            tops={c: rows[""][-1].samples for c, rows in known.items()},
            excluded=frozenset(),
            rungs=RUNGS,
            first=RUNGS[2:4],
            costs=JobCosts.learned(known, FULL),
        )
        return len(KnowledgeGradient()(situation, _ROUND))

    def rank(self) -> int:
        """Rank the pool; returns the number of estimates."""
        ranker = Ranker(self.tree, FULL)
        posterior = ranker.posterior(self.history)
        return len(ranker.rank_with_chances(self.history, posterior))


def measured(side: int, count: int, repeats: int) -> dict[str, float]:
    """Figures of one case, in this process.

    Args:
        side: number of encoders, and number of LLMs.
        count: number of scores.
        repeats: number of times that each is run; the fastest counts.
    """
    case = Case.drawn(side, count)
    scores = sum(len(r.measurements) for r in case.history.candidates.values())
    figures: dict[str, float] = {"pairs": side * side, "scores": scores}
    earlier = case.model(scores - _ROUND)
    for name, work in (
        ("decision", lambda: case.decide(earlier)),
        ("first_decision", lambda: case.decide(None)),
        ("ranking", case.rank),
    ):
        before = _peak()
        figures[f"{name}_s"] = min(_seconds(work) for _ in range(repeats))
        figures[f"{name}_mb"] = _peak() - before
    return figures


def _seconds(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak() -> float:
    """Peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure the chosen cases, one process each, and write `joint.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, choices=[side for side, _ in POOLS], action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="print one case, in this process")
    chosen = parser.parse_args()
    sides = chosen.side or [side for side, _ in POOLS]
    if chosen.here:
        print(json.dumps(measured(sides[0], dict(POOLS)[sides[0]], chosen.repeats)))
        return
    path = Path(__file__).parent / "joint.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"cases": {}}
    for side in sides:
        command = [sys.executable, "-m", __spec__.name, "--here", "--side", str(side)]
        command += ["--repeats", str(chosen.repeats)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        key = f"{side}x{side}"
        results["cases"][key] = json.loads(done.stdout)
        print(key, results["cases"][key], flush=True)
        results["machine"] = machine("numpy", "scipy")
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
