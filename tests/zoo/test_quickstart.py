"""Recipes of the package: names, parts and seeds."""

from __future__ import annotations

import json

import pytest

from mordal_optuna.errors import ZooError
from mordal_optuna.zoo.quickstart import QUICKSTART, TINY, ZooRecipe, recipe_named
from mordal_optuna.zoo.tasks.names import TASKS


@pytest.mark.parametrize("recipe", [QUICKSTART, TINY])
def test_parts_are_all_models_data_and_tasks(recipe: ZooRecipe) -> None:
    parts = [part.path for part in recipe.parts()]
    assert set(parts) == {
        *(f"encoders/{encoder.name}" for encoder in recipe.encoders),
        *(f"llms/{llm.name}" for llm in recipe.llms),
        *("alignment", "tasks/scenes", "tasks/ScienceQA"),
        *(f"tasks/{name}" for name in TASKS),
    }
    assert len(set(parts)) == len(parts)
    assert recipe_named(recipe.name) is recipe


@pytest.mark.parametrize("recipe", [QUICKSTART, TINY])
def test_a_recipe_survives_json(recipe: ZooRecipe) -> None:
    """The builder compares the stored recipe with this one."""
    assert json.loads(json.dumps(recipe.to_json())) == recipe.to_json()


def test_seeds_differ_between_parts_but_for_the_seven_tasks() -> None:
    """The seven tasks derive different generators from one seed and their names."""
    seeds = [part.seed for part in QUICKSTART.parts()]
    assert len(set(seeds)) == len(seeds) - len(TASKS) + 1


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ZooError, match="'huge' is not known; known are 'quickstart', 'tiny'"):
        recipe_named("huge")
