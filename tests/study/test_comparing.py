"""Studies of one task side by side: ranks, regret with its noise, agreement, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scipy import stats

from mordal_optuna.errors import ConfigError, SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.comparing import (
    Side,
    compare_studies,
    load_side,
    stored_method,
)
from mordal_optuna.study.origin import Origin
from mordal_optuna.study.result import read_result
from mordal_optuna.study.task_results import mean_of
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import FULL, RUNGS, plan, search, table, tree
from tests.study.test_status import begun, compared, searched, settings  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings
    from mordal_optuna.search.plan import Plan
    from tests.search.synthetic import Table


def side(chosen: Plan, measure: Table, name: str, method: str = "mordal") -> Side:
    study = search(chosen, measure)
    result = replace(read_result(study, chosen, method=method, task="gqa"), study=name)
    posterior = chosen.ranker.posterior(study_history(study))
    return Side(result, posterior, chosen.ranker.confidence)


@pytest.fixture(scope="module")
def wrong() -> Side:
    """A search that was misled: it saw another pair as the best."""
    measure = table()
    measure.levels[Candidate("clip", "llama")] = 0.12
    return side(plan(), measure, "wrong")


@pytest.fixture(scope="module")
def grid() -> Side:
    """The truth: every pair fully."""
    return side(grid_plan(tree(), (*RUNGS, FULL)), table(), "grid", "grid")


def test_regret_is_what_the_other_study_estimates(wrong: Side, grid: Side) -> None:
    """Of the pick against its own winner, with an interval; the measured one beside it."""
    found = compare_studies([wrong, grid])
    by_grid = next(view for view in found.views if view.by == "grid")
    assert (by_grid.of, by_grid.pick) == ("wrong", Candidate("clip", "llama"))
    ranks = {e.candidate: n for n, e in enumerate(grid.result.ranking, start=1)}
    assert by_grid.rank == ranks[by_grid.pick] > 1
    values = {e.candidate: e.value for e in grid.result.ranking}
    regret = grid.result.winner.value - values[by_grid.pick]
    assert by_grid.regret == pytest.approx(regret)
    assert by_grid.low is not None
    assert by_grid.high is not None
    assert by_grid.low < by_grid.regret < by_grid.high
    assert by_grid.contrast is not None
    scores = {c: points[-1].score for c, points in grid.result.curves.items()}
    measured = scores[grid.result.winner.candidate] - scores[by_grid.pick]
    assert by_grid.contrast.difference == pytest.approx(measured)


def test_the_same_pick_has_no_regret(grid: Side) -> None:
    other = replace(grid, result=replace(grid.result, study="again"))
    for view in compare_studies([grid, other]).views:
        assert (view.rank, view.regret, view.low, view.high) == (1, 0.0, 0.0, 0.0)


def test_agreement_is_kendalls_tau_over_common_pairs(wrong: Side, grid: Side) -> None:
    kept = tuple(e for e in wrong.result.ranking if e.candidate.llm != "mistral")
    fewer = replace(wrong, result=replace(wrong.result, ranking=kept))
    (found,) = compare_studies([fewer, grid]).agreements
    values = {e.candidate: e.value for e in grid.result.ranking}
    ours, truths = [e.value for e in kept], [values[e.candidate] for e in kept]
    assert found.studies == ("wrong", "grid")
    assert found.pairs == 6
    assert found.tau == pytest.approx(stats.kendalltau(ours, truths).statistic)
    assert found.weighted_tau == pytest.approx(stats.weightedtau(ours, truths).statistic)


def test_a_pick_that_is_not_in_the_other_pool_has_no_rank(wrong: Side, grid: Side) -> None:
    kept = tuple(e for e in grid.result.ranking if e.candidate != Candidate("clip", "llama"))
    other = replace(grid, result=replace(grid.result, ranking=kept))
    view = next(v for v in compare_studies([wrong, other]).views if v.by == "grid")
    assert (view.rank, view.pairs, view.regret, view.estimate) == (None, 8, None, None)


def test_three_studies_have_six_views(wrong: Side, grid: Side) -> None:
    third = replace(wrong, result=replace(wrong.result, study="third"))
    found = compare_studies([wrong, grid, third])
    assert len(found.views) == 6
    assert len(found.agreements) == 3


def test_studies_of_different_tasks_are_refused(grid: Side) -> None:
    """With one sentence, and so are other weights, and fewer than two studies."""
    other = replace(grid, result=replace(grid.result, study="other", task="ai2d"))
    with pytest.raises(ConfigError) as caught:
        compare_studies([grid, other])
    assert caught.value.problems == [
        "compare: study 'grid' is on gqa and study 'other' on ai2d; only studies of one task, "
        "with the same weights, can be compared"
    ]
    for given in ([grid], [grid, grid], []):
        with pytest.raises(ConfigError, match="it takes two or more different ones"):
            compare_studies(given)


def test_weights_count_by_their_ratios() -> None:
    chosen = plan(finalists=3)
    study = search(chosen, Several())
    posterior = chosen.ranker.posterior(study_history(study))

    def weighted(name: str, factors: tuple[float, float]) -> Side:
        weights = {t: w * f for (t, w), f in zip(WEIGHTS.items(), factors, strict=True)}
        task = mean_of(weights)
        result = read_result(study, chosen, method="mordal", task=task, tasks=weights)
        return Side(replace(result, study=name), posterior, 0.95)

    base = weighted("a", (1, 1))
    assert len(compare_studies([base, weighted("b", (2, 2))]).views) == 2
    with pytest.raises(ConfigError, match="with the same weights"):
        compare_studies([base, weighted("b", (2, 1))])


def test_what_makes_numbers_incomparable_is_said(grid: Side) -> None:
    changed = replace(
        grid.result,
        study="other",
        full_samples=4096,
        stopped_because=None,
        origin=Origin(digests={"task:gqa": {"documents": "2"}, "data": {"images": "1"}}),
    )
    known = replace(
        grid.result,
        origin=Origin(digests={"task:gqa": {"documents": "1"}, "data": {"images": "1"}}),
    )
    notes = compare_studies([replace(grid, result=known), replace(grid, result=changed)]).notes
    assert notes == (
        "estimates are after different numbers of samples: grid 8,192, other 4,096",
        "not finished, so its pick may change: other",
        "task gqa is not the same in all of them",
    )
    assert (
        compare_studies([grid, replace(grid, result=replace(grid.result, study="b"))]).notes == ()
    )


def test_a_stored_study_is_read_with_the_method_it_has(settings: StudySettings) -> None:  # noqa: F811
    """Before it exists, nothing is created."""
    assert stored_method(settings) is None
    assert not (settings.workdir / "study.db").exists()
    study = begun(settings)
    assert stored_method(settings) == "mordal"
    with pytest.raises(SearchError, match="no score yet"):
        load_side(settings)
    del study


def test_a_side_has_the_result_of_the_study(settings: StudySettings) -> None:  # noqa: F811
    study = compared(settings)
    searched(study, settings, trials=6)
    found = load_side(settings)
    assert found.result.study == "s"
    assert set(found.posterior.candidates) == set(settings.models().candidates)
    assert found.confidence == settings.search.confidence
