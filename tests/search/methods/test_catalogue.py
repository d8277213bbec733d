"""The table of methods is the only list of them, and every row of it works."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mordal_optuna.config import SearchSettings, StudySettings
from mordal_optuna.errors import SearchError
from mordal_optuna.replay import run
from mordal_optuna.replay.stock import STOCK
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.catalogue import METHODS, method_defaults
from tests.search.synthetic import FULL, settings, tree


@pytest.mark.parametrize("method", METHODS)
def test_every_method_builds_a_plan_over_the_pool(method: str) -> None:
    plan = build_plan(settings(method), tree(), FULL)
    assert plan.rungs[-1] == FULL
    assert plan.vision_encoders == tree().vision_encoders
    assert METHODS[method].name == method
    assert METHODS[method].summary


@pytest.mark.parametrize("method", METHODS)
def test_only_methods_that_allow_it_fit_curves_to_the_likelihood(method: str) -> None:
    spec = METHODS[method]
    content = {"method": method, "curve": "likelihood"}
    if spec.allows_likelihood and "max_fit_loss" not in method_defaults(method, "search"):
        assert SearchSettings.model_validate(content).curve == "likelihood"
    else:
        with pytest.raises(ValueError, match="cannot be combined with max_fit_loss"):
            SearchSettings.model_validate(content)


@pytest.mark.parametrize("method", METHODS)
def test_only_methods_that_say_so_read_the_popular_pair(method: str) -> None:
    """A popular pair that the pool lacks is refused by exactly these methods."""
    chosen = settings(method, popular=("clip", "gpt"))
    if METHODS[method].uses_popular_pair:
        with pytest.raises(SearchError, match="is not in the pool"):
            build_plan(chosen, tree(), FULL)
    else:
        build_plan(chosen, tree(), FULL)


def test_changed_defaults_are_keys_of_the_study_file() -> None:
    for spec in METHODS.values():
        for section, values in spec.defaults.items():
            fields = StudySettings.model_fields[section].annotation.model_fields
            assert values.keys() <= fields.keys()


def test_the_methods_that_are_replayed_are_those_of_the_two_tables() -> None:
    assert (*METHODS, *STOCK) == run.METHODS
    needing = [name for name, spec in METHODS.items() if spec.needs_budget]
    assert (*needing, *STOCK) == run.BUDGETED


def test_an_unknown_method_changes_no_default() -> None:
    assert method_defaults("magic", "search") == {}
    assert method_defaults(["mordal"], "search") == {}
    assert method_defaults("mordal", "alignment") == {}


def test_the_table_is_read_without_optuna() -> None:
    code = "import sys, mordal_optuna.search.methods.catalogue; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
