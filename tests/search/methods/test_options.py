"""Options: the rungs of the race, and the ranker, that a search section asks for."""

from __future__ import annotations

from mordal_optuna.config import SearchSettings
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.rankers import LikelihoodRanker
from tests.search.likelihoods import TREE
from tests.search.synthetic import FULL, settings, tree


def test_a_race_runs_on_the_rungs_between_r_and_all() -> None:
    """Each is eta times the one before, down from D; the lowest at least half a step above R."""
    for options, expected in (
        ({"max_ratio": 1 / 16}, (256, 512, 1024, 2048, 4096, 8192)),
        ({"max_ratio": 0.1}, (409, 819, 2048, 4096, 8192)),
        ({"max_ratio": 1 / 16, "eta": 4, "first_ratio": 0.01}, (128, 512, 2048, 8192)),
        ({"max_ratio": 0.5, "first_ratio": 0.25}, (2048, 4096, 8192)),
        ({"max_ratio": 1.0, "first_ratio": 0.5}, (4096, 8192)),
        ({"max_ratio": 1 / 16, "finish": "full"}, (256, 512, 8192)),
    ):
        assert build_plan(settings("mordal", **options), tree(), FULL).rungs == expected
    whole_batches = build_plan(
        settings("mordal", max_ratio=1 / 16), tree(), FULL, batch_size=48
    ).rungs
    assert all(rung % 48 == 0 for rung in whole_batches[:-1])


def test_other_methods_keep_r_and_a_full_finish() -> None:
    for method in ("all-at-ratio", "cross", "mordal-faithful"):
        chosen = SearchSettings.model_validate({"method": method})
        assert (chosen.max_ratio, chosen.fit_points, chosen.finish) == (0.125, 3, "full")
    ours = SearchSettings()
    assert (ours.max_ratio, ours.fit_points, ours.finish) == (0.0625, 2, "race")


def test_a_study_file_chooses_it() -> None:
    plan = build_plan(SearchSettings(curve="likelihood"), TREE, FULL)
    assert isinstance(plan.ranker, LikelihoodRanker)
    assert not isinstance(build_plan(SearchSettings(), TREE, FULL).ranker, LikelihoodRanker)
