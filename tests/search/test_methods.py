"""The methods: the paper's, step by step, by an example computed by hand; and the plain ones."""

from __future__ import annotations

import copy
import math
import pickle
from typing import TYPE_CHECKING, get_args

import numpy as np
import optuna
import pytest

from mordal_optuna.config import Method, SearchSettings
from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import cluster_pool
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.cross import cross_centre
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.rankers import AdditiveRanker
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import FULL, RUNGS, search, table, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.search.plan import Plan

ENCODERS, LLMS = ("A", "B", "C", "D"), ("x", "y", "z")
# A and B join at .7; C and D, at .65, do not.
VISION = [[1, 0.8, 0.3, 0.3], [0.8, 1, 0.3, 0.3], [0.3, 0.3, 1, 0.65], [0.3, 0.3, 0.65, 1]]
# Fed by A, x and y join at .8; by C, y and z do (y first of two equals); by D, at .75, nobody.
FED = {
    "A": [[1, 0.85, 0.5], [0.85, 1, 0.5], [0.5, 0.5, 1]],
    "C": [[1, 0.5, 0.5], [0.5, 1, 0.85], [0.5, 0.85, 1]],
    "D": [[1, 0.75, 0.75], [0.75, 1, 0.75], [0.75, 0.75, 1]],
}
SAMPLES = (100, 200, 400)  # 1/32, 1/16 and 1/8 of 3,200


def bent(first: float, factor: float, d: float) -> tuple[float, ...]:
    """Errors that fall by a factor a rung, off their line by d, -2 d, d: their loss is 2 d^2."""
    return tuple(first * factor**k * math.exp(off) for k, off in enumerate((d, -2 * d, d)))


# Errors at 100, 200 and 400 samples.
ERRORS = {
    ("A", "x"): (0.50, 0.45, 0.405),
    ("A", "y"): (0.60, 0.57, 0.5415),
    ("A", "z"): (0.60, 0.40, 0.60 * 4 / 9),
    ("B", "x"): bent(0.7, 0.9, 0.0049),  # loss 4.8e-5, accepted
    ("B", "y"): bent(0.7, 0.9, 0.0051),  # loss 5.2e-5, rejected
    ("B", "z"): (0.64, 0.48, 0.36),
    ("C", "x"): (0.70,),
    ("C", "y"): (0.55, 0.54),
    ("D", "x"): (0.65, 0.52, 0.416),
    ("D", "y"): (0.80,),
    ("D", "z"): (0.90,),
}


def faithful_study() -> tuple[optuna.Study, list[tuple[str, int]]]:
    settings = SearchSettings.model_validate({"method": "mordal-faithful"})
    pool = cluster_pool(
        ENCODERS,
        LLMS,
        VISION,
        lambda encoder: FED[encoder],
        vision_threshold=settings.vision_threshold,
        llm_threshold=settings.llm_threshold,
        linkage=settings.linkage,
    )
    plan = build_plan(settings, pool, 3200)
    runs: list[tuple[str, int]] = []

    def measure(candidate: Candidate, samples: int) -> Measurement:
        runs.append((candidate.vision_encoder + candidate.llm, samples))
        errors = ERRORS[candidate.vision_encoder, candidate.llm]
        return Measurement(samples, 1 - errors[SAMPLES.index(samples)])

    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(plan),
        pruner=LogLinearHalvingPruner(plan),
    )
    study.optimize(Objective(plan, measure))
    return study, runs


def test_the_faithful_settings_are_the_papers() -> None:
    settings = SearchSettings.model_validate({"method": "mordal-faithful"})
    assert (settings.vision_threshold, settings.llm_threshold) == (0.7, 0.8)
    assert (settings.max_ratio, settings.first_ratio, settings.eta) == (0.125, 0.03, 2)
    assert (settings.top_clusters, settings.fit_points) == (3, 3)
    assert settings.max_fit_loss == 5e-5


def test_step_one_two_step_clustering() -> None:
    pool = cluster_pool(
        ENCODERS, LLMS, VISION, FED.__getitem__, vision_threshold=0.7, llm_threshold=0.8
    )
    named = [("".join(c.vision.members), "".join(c.llm.members)) for c in pool.clusters]
    assert named == [
        ("AB", "xy"),
        ("AB", "z"),
        ("C", "x"),
        ("C", "yz"),
        ("D", "x"),
        ("D", "y"),
        ("D", "z"),
    ]


