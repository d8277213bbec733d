"""Runs in trackers are named by study and pair."""

from __future__ import annotations

from mordal_optuna.alignment.tracking import names_in


def test_runs_are_named_by_study_and_pair() -> None:
    """In W&B and MLflow the study is the project; TensorBoard's folder keeps its name."""
    project, options = names_in(("wandb", "mlflow"), "s", "clip + llama")
    assert project == "s"
    assert options == {
        "wandb": {"name": "s/clip + llama", "group": "s"},
        "mlflow": {"run_name": "s/clip + llama"},
    }
    assert names_in(("tensorboard",), "s", "clip + llama") == ("s-clip-llama", {})
    assert names_in(("tensorboard", "wandb"), "s", "clip + llama")[0] == "s-clip-llama"
