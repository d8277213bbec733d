"""Synthetic grids, for testing a search without a real grid.

Symbols:
    e_i, l_j     effects of encoder i and LLM j on ln error at r = 1: a family effect plus an
                 individual effect
    g_ij         interaction of encoder i and LLM j, 5 % of the variance of the effects
    b_ij         slope of ln error on ln samples in the log-linear regime
    n0_ij        samples at which the regime begins: about D/8 for late bloomers, about D/64 for
                 other models
    err(n)       exp(m + e_i + l_j + g_ij) ((n + n0_ij) / (D + n0_ij)) ** b_ij, at most `CHANCE`

The error of late bloomers falls more steeply, so their curves cross those of others. All scores,
including those at r = 1, are shares of a finite number of documents. Models of a family are
similar: three quarters of the variance of their effects is shared, and their CKA is high. The
numbers were fixed before any method was run on the grids; they do not model real data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.errors import SearchError
from mordal_optuna.replay.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

# Rungs as fractions of D: D/32, D/16, ..., D.
RATIOS = (32, 16, 8, 4, 2, 1)
# Largest error, that of a candidate that guesses.
CHANCE = 0.95


def synthetic_grid(
    seed: int,
    *,
    encoders: int = 7,
    llms: int = 7,
    full_samples: int = 16384,
    documents: int = 500,
    rungs: Sequence[int] | None = None,
) -> Grid:
    """Draw a grid from the model above.

    Args:
        seed: random seed.
        encoders: number of vision encoders, at least 1.
        llms: number of LLMs, at least 1.
        full_samples: D, a positive multiple of 32.
        documents: number of documents behind each score, at least 1.
        rungs: samples of each rung, ascending up to D, which may then be any number; None for
            `RATIOS`.

    Raises:
        SearchError: if a number is out of its bounds.
    """
    for name, value in (("encoders", encoders), ("llms", llms), ("documents", documents)):
        if value < 1:
            raise SearchError(f"{name}: got {value}; it must be at least 1")
    if rungs is None and (full_samples < 1 or full_samples % RATIOS[0]):
        raise SearchError(
            f"full_samples: got {full_samples}; it must be a positive multiple of {RATIOS[0]}"
        )
    rng = np.random.default_rng(seed)
    vision, text = _Side(rng, encoders, 3), _Side(rng, llms, 3)
    samples = np.array(rungs or [full_samples // ratio for ratio in RATIOS])
    errors = _errors(rng, vision, text, samples)
    scores = 1 - rng.binomial(documents, errors) / documents
    names = [f"encoder-{i}" for i in range(encoders)], [f"llm-{j}" for j in range(llms)]
    curves = []
    for i, encoder in enumerate(names[0]):
        for j, llm in enumerate(names[1]):
            sample_seconds = 0.01 * (0.2 * vision.sizes[i] + 0.8 * text.sizes[j])
            curves.append(
                {
                    "encoder": encoder,
                    "llm": llm,
                    "samples": samples.tolist(),
                    "score": scores[i, j].tolist(),
                    "train_seconds": (samples * sample_seconds).tolist(),
                    # A document costs about half a training sample, as at 7B.
                    "eval_seconds": [documents * sample_seconds / 2] * len(samples),
                }
            )
    return Grid.model_validate(
        {
            "task": f"synthetic-{seed}",
            "full_samples": full_samples,
            "test_documents": documents,
            "encoders": names[0],
            "llms": names[1],
            "vision_similarity": vision.similarity(rng).tolist(),
            "llm_similarity": {name: text.similarity(rng).tolist() for name in names[0]},
            # A warm-up with the LLM's features costs 1 % of a full alignment.
            "warmup_seconds": {
                f"{c['encoder']}|{c['llm']}": 0.01 * c["train_seconds"][-1] for c in curves
            },
            "curves": curves,
            "feature_seconds": encoders * documents * 0.001,
        }
    )


class _Side:
    """Effects of all encoders, or of all LLMs."""

    def __init__(self, rng: np.random.Generator, count: int, families: int) -> None:
        self.families = rng.integers(0, families, count)
        shared = rng.normal(0, 0.15 * 0.75**0.5, families)[self.families]
        self.effects = shared + rng.normal(0, 0.15 * 0.25**0.5, count)
        self.late = rng.random(count) < 0.15
        self.slopes = rng.normal(0, 0.03, count) - 0.1 * self.late
        self.sizes = rng.lognormal(0, 0.3, count)

    def similarity(self, rng: np.random.Generator) -> np.ndarray:
        """CKA matrix: about .85 inside a family and .45 between families."""
        same = self.families[:, None] == self.families[None]
        matrix = np.where(same, 0.85, 0.45) + rng.normal(0, 0.05, same.shape)
        matrix = np.clip((matrix + matrix.T) / 2, -1, 0.999)
        np.fill_diagonal(matrix, 1.0)
        return matrix


def _errors(
    rng: np.random.Generator, vision: _Side, text: _Side, samples: np.ndarray
) -> np.ndarray:
    """Errors, M x L x rungs."""
    effects = vision.effects[:, None] + text.effects[None]
    interaction = rng.normal(0, (0.05 * 2) ** 0.5 * 0.15, effects.shape)
    slopes = -0.2 + vision.slopes[:, None] + text.slopes[None]
    full = samples[-1]
    late = vision.late[:, None] | text.late[None]
    begins = np.where(late, full / 8, full / 64) * rng.lognormal(0, 0.3, effects.shape)
    level = np.exp(np.log(0.35) + effects + interaction)
    n0 = begins[..., None]
    curve = level[..., None] * ((samples + n0) / (full + n0)) ** slopes[..., None]
    return np.clip(curve, 0.01, CHANCE)
