"""Synthetic files in the minigrid's formats: a small pool whose truth is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.replay.synthetic import synthetic_grid

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.replay.grid import Grid

TASKS = ("gqa", "chartqa")
SCHEDULES = ("linear", "cooldown", "ema")
# Number of runs with further seeds: of the first pair, the second, the third, the first again, ...
FURTHER = (2, 1, 0)


def write_files(
    folder: Path,
    *,
    tasks: tuple[str, ...] = TASKS,
    side: int = 3,
    documents: int = 120,
    cluster: int = 2,
    schedules: bool = True,
) -> None:
    """Every file of the minigrid for a pool of side x side, with one to three runs of a pair.

    Documents come in clusters of `cluster` that are answered alike; a document's difficulty is the
    same for all pairs, so that their scores are correlated as on a real task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rivals: dict[str, dict] = {"seconds": {"logme": 3.0, "logme@budget": 9.0}}
    further, other = {}, {}
    warmups: dict[str, float] = {}
    for number, task in enumerate(tasks):
        rng = np.random.default_rng(number)
        grid = synthetic_grid(number, encoders=side, llms=side, documents=documents)
        for pair, seconds in grid.warmup_seconds.items():  # the LLM's features are the rest
            warmups[pair] = min(warmups.get(pair, np.inf), seconds / 2)
        difficulty = np.repeat(rng.random(documents // cluster), cluster)
        clusters = np.repeat(np.arange(documents // cluster), cluster)
        curves = np.array([curve.score for curve in grid.curves])
        values = _answers(rng, curves, difficulty)
        pairs = [[c.vision_encoder, c.llm] for c in grid.candidates]
        chosen = list(range(0, len(pairs), max(1, len(pairs) // 9)))[:9]
        again = [n for n in range(len(pairs)) for _ in range(FURTHER[n % len(FURTHER)])]
        moved = np.clip(curves[again] + rng.normal(0, 0.02, (len(again), 1)), 0, 1)
        further[task] = _answers(rng, moved, difficulty)
        further[f"{task}/nll"] = _nlls(moved)
        further[f"{task}/p_correct"] = np.exp(-_nlls(moved))
        other[task] = [[row.tolist()] * len(SCHEDULES) for row in curves[chosen]]
        noisy = (curves[:, -1] + rng.normal(0, 0.05, len(pairs))).tolist()
        rivals[task] = {"logme": noisy, "logme@budget": [None, *noisy[1:]]}
        nlls = _nlls(curves)[..., None] * (0.5 + difficulty)
        _write_grid(folder, task, grid, values, nlls, clusters)
        np.savez_compressed(folder / f"{task}.npz", values=values, nlls=nlls, clusters=clusters)
    samples = list(grid.curves[0].samples)
    listed = {"pairs": [pairs[n] for n in chosen], "samples": samples}
    runs = [[*pairs[n], 1 + again[:at].count(n)] for at, n in enumerate(again)]
    _dump(folder / "seeds.json", {"runs": runs, "samples": samples})
    np.savez_compressed(folder / "seeds.npz", **further)
    _dump(folder / "rivals.json", rivals)
    _dump(folder / "warmups.json", warmups)
    if schedules:
        _dump(folder / "schedules.json", {**listed, "schedules": SCHEDULES, **other})


def _answers(rng: np.random.Generator, scores: np.ndarray, difficulty: np.ndarray) -> np.ndarray:
    """Right where a document's difficulty, a little different for everyone, is below the score."""
    own = difficulty + rng.normal(0, 0.1, (*scores.shape, len(difficulty)))
    return (own < scores[..., None]).astype(np.float16)


def _nlls(scores: np.ndarray) -> np.ndarray:
    """The better the score, the likelier the answer."""
    return 3 * (1 - scores) + 0.05


def _write_grid(
    folder: Path,
    task: str,
    grid: Grid,
    values: np.ndarray,
    nlls: np.ndarray,
    clusters: np.ndarray,
) -> None:
    scores = values.astype(float).mean(axis=2)
    stored = json.loads(grid.model_dump_json()) | {"task": task}
    sizes = np.bincount(clusters)
    factor = len(sizes) / (len(sizes) - 1)
    for curve, score, own, nll in zip(
        stored["curves"], scores, values.astype(float), nlls, strict=True
    ):
        curve["score"], curve["nll"] = score.tolist(), nll.mean(axis=1).tolist()
        curve["p_correct"] = np.exp(-nll).mean(axis=1).tolist()
        likelihoods = (("nll_stderr", nll), ("p_correct_stderr", np.exp(-nll)))
        for key, rows in (("stderr", own), *likelihoods):
            sums = np.array([np.bincount(clusters, row - row.mean()) for row in rows])
            curve[key] = (np.sqrt(factor * (sums**2).sum(axis=1)) / len(clusters)).tolist()
    _dump(folder / f"{task}.json", stored)
    lifted = (0.5 + np.array(stored["vision_similarity"]) / 2).tolist()
    biased = {"vision_similarity": lifted, "llm_similarity": stored["llm_similarity"]}
    _dump(folder / f"{task}.biased.json", biased)


def _dump(path: Path, stored: dict) -> None:
    path.write_text(json.dumps(stored) + "\n", encoding="utf-8")
