"""The plan of `mordal`: halving over clusters, curves inside the best ones, no early stopping."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.config import SearchSettings
from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.clusters import ClusterTree, cluster_pool
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.plan import may_continue, next_job, wanted_rung
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import FULL, MEDOIDS, RUNGS, measured, plan, search, table, tree


def test_the_search_starts_with_the_medoid_of_every_cluster_at_the_lowest_rung() -> None:
    jobs = plan().jobs(History())
    assert jobs == [Job(medoid, RUNGS[0], "inter-cluster") for medoid in MEDOIDS]


def test_halving_waits_for_the_whole_rung_and_keeps_the_best() -> None:
    """Of four clusters two survive: those of clip + llama and clip + mistral."""
    some = measured(dict.fromkeys(MEDOIDS[:2], RUNGS[0]), table())
    assert plan().jobs(some) == [Job(c, RUNGS[0], "inter-cluster") for c in MEDOIDS[2:]]
    every = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    jobs = plan().jobs(every)
    assert not isinstance(jobs, Finished)
    survivors = {job.candidate for job in jobs}
    assert survivors == {c for cl in tree().clusters[:2] for c in cl.candidates}


def test_a_cluster_certain_to_survive_is_promoted_before_the_rung_is_complete() -> None:
    """One score is missing, two clusters survive: the best so far does whatever it turns out."""
    some = measured(dict.fromkeys(MEDOIDS[:3], RUNGS[0]), table())
    jobs = plan().jobs(some)
    assert not isinstance(jobs, Finished)
    assert jobs[0] == Job(MEDOIDS[3], RUNGS[0], "inter-cluster")
    assert {job.candidate for job in jobs[1:]} == set(tree().clusters[0].candidates)
    assert {job.stage for job in jobs[1:]} == {"intra-cluster"}


def test_halving_goes_on_rung_by_rung_until_k_clusters_are_left() -> None:
    """With K = 1 the two best of four medoids meet again at the second rung."""
    narrow = plan(top_clusters=1)
    every = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    assert narrow.jobs(every) == [
        Job(MEDOIDS[0], RUNGS[1], "inter-cluster"),
        Job(MEDOIDS[1], RUNGS[1], "inter-cluster"),
    ]


def test_with_few_clusters_halving_is_passed_over() -> None:
    jobs = plan(top_clusters=4).jobs(History())
    assert not isinstance(jobs, Finished)
    assert {job.stage for job in jobs} == {"intra-cluster"}


def test_no_candidate_is_stopped_inside_a_surviving_cluster() -> None:
    """The worst survivor still goes on to its curve: late bloomers are not cut off."""
    history = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    worst = Candidate("clip", "mistral")
    assert may_continue(plan(), history, worst, RUNGS[0])
    assert not may_continue(plan(), history, MEDOIDS[3], RUNGS[0])


def test_a_candidate_that_failed_twice_is_replaced_by_its_neighbour() -> None:
    broken = History({MEDOIDS[0]: CandidateHistory(failures=2)})
    jobs = plan().jobs(broken)
    assert not isinstance(jobs, Finished)
    assert jobs[0].candidate == Candidate("clip", "qwen")
    passing = History({MEDOIDS[0]: CandidateHistory(failures=1)})
    jobs = plan().jobs(passing)
    assert not isinstance(jobs, Finished)
    assert jobs[0].candidate == MEDOIDS[0]


def test_a_pool_that_cannot_be_trained_ends_the_search() -> None:
    broken = History(dict.fromkeys(tree().candidates, CandidateHistory(failures=2)))
    assert plan().jobs(broken) == Finished("no candidate could be trained", failed=True)


def test_a_candidate_that_another_pruner_stopped_twice_is_given_up() -> None:
    stopped = CandidateHistory(overruled=2)
    jobs = plan().jobs(History({MEDOIDS[0]: stopped}))
    assert not isinstance(jobs, Finished)
    assert jobs[0].candidate == Candidate("clip", "qwen")


def test_the_whole_search_finds_the_best_and_runs_every_rung_once() -> None:
    measure = table()
    study = search(plan(), measure)
    assert len(measure.runs) == len(set(measure.runs))
    best = max(measure.levels, key=lambda c: measure.score(c, FULL))
    ranking = plan().ranking(study_history(study))
    assert ranking[0].candidate == best == Candidate("siglip", "qwen")
    assert ranking[0].provenance == "measured"
    assert study.user_attrs[STOPPED_BECAUSE].startswith("pool exhausted")
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in study.trials)


def test_the_order_of_one_worker_is_deterministic() -> None:
    first, second = table(), table()
    search(plan(), first)
    search(plan(), second)
    assert first.runs == second.runs


def test_impossible_rungs_are_refused() -> None:
    with pytest.raises(SearchError, match="a curve is fitted to 3"):
        MordalPlan(tree(), (256, 512), FULL)
    with pytest.raises(SearchError, match="at most 512"):
        MordalPlan(tree(), RUNGS, 512)
    with pytest.raises(SearchError, match="strictly ascending"):
        MordalPlan(tree(), (512, 256, 1024), FULL)


def test_a_question_about_one_candidate_makes_no_job_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a pool of as many clusters as candidates, each of which lacks its first score."""
    names = [f"model-{n}" for n in range(30)]
    plan = MordalPlan(ClusterTree.flat(names, names), (100, 200, 400), 3200)
    made = []

    def counted(*values: object, tied: bool = False) -> Job:
        made.append(values)
        return Job(*values, tied=tied)  # type: ignore[arg-type]

    monkeypatch.setattr("mordal_optuna.search.methods.mordal.Job", counted)
    assert isinstance(next_job(plan, History()), Job)
    last = Candidate(names[-1], names[-1])
    assert may_continue(plan, History(), last, 0)
    assert wanted_rung(plan, History(), last, 0) == 100
    assert len(made) < 10


# The paper's search with the paper's settings, step by step, by an example computed by hand.
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
