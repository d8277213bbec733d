"""Shipped task and study files are found, in a checkout and in a wheel."""

from __future__ import annotations

from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.zoo.quickstart import QUICKSTART


def test_tasks_and_studies_are_found() -> None:
    assert (shipped("studies") / "quickstart.yaml").is_file()
    assert list(shipped("tasks").rglob("*.yaml"))


def test_the_quick_start_searches_all_that_it_builds() -> None:
    """Every model of its recipe is in the pool, and all alignment samples are used."""
    settings = read_study(shipped("studies") / "quickstart.yaml")
    pool = settings.models()
    assert pool.encoder_names == tuple(encoder.name for encoder in QUICKSTART.encoders)
    assert pool.llm_names == tuple(llm.name for llm in QUICKSTART.llms)
    assert settings.alignment.samples == QUICKSTART.alignment_samples
    made = {f"runs/zoo/{part.path}" for part in QUICKSTART.parts()}
    used = {model.location for model in (*pool.vision_encoders, *pool.llms)}
    used |= {str(task.data) for task in (settings.task, *settings.also_score)}
    assert used <= made


def test_the_quick_start_ends_with_a_winner_that_is_measured() -> None:
    """Its race ends with a pair trained on all samples; every rung is a whole batch."""
    settings = read_study(shipped("studies") / "quickstart.yaml")
    pool, samples = settings.models(), settings.alignment.samples
    assert samples
    tree = ClusterTree.flat(pool.encoder_names, pool.llm_names)
    batch_size = settings.alignment.batch_size
    plan = build_plan(settings.search, tree, samples, batch_size=batch_size)
    assert plan.rungs == (512, 1024, 2048, 4096)
    assert settings.search.train_winner