def test_step_two_halving_from_b_until_k_clusters_are_left() -> None:
    """Of seven medoids four go on (7 / eta, rounded up), of four the best K = 3."""
    _, runs = faithful_study()
    medoids = ["Ax", "Az", "Cx", "Cy", "Dx", "Dy", "Dz"]
    assert runs[:7] == [(name, 100) for name in medoids]
    # .50, .45, .40 and .35 go on; .30, .20 and .10 do not
    second = [name for name, samples in runs if samples == 200 and name in medoids]
    assert second == ["Ax", "Cy", "Az", "Dx"]
    # .60, .55 and .48 remain; Cy's .46 does not
    assert ("Cy", 400) not in runs
    assert {name for name, _ in runs} == {*medoids, "Ay", "Bx", "By", "Bz"}


def test_step_three_all_candidates_of_the_survivors_at_three_ratios_reusing_checkpoints() -> None:
    _, runs = faithful_study()
    survivors = ["Ax", "Ay", "Bx", "By", "Az", "Bz", "Dx"]
    expected = {(name, samples) for name in survivors for samples in SAMPLES}
    losers = {("Cx", 100), ("Cy", 100), ("Cy", 200), ("Dy", 100), ("Dz", 100)}
    assert set(runs) == expected | losers
    assert len(runs) == len(set(runs))


def test_step_four_accepted_lines_are_extrapolated_and_the_best_prediction_wins() -> None:
    """Three more doublings: error at 400 samples times the factor cubed."""
    study, _ = faithful_study()
    settings = SearchSettings.model_validate({"method": "mordal-faithful"})
    pool = cluster_pool(
        ENCODERS, LLMS, VISION, FED.__getitem__, vision_threshold=0.7, llm_threshold=0.8
    )
    plan = build_plan(settings, pool, 3200)
    history = study_history(study)
    found = {
        e.candidate.vision_encoder + e.candidate.llm: (e.provenance, round(1 - e.value, 6))
        for e in plan.ranking(history)
    }
    assert found == {
        "Az": ("extrapolated", round(0.60 * 4 / 9 * 8 / 27, 6)),
        "Bz": ("extrapolated", round(0.36 * 0.75**3, 6)),
        "Dx": ("extrapolated", round(0.416 * 0.8**3, 6)),
        "Ax": ("extrapolated", round(0.405 * 0.9**3, 6)),
        "Ay": ("extrapolated", round(0.5415 * 0.95**3, 6)),
        # the bend of .0049 does not move the line: .7 at 100, .9 a doubling, five doublings
        "Bx": ("extrapolated", round(0.7 * 0.9**5, 6)),
        # rejected: keeps its last score
        "By": ("inferred", round(0.7 * 0.81 * math.exp(0.0051), 6)),
        "Cy": ("inferred", 0.54),
        "Cx": ("inferred", 0.70),
        "Dy": ("inferred", 0.80),
        "Dz": ("inferred", 0.90),
        # never trained: its medoid's
        "Cz": ("inferred", 0.54),
    }
    winner = plan.winner(history)
    assert winner == Candidate("A", "z")
    assert STOPPED_BECAUSE in study.user_attrs


def settings(method: str, **options: object) -> SearchSettings:
    return SearchSettings.model_validate(
        {"method": method, "first_ratio": 0.03, "max_ratio": 0.125, **options}
    )


