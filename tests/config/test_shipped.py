"""Shipped task and study files are found, in a checkout and in a wheel."""

from __future__ import annotations

import pytest

from mordal_optuna.config import read_study
from mordal_optuna.config.shipped import shipped, shipped_study
from mordal_optuna.evaluation.upstream import UPSTREAM
from mordal_optuna.planning.models import public_models
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.zoo.quickstart import QUICKSTART

# Studies of the embedded pool, and those of models on the hub.
STUDIES = ("quickstart", "three-tasks")
PAPER = {
    "gqa": "gqa",
    "vizwiz": "vizwiz_vqa_val",
    "chartqa": "chartqa",
    "docvqa": "docvqa_val",
    "scienceqa": "scienceqa_img",
    "ai2d": "ai2d",
    "mmmu": "mmmu_val",
}
ON_HUB = (*(f"paper-{task}" for task in PAPER), "seven-tasks", "card-24gb", "medical")


def test_tasks_and_studies_are_found() -> None:
    assert {path.stem for path in shipped("studies").glob("*.yaml")} == {*STUDIES, *ON_HUB}
    assert list(shipped("tasks").rglob("*.yaml"))


@pytest.mark.parametrize("name", ON_HUB)
def test_a_study_of_the_hub_is_whole(name: str) -> None:
    """Named as its file; every task is known; gated models are marked in the file."""
    settings = read_study(shipped_study(name), places=False)
    assert settings.study == name
    assert {task.name for task in settings.scored_tasks} <= UPSTREAM.keys()
    assert all(m.location in public_models() for m in settings.pool.llms)
    text = shipped_study(name).read_text()
    for model in (*settings.pool.vision_encoders, *settings.pool.llms):
        marked = f"{model.location}}} # gated" in text
        assert marked == bool(public_models()[model.location]["gated"]), model.name


def test_the_papers_studies_differ_in_the_task_alone() -> None:
    """Seven searches over the paper's pool with its settings, and one for all seven."""
    files = {task: read_study(shipped_study(f"paper-{task}"), places=False) for task in PAPER}
    assert {task: s.targets[0].name for task, s in files.items()} == PAPER
    plain = [s.model_dump(exclude={"study": True, "task": {"name"}}) for s in files.values()]
    assert all(one == plain[0] for one in plain)
    one = files["gqa"]
    assert (len(one.pool.vision_encoders), len(one.pool.llms)) == (7, 7)
    assert one.search.method == "mordal-faithful"
    joint = read_study(shipped_study("seven-tasks"), places=False)
    assert joint.pool == one.pool
    assert {task.name for task in joint.tasks} == set(PAPER.values())


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
