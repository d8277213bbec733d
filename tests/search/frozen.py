"""Finished and running trials of one pair, as a storage returns them."""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mordal_optuna.pool import Candidate

PAIR = Candidate("clip", "llama")


def trial(
    scores: dict[int, float],
    state: TrialState = TrialState.PRUNED,
    *,
    number: int = 0,
    attributes: dict[str, object] | None = None,
) -> FrozenTrial:
    """A trial of the pair with scores by samples."""
    frozen = create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        params={"vision_encoder": "clip", "llm": "llama"},
        distributions={
            "vision_encoder": CategoricalDistribution(["clip", "dino"]),
            "llm": CategoricalDistribution(["llama", "qwen"]),
        },
        intermediate_values=scores,
        user_attrs=attributes or {},
    )
    frozen.number = number
    return frozen


def details(train: float, evaluation: float) -> dict[str, object]:
    """Details of a score, as a trial stores them."""
    return {"stderr": 0.1, "documents": 9, "train_seconds": train, "eval_seconds": evaluation}