def test_all_at_ratio_scores_everyone_once_at_r_and_trains_the_leader() -> None:
    measure = table()
    search(build_plan(settings("all-at-ratio"), tree(), FULL), measure)
    at_ratio = [(c, s) for c, s in measure.runs if s == FULL // 8]
    assert [c for c, _ in at_ratio] == list(tree().candidates)
    assert [(c, s) for c, s in measure.runs if s != FULL // 8] == [
        (Candidate("siglip", "qwen"), FULL)
    ]


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


def test_random_trains_fully_in_an_order_of_its_seed_until_the_budget_is_spent() -> None:
    orders = []
    for seed in (0, 0, 1):
        measure = table()
        study = search(build_plan(settings("random"), tree(), FULL, seed=seed), measure)
        assert {samples for _, samples in measure.runs} == {FULL}
        assert {c for c, _ in measure.runs} == set(tree().candidates)
        assert study.user_attrs[STOPPED_BECAUSE].startswith("pool exhausted")
        orders.append([c for c, _ in measure.runs])
    assert orders[0] == orders[1] != orders[2]
    measure = table()
    hours = 2.5 * FULL / 100 / 3600
    search(build_plan(settings("random", device_hours=hours), tree(), FULL), measure)
    assert len(measure.runs) == 3


def test_cross_trains_a_row_and_a_column_and_adds_up_the_rest() -> None:
    """In ln error the synthetic curves are additive, so the untrained are predicted exactly."""
    measure = table()
    plan = build_plan(settings("cross", finalists=0), tree(), FULL)
    study = search(plan, measure)
    centre = cross_centre(tree())
    assert centre == Candidate("clip", "llama")
    trained = {c for c, _ in measure.runs}
    assert trained == {
        c
        for c in tree().candidates
        if c.vision_encoder == centre.vision_encoder or c.llm == centre.llm
    }
    assert isinstance(plan.ranker, AdditiveRanker)
    found = {e.candidate: e for e in plan.ranking(study_history(study))}
    beliefs = {c: np.log(1 - found[c].value) for c in tree().candidates}
    for c in set(tree().candidates) - trained:
        row = beliefs[Candidate(centre.vision_encoder, c.llm)]
        column = beliefs[Candidate(c.vision_encoder, centre.llm)]
        assert beliefs[c] == pytest.approx(row + column - beliefs[centre])
        assert found[c].provenance == "inferred"
        assert found[c].low < measure.score(c, FULL) < found[c].high


def test_cross_may_train_a_finalist_that_was_not_on_the_cross() -> None:
    measure = table()
    search(build_plan(settings("cross", finalists=1), tree(), FULL), measure)
    assert measure.runs[-1] == (Candidate("siglip", "qwen"), FULL)


def test_a_score_that_took_no_seconds_is_a_score() -> None:
    """A plain objective reports none; the best sum of a cross leads all the same."""
    plan = build_plan(settings("cross", finalists=0), tree(), FULL)
    centre = cross_centre(tree())
    assert plan.winner(History()) is None
    assert plan.winner(History({centre: CandidateHistory(failures=1)})) is None
    measure = table()
    cross = {
        c: CandidateHistory((Measurement(FULL, measure.score(c, FULL), 0.01, 100),))
        for c in tree().candidates
        if c.vision_encoder == centre.vision_encoder or c.llm == centre.llm
    }
    winner = plan.winner(History(cross))
    assert winner == Candidate("siglip", "qwen")
    assert winner not in cross


def test_every_method_keeps_to_its_budget() -> None:
    """It may go over by the job that is under way."""
    seconds = 3 * FULL / 100
    for method in get_args(Method):
        chosen = settings(method, device_hours=seconds / 3600, top_clusters=4)
        plan = build_plan(chosen, tree(), FULL, spent_seconds=5.0)
        study = search(plan, table())
        spent = 5.0 + study_history(study).seconds
        assert spent < seconds + FULL / 100 + 1, method
        if method in ("grid", "random", "best-parts"):
            assert study.user_attrs[STOPPED_BECAUSE].startswith("budget spent")


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda plan: pickle.loads(pickle.dumps(plan))])
def test_a_copied_or_pickled_plan_searches_on_as_the_first_would(
    method: str, copied: Callable[[Plan], Plan]
) -> None:
    """After the first has been asked everything, so that whatever it remembers is there."""
    first = build_plan(settings(method), tree(), FULL)
    history = study_history(search(first, table(), n_trials=4))
    before = answers(first, history)
    second = copied(first)
    assert second.ranker is not first.ranker
    assert answers(second, history) == answers(first, history) == before
    assert vars(second.ranker).keys() == vars(first.ranker).keys()
    own = {id(part) for part in vars(first.ranker).values() if callable(part)}
    assert own.isdisjoint(id(part) for part in vars(second.ranker).values())


def answers(plan: Plan, history: History) -> tuple[object, ...]:
    """All that a plan is asked, at a history and at its end."""
    jobs = plan.jobs(history)
    ends = study_history(search(plan, table()))
    return (
        jobs if isinstance(jobs, Finished) else list(jobs),
        plan.winner(history),
        plan.ranking(history),
        plan.winner(ends),
        plan.jobs(ends),
    )


