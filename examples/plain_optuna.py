"""Our sampler and pruner in a plain Optuna study.

    uv run python examples/plain_optuna.py

`train_and_score` stands for your own training and evaluation. Here it is a formula: each encoder
and each LLM has a final error, and errors fall as a power of the number of samples.
"""

from __future__ import annotations

import optuna

from mordal_optuna import (
    CkaClusterSampler,
    ClusterTree,
    LogLinearHalvingPruner,
    MordalPlan,
)

ENCODERS = {"clip-l": 0.30, "siglip-so400m": 0.22, "dinov2-l": 0.41, "aimv2-l": 0.27}
LLMS = {"vicuna-7b": 1.15, "qwen2-7b": 0.90, "llama3-8b": 1.00, "phi3-mini": 1.30}
FULL_SAMPLES = 16_384


def train_and_score(vision_encoder: str, llm: str, samples: int) -> float:
    """Score of a pair on your task after training on so many samples, 0 to 1."""
    return 1 - ENCODERS[vision_encoder] * LLMS[llm] * (FULL_SAMPLES / samples) ** 0.15


def main() -> optuna.Study:
    """Search the pool and print the winner."""
    tree = ClusterTree.flat(list(ENCODERS), list(LLMS))  # or cluster_pool(...), from CKA
    plan = MordalPlan(
        tree, rungs=(512, 1024, 2048), full_samples=FULL_SAMPLES, top_clusters=4, fit_points=2
    )

    def objective(trial: optuna.Trial) -> float:
        vision_encoder = trial.suggest_categorical("vision_encoder", plan.vision_encoders)
        llm = trial.suggest_categorical("llm", plan.llms)
        score = 0.0
        for samples in plan.rungs:
            score = train_and_score(vision_encoder, llm, samples)
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.create_study(
        direction="maximize", sampler=CkaClusterSampler(plan), pruner=LogLinearHalvingPruner(plan)
    )
    study.optimize(objective)  # ends by itself
    print(f"winner: {study.best_params}, score {study.best_value:.3f}")
    print(f"ended: {study.user_attrs['mordal:stopped_because']}")
    furthest = {tuple(t.params.values()): max(t.intermediate_values) for t in study.trials}
    full_runs = sum(furthest.values()) / FULL_SAMPLES
    print(f"trained: {full_runs:.1f} full runs' samples of {len(tree.candidates)}")
    return study


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main()
