"""Shipped task and study files are found, in a checkout and in a wheel."""

from __future__ import annotations

import pytest

from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.zoo.quickstart import QUICKSTART

STUDIES = ("quickstart", "three-tasks")


def test_tasks_and_studies_are_found() -> None:
    assert {path.stem for path in shipped("studies").glob("*.yaml")} == set(STUDIES)
    assert list(shipped("tasks").rglob("*.yaml"))


@pytest.mark.parametrize("name", STUDIES)
def test_a_shipped_study_searches_all_that_it_builds(name: str) -> None:
    """Every model of its recipe is in the pool, and all alignment samples are used."""
    settings = read_study(shipped("studies") / f"{name}.yaml")
    assert settings.study == name
    pool = settings.models()
    assert pool.encoder_names == tuple(encoder.name for encoder in QUICKSTART.encoders)
    assert pool.llm_names == tuple(llm.name for llm in QUICKSTART.llms)
    assert settings.alignment.samples == QUICKSTART.alignment_samples
    made = {f"runs/zoo/{part.path}" for part in QUICKSTART.parts()}
    used = {model.location for model in (*pool.vision_encoders, *pool.llms)}
    used |= {str(task.data) for task in settings.scored_tasks}
    assert used <= made


@pytest.mark.parametrize("name", STUDIES)
def test_a_shipped_study_ends_with_a_winner_that_is_measured(name: str) -> None:
    """Its race ends with a pair trained on all samples; every rung is a whole batch."""
    settings = read_study(shipped("studies") / f"{name}.yaml")
    pool, samples = settings.models(), settings.alignment.samples
    assert samples
    tree = ClusterTree.flat(pool.encoder_names, pool.llm_names)
    batch_size = settings.alignment.batch_size
    plan = build_plan(settings.search, tree, samples, batch_size=batch_size)
    assert plan.rungs == (512, 1024, 2048, 4096)
    assert settings.search.train_winner


def test_three_tasks_have_a_study_of_three_tasks() -> None:
    weights = read_study(shipped("studies") / "three-tasks.yaml").task_weights
    assert weights == {"mordal_colors": 2.0, "mordal_shapes": 1.0, "mordal_places": 1.0}