def test_the_grid_says_when_it_is_done() -> None:
    study = search(grid_plan(tree(), (*RUNGS, FULL)), table())
    assert study.user_attrs[STOPPED_BECAUSE] == (
        "pool exhausted: all that were to be trained fully are"
    )


def test_a_budget_of_nothing_stops_before_the_first_trial() -> None:
    chosen = settings("mordal", device_hours=1.0)
    plan = build_plan(chosen, tree(), FULL, spent_seconds=3600.0)
    assert Budget(1.0, 3600.0).over(study_history(optuna.create_study())) is not None
    measure = table()
    study = search(plan, measure)
    assert len(measure.runs) <= 1
    assert study.user_attrs[STOPPED_BECAUSE] == "budget spent: 1 device-hours"


def test_popular_trains_the_named_pair_or_the_first_and_says_nothing_of_the_others() -> None:
    for named, pair in (
        (None, Candidate("clip", "llama")),
        (("dino", "qwen"), Candidate("dino", "qwen")),
    ):
        measure = table()
        plan = build_plan(settings("popular", popular=named, finalists=3), tree(), FULL)
        history = study_history(search(plan, measure))
        assert measure.runs == [(pair, FULL)]
        winner = plan.winner(history)
        assert winner == pair
        assert len({e.value for e in plan.ranking(history)}) == 1


def test_best_parts_trains_a_row_and_a_column_fully_then_the_best_two_together() -> None:
    """From clip + llama: M + L - 1 runs, siglip and qwen are the best parts, one run more."""
    measure = table()
    plan = build_plan(settings("best-parts"), tree(), FULL)
    study = search(plan, measure)
    assert {samples for _, samples in measure.runs} == {FULL}
    *parts, last = [candidate for candidate, _ in measure.runs]
    assert set(parts) == {
        c for c in tree().candidates if c.vision_encoder == "clip" or c.llm == "llama"
    }
    assert len(parts) == 3 + 3 - 1
    assert last == Candidate("siglip", "qwen")
    winner = plan.winner(study_history(study))
    assert winner == last
    assert study.user_attrs[STOPPED_BECAUSE].startswith("pool exhausted")


def test_best_parts_trains_no_more_where_the_best_parts_were_together_already() -> None:
    measure = table()
    search(build_plan(settings("best-parts", popular=("dino", "qwen")), tree(), FULL), measure)
    assert measure.runs[-1] == (Candidate("siglip", "qwen"), FULL)
    assert len(measure.runs) == 3 + 3 - 1


def test_best_parts_answers_with_the_best_it_trained() -> None:
    """Parts that are the best alone and bad together are not the answer."""
    measure = table()
    measure.levels[Candidate("siglip", "qwen")] = 0.9
    plan = build_plan(settings("best-parts"), tree(), FULL)
    history = study_history(search(plan, measure))
    assert measure.runs[-1] == (Candidate("siglip", "qwen"), FULL)
    winner = plan.winner(history)
    assert winner == Candidate("clip", "qwen")
    assert plan.is_settled(history, Candidate("siglip", "qwen"))


def test_best_parts_ends_where_its_combination_cannot_be_trained() -> None:
    plan = build_plan(settings("best-parts"), tree(), FULL)
    measure, best = table(), Candidate("siglip", "qwen")
    parts = {
        c: CandidateHistory((measure(c, FULL),))
        for c in tree().candidates
        if c.vision_encoder == "clip" or c.llm == "llama"
    }
    assert plan.jobs(History({**parts, best: CandidateHistory(failures=1)})) == [
        Job(best, FULL, "combination")
    ]
    assert isinstance(plan.jobs(History({**parts, best: CandidateHistory(failures=2)})), Finished)


def test_best_parts_adds_up_the_others() -> None:
    plan = build_plan(settings("best-parts"), tree(), FULL)
    measure = table()
    for estimate in plan.ranking(study_history(search(plan, measure))):
        assert estimate.value == pytest.approx(measure.score(estimate.candidate, FULL))


def test_a_popular_pair_that_the_pool_lacks_is_refused() -> None:
    for method in ("popular", "best-parts"):
        chosen = settings(method, popular=("clip", "gpt"))
        with pytest.raises(SearchError, match="'clip' \\+ 'gpt' is not in the pool"):
            build_plan(chosen, tree(), FULL)
