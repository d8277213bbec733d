"""The plan: stages in order, nobody dropped on curves, everything a function of the history."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job, Wait
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.plan import ATTEMPTS, may_continue, next_job, next_rung, wanted_rung
from mordal_optuna.search.sampler import study_history
from tests.search.synthetic import FULL, RUNGS, Table, plan, search, table, tree

MEDOIDS = [cluster.candidates[0] for cluster in tree().clusters]


def measured(known: dict[Candidate, int], measure: Table) -> History:
    """Every candidate scored on all rungs up to the given one."""
    histories = {}
    for candidate, top in known.items():
        rungs = [rung for rung in (*RUNGS, FULL) if rung <= top]
        histories[candidate] = CandidateHistory(tuple(measure(candidate, r) for r in rungs))
    return History(histories)


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


def test_who_is_certain_to_survive_need_not_wait() -> None:
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


def test_nobody_is_stopped_inside_a_surviving_cluster() -> None:
    """The worst survivor still goes on to its curve: late bloomers are not cut off."""
    history = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    worst = Candidate("clip", "mistral")
    assert may_continue(plan(), history, worst, RUNGS[0])
    assert not may_continue(plan(), history, MEDOIDS[3], RUNGS[0])


def test_a_candidate_past_its_job_stops() -> None:
    history = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    assert not may_continue(plan(), history, MEDOIDS[0], RUNGS[-1])


def test_a_candidate_someone_works_on_is_not_given_out_twice() -> None:
    busy = CandidateHistory(running=True)
    first = next_job(plan(), History({MEDOIDS[0]: busy}))
    assert isinstance(first, Job)
    assert first.candidate == MEDOIDS[1]
    assert next_job(plan(), History(dict.fromkeys(MEDOIDS, busy))) == Wait()


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


def test_no_finalists_trusts_the_curves() -> None:
    measure = table()
    search(plan(finalists=0), measure)
    assert max(samples for _, samples in measure.runs) == RUNGS[-1]


def test_a_clear_leader_ends_the_search_early() -> None:
    """With one candidate far ahead, a second finalist is not trained."""
    measure = table()
    measure.levels[Candidate("siglip", "qwen")] = 0.01
    study = search(plan(finalists=5), measure)
    assert [c for c, samples in measure.runs if samples == FULL] == [Candidate("siglip", "qwen")]
    assert study.user_attrs[STOPPED_BECAUSE].startswith("order settled")


RACE = (2048, 4096)


def runs_at(measure: Table, samples: int) -> list[Candidate]:
    return [candidate for candidate, at in measure.runs if at == samples]


def close_table() -> Table:
    """Four candidates that cannot be told apart at R, the best by a hair."""
    measure = table()
    for number, candidate in enumerate(tree().clusters[0].candidates):
        measure.levels[candidate] = 0.16 + 0.001 * number
    return measure


def test_a_race_halves_the_finalists_from_rung_to_rung() -> None:
    measure = close_table()
    study = search(plan(finalists=4, race=RACE), measure)
    best, *_ = group = tree().clusters[0].candidates
    assert set(runs_at(measure, 2048)) == set(group)
    assert set(runs_at(measure, 4096)) == set(group[:2])
    assert runs_at(measure, FULL) == []
    assert study.user_attrs[STOPPED_BECAUSE] == "race won: the last of 4 finalists"
    winner = plan(finalists=4, race=RACE).winner(study_history(study))
    assert winner == best


def test_a_race_fills_its_places_even_where_the_leader_is_clear() -> None:
    """Intervals from few points refuse nobody there; trained fully only the leader would be."""
    measure = table()
    measure.levels[Candidate("siglip", "qwen")] = 0.01
    study = search(plan(finalists=4, race=RACE), measure)
    assert len(runs_at(measure, 2048)) == 4
    assert len(runs_at(measure, 4096)) == 2
    told_apart = plan(finalists=4).finish_candidates(study_history(study).below(2048))
    assert told_apart == (Candidate("siglip", "qwen"),)


def test_the_winner_of_a_race_is_trained_fully_if_that_is_asked_for() -> None:
    measure = close_table()
    search(plan(finalists=4, race=RACE, train_winner=True), measure)
    assert runs_at(measure, FULL) == [tree().clusters[0].candidates[0]]


def test_a_race_of_one_needs_no_race() -> None:
    measure = close_table()
    search(plan(finalists=1, race=RACE), measure)
    assert max(samples for _, samples in measure.runs) == RUNGS[-1]


def test_who_was_left_behind_in_a_race_is_not_the_answer() -> None:
    """All that went on get worse there, so that the curves of the others promise more."""

    @dataclass
    class Bending(Table):
        def score(self, candidate: Candidate, samples: int) -> float:
            return super().score(candidate, min(samples, RUNGS[-1])) - 0.1 * (samples > 1024)

    measure = Bending(close_table().levels)
    chosen = plan(finalists=2, race=RACE)
    history = study_history(search(chosen, measure))
    winner = chosen.winner(history)
    assert winner in runs_at(measure, 2048)
    assert chosen.ranker.rank_trained(history)[0].candidate not in runs_at(measure, 2048)


def test_a_finalist_that_cannot_be_trained_is_replaced() -> None:
    chosen, measure = plan(finalists=2, race=RACE), close_table()
    first, second, third, *_ = tree().clusters[0].candidates
    history = study_history(search(plan(finalists=0), measure))
    jobs = chosen.jobs(history)
    assert not isinstance(jobs, Finished)
    assert [(job.candidate, job.samples) for job in jobs] == [(first, 2048), (second, 2048)]
    failed = replace(history.of(first), failures=ATTEMPTS)
    jobs = chosen.jobs(History({**history.candidates, first: failed}))
    assert not isinstance(jobs, Finished)
    assert [(job.candidate, job.samples) for job in jobs] == [(second, 2048), (third, 2048)]


@pytest.mark.parametrize("race", [(1024, 2048), (4096, 2048), (2048, FULL)])
def test_a_race_outside_its_bounds_is_refused(race: tuple[int, ...]) -> None:
    with pytest.raises(SearchError, match=r"of the race were given; .* between 1024 .* and 8192"):
        plan(finalists=2, race=race)


def test_the_budget_stops_the_search() -> None:
    """What was spent before the first trial counts."""
    for before in (0.0, 6.0):
        study = search(plan(budget=Budget(10 / 3600, before)), table())
        assert study.user_attrs[STOPPED_BECAUSE].startswith("budget spent")
        assert 10 <= before + study_history(study).seconds < 20


def test_the_grid_trains_everyone_fully() -> None:
    measure = table()
    grid = grid_plan(tree(), (*RUNGS, FULL))
    search(grid, measure)
    assert {c for c, samples in measure.runs if samples == FULL} == set(tree().candidates)
    assert len(measure.runs) == len(set(measure.runs)) == 9 * 4


def test_the_wanted_rung_is_the_plans_and_others_climb_rung_by_rung() -> None:
    """A finalist goes straight to D; a candidate nobody asked for has the next rung above."""
    history = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    assert wanted_rung(plan(), history, MEDOIDS[0], RUNGS[0]) == RUNGS[1]
    assert wanted_rung(plan(), history, MEDOIDS[3], RUNGS[0]) is None
    assert next_rung(plan(), RUNGS[0]) == RUNGS[1]
    survivors = [c for cluster in tree().clusters[:2] for c in cluster.candidates]
    known = dict.fromkeys(MEDOIDS, RUNGS[0]) | dict.fromkeys(survivors, RUNGS[-1])
    done = measured(known, table())
    best = Candidate("siglip", "qwen")
    assert wanted_rung(plan(), done, best, RUNGS[-1]) == FULL
    assert next_rung(plan(), FULL) is None


def test_a_candidate_that_another_pruner_stops_twice_where_it_stands_is_left_alone() -> None:
    stopped = CandidateHistory(overruled=2)
    jobs = plan().jobs(History({MEDOIDS[0]: stopped}))
    assert not isinstance(jobs, Finished)
    assert jobs[0].candidate == Candidate("clip", "qwen")


def test_impossible_rungs_are_refused() -> None:
    with pytest.raises(SearchError, match="at least 3"):
        MordalPlan(tree(), (256, 512), FULL)
    with pytest.raises(SearchError, match="at most 512"):
        MordalPlan(tree(), RUNGS, 512)
    with pytest.raises(SearchError, match="strictly ascending"):
        MordalPlan(tree(), (512, 256, 1024), FULL)


A, B, C = MEDOIDS[:3]


def budgeted(hours: float) -> MordalPlan:
    return plan(budget=Budget(hours))


def told(
    samples: int, seconds: float, *, granted: int = 0, other: float = 0.0
) -> CandidateHistory:
    """Scored at the lowest rung; running on, if something was granted."""
    score = Measurement(samples, 0.5, train_seconds=seconds, eval_seconds=0.0)
    return CandidateHistory((score,), bool(granted), granted, other_seconds=other)


def test_running_jobs_are_reserved_at_what_the_pool_has_taken_so_far() -> None:
    """256 samples took 100 seconds, so that a job to 1,024 takes 300 more, and one to 512 100."""
    spent = told(256, 100.0)
    history = History({A: spent, B: told(256, 100.0, granted=1024), C: CandidateHistory()})
    assert budgeted(501 / 3600).has_room(history)
    assert not budgeted(500 / 3600).has_room(history)
    assert budgeted(201 / 3600).has_room(history, besides=B)
    assert next_job(budgeted(500 / 3600), history) == Wait()
    # A trial that has come as far as it was asked for may be on its way to the next rung.
    further = History({A: spent, B: told(256, 100.0, granted=256)})
    assert budgeted(301 / 3600).has_room(further)
    assert not budgeted(300 / 3600).has_room(further)


def test_before_any_cost_is_known_one_job_runs_at_a_time() -> None:
    running = History({A: CandidateHistory(running=True, granted=256)})
    assert not budgeted(100.0).has_room(running)
    assert budgeted(100.0).has_room(History())
    assert plan().has_room(running)  # without a budget there is nothing to keep


def test_failed_and_lost_seconds_are_spent() -> None:
    spent = History({A: told(256, 100.0, other=50.0)})
    assert budgeted(151 / 3600).has_room(spent)
    assert isinstance(budgeted(150 / 3600).jobs(spent), Finished)


def test_a_job_that_was_begun_is_finished_whatever_the_budget() -> None:
    spent = History({A: told(256, 100.0, granted=1024)})
    assert may_continue(budgeted(1 / 3600), spent, A, 512)
    assert not may_continue(budgeted(1 / 3600), spent, A, 1024)


def test_the_winner_is_measured_as_far_as_the_plan_goes() -> None:
    """An estimate above it does not take its place; it was not measured there."""
    measure = close_table()
    known = measured(dict.fromkeys(measure.levels, RUNGS[-1]), measure)
    first, second = Candidate("clip", "llama"), Candidate("clip", "qwen")
    told = {**known.candidates, first: measured({first: FULL}, measure).of(first)}
    assert plan(finalists=3).winner(History(told)) == first
    bad = replace(
        told[first],
        measurements=(*known.of(first).measurements, Measurement(FULL, 0.4, 0.02, 400)),
    )
    disappointed = History({**told, first: bad})
    assert plan(finalists=1).winner(disappointed) == first
    better = {**disappointed.candidates, second: measured({second: FULL}, measure).of(second)}
    assert plan(finalists=3).winner(History(better)) == second


@pytest.mark.parametrize(
    ("finalists", "race", "train_winner", "rung"),
    [
        (0, (), False, RUNGS[-1]),  # curves are trusted
        (3, (), False, FULL),
        (4, (2048, 4096), False, 4096),  # four at 2,048, two at 4,096
        (2, (2048, 4096), False, 2048),  # one is left after 2,048
        (1, (2048, 4096), False, RUNGS[-1]),  # nobody to race against
        (4, (2048, 4096), True, FULL),
    ],
)
def test_the_highest_rung_that_a_plan_asks_for(
    finalists: int, race: tuple[int, ...], train_winner: bool, rung: int
) -> None:
    chosen = plan(finalists=finalists, race=race, train_winner=train_winner)
    assert chosen.answer_rung == rung
    study = search(chosen, table())
    assert max(samples for t in study.trials for samples in t.intermediate_values) == rung
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert {max(t.intermediate_values) for t in complete} == {rung}


def test_a_leader_by_its_curve_takes_a_place_of_the_finish_that_is_free() -> None:
    """Told apart too early, the finalist disappoints: who leads now is measured as well."""

    @dataclass
    class Disappointing(Table):
        def score(self, candidate: Candidate, samples: int) -> float:
            return super().score(candidate, samples) - 0.25 * (
                samples == FULL and candidate == Candidate("siglip", "qwen")
            )

    def trained(finalists: int) -> list[Candidate]:
        measure = Disappointing(table().levels)
        search(plan(finalists=finalists), measure)
        return runs_at(measure, FULL)

    alone, free = trained(1), trained(3)
    assert alone == [Candidate("siglip", "qwen")]
    assert free[0] == alone[0]
    assert 1 < len(free) <= 3


def test_the_last_one_left_is_measured_though_nobody_races_it() -> None:
    """Its rivals cannot be trained; the winner is measured where a race would have ended."""
    measure = close_table()
    chosen = plan(finalists=4, race=RACE)
    known = measured(dict.fromkeys(measure.levels, RUNGS[-1]), measure)
    alone = Candidate("clip", "llama")
    broken = {
        c: replace(k, failures=ATTEMPTS) if c != alone else k for c, k in known.candidates.items()
    }
    jobs = chosen.jobs(History(broken))
    assert jobs == [Job(alone, chosen.answer_rung, "finish")]


def test_a_race_whose_winner_is_trained_on_trains_a_challenger_too() -> None:
    """The winner disappoints at D: who is estimated above it then is measured there, and no more.

    At most eta, two, are trained on everything.
    """

    @dataclass
    class Disappointing(Table):
        def score(self, candidate: Candidate, samples: int) -> float:
            return super().score(candidate, samples) - 0.3 * (samples == FULL)

    measure = Disappointing(close_table().levels)
    chosen = plan(finalists=4, race=RACE, train_winner=True)
    study = search(chosen, measure)
    assert len(runs_at(measure, FULL)) == 2
    assert chosen.winner(study_history(study)) in runs_at(measure, FULL)
    measure = close_table()
    search(chosen, measure)
    assert len(runs_at(measure, FULL)) == 1
