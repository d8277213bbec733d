"""Costs of a replayed search, as measured and as projected to models of 7B parameters.

With tiny models, evaluation and warm-up make up an unusually large share. Costs are therefore also
projected: each part is counted in its own unit (samples trained on, documents scored, images
encoded) and multiplied by the cost of that unit at 7B.

Symbols:
    P = 7e9     parameters of the LLM
    V = 3e8     parameters of the encoder (ViT-L), 577 tokens an image
    T = 800     tokens a sample: 576 of the image, the rest text
    F = 4e14    useful FLOP/s: bf16 on one H100-class device at about 40 % of its peak

Device-seconds a unit, from operation counts:
    training sample     4 P T / F = .056   forward 2 P T; backward 2 P T, since LoRA needs the
                                           gradients of activations but not of frozen weights
    scored document     2 P T / F = .028   prefill; ten short answer tokens, decoded in batches of
                                           16 at 4 ms a step (14 GB of weights read), add .0025
    encoded image       2 V 577 / F = .0009
    warm-up             counted as the number of samples that the pair trains on in the same time,
                        each at .056
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.study.costs import Costs

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.clusters import ClusterTree
    from mordal_optuna.search.history import History

TRAIN_SAMPLE = 0.056
SCORED_DOCUMENT = 0.0305
PICTURE = 0.0009

# Parts of `Costs` that a replay has: a grid file gives features and similarities together, and in
# a replay nothing fails and nothing is reused.
PARTS = ("features", "warmup", "training", "evaluation")


def cost_parts(costs: Costs) -> dict[str, float]:
    """Device-seconds by part, for the parts that a replay has."""
    return {part: getattr(costs, part) for part in PARTS}


def warmed_up(tree: ClusterTree) -> list[Candidate]:
    """Pairs whose projectors are warmed up: each LLM with each medoid that fed the LLMs."""
    medoids = tree.thresholds.llms if tree.thresholds else ()
    return [c for c in tree.candidates if c.vision_encoder in medoids]


def comparison_costs(grid: Grid, tree: ClusterTree) -> tuple[Costs, Costs | None]:
    """Costs of features and warm-ups, measured and projected.

    Args:
        grid: grid file with the costs.
        tree: clusters of the pool.

    Returns:
        The measured and the projected costs. The latter are None if the file does not say how
        fast a warmed-up pair trains.

    Raises:
        GridError: if the file lacks the cost of a warm-up.
    """
    seconds = {candidate: grid.warmup(candidate) for candidate in warmed_up(tree)}
    measured = Costs(features=grid.feature_seconds, warmup=sum(seconds.values()))
    if not all(grid.seconds_per_sample(candidate) for candidate in seconds):
        return measured, None
    equal_samples = sum(s / grid.seconds_per_sample(c) for c, s in seconds.items())
    pictures = len(grid.encoders) * grid.test_documents
    return measured, Costs(features=pictures * PICTURE, warmup=equal_samples * TRAIN_SAMPLE)


def search_costs(
    grid: Grid, history: History, before: Costs, before_projected: Costs | None
) -> tuple[Costs, Costs | None]:
    """Costs of a whole search, measured and projected.

    Args:
        grid: grid file the search ran on.
        history: measurements of the search.
        before: measured costs before the first trial.
        before_projected: projected costs before the first trial; None if they are not known.

    Returns:
        The measured and the projected costs; the latter are None if those before the first trial
        are not known.
    """
    records = history.candidates.values()
    measured = Costs(
        features=before.features,
        warmup=before.warmup,
        training=sum(r.train_seconds for r in records),
        evaluation=sum(r.eval_seconds for r in records),
    )
    if before_projected is None:
        return measured, None
    scored = sum(len(r.measurements) for r in records) * grid.test_documents
    projected = Costs(
        features=before_projected.features,
        warmup=before_projected.warmup,
        training=sum(r.top for r in records) * TRAIN_SAMPLE,
        evaluation=scored * SCORED_DOCUMENT,
    )
    return measured, projected


def projected_grid_seconds(grid: Grid) -> float:
    """Projected device-seconds to train every pair on D samples and score it once."""
    each = grid.full_samples * TRAIN_SAMPLE + grid.test_documents * SCORED_DOCUMENT
    return len(grid.candidates) * each
