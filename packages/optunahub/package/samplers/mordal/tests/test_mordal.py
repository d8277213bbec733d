"""The package loads from a local registry, and its sampler and pruner find the best pair.

python -m pytest package/samplers/mordal/tests
"""

from __future__ import annotations

from pathlib import Path

import optuna
import optunahub

REGISTRY = Path(__file__).parents[3]
mordal = optunahub.load_local_module("samplers/mordal", registry_root=str(REGISTRY))
ENCODERS = {"a": 0.30, "b": 0.22, "c": 0.41, "d": 0.27}
LLMS = {"x": 1.15, "y": 0.90, "z": 1.00}
FULL = 4096


def search(
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
    plan: mordal.MordalPlan,
) -> optuna.Study:
    def objective(trial: optuna.Trial) -> float:
        encoder = trial.suggest_categorical("vision_encoder", plan.vision_encoders)
        llm = trial.suggest_categorical("llm", plan.llms)
        score = 0.0
        for samples in plan.rungs:
            score = 1 - ENCODERS[encoder] * LLMS[llm] * (FULL / samples) ** 0.15
            trial.report(score, step=samples)
            if samples >= plan.answer_rung:
                break
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=200)
    return study


def test_a_search_ends_by_itself_with_the_best_pair() -> None:
    similarity = [[1.0, 0.9, 0.1, 0.1], [0.9, 1.0, 0.1, 0.1], [0.1, 0.1, 1.0, 0.2]]
    similarity.append([0.1, 0.1, 0.2, 1.0])
    tree = mordal.cluster_pool(list(ENCODERS), list(LLMS), similarity, None)
    assert len(tree.clusters) < len(tree.candidates)
    plan = mordal.MordalPlan(tree, (256, 512, 1024), FULL, finish=mordal.Finish(finalists=2))
    study = search(mordal.CkaClusterSampler(plan), mordal.LogLinearHalvingPruner(plan), plan)
    assert study.best_params == {"vision_encoder": "b", "llm": "y"}
    assert len(study.trials) < 200
    assert any(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)


def test_each_class_works_with_those_of_optuna() -> None:
    tree = mordal.ClusterTree.flat(list(ENCODERS), list(LLMS))
    plan = mordal.MordalPlan(tree, (256, 512, 1024), FULL)
    halving = optuna.pruners.SuccessiveHalvingPruner()
    assert search(mordal.CkaClusterSampler(plan), halving, plan).best_value > 0.5
    tpe = optuna.samplers.TPESampler(seed=0)
    assert search(tpe, mordal.LogLinearHalvingPruner(plan), plan).best_value > 0.5
