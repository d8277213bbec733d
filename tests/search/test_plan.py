"""Plans: the next job, which candidates may continue, the finish and its races, and the winner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.finish import Finish
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job, Wait
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.plan import ATTEMPTS, may_continue, next_job, next_rung, wanted_rung
from mordal_optuna.search.sampler import study_history
from tests.search.synthetic import (
    FULL,
    MEDOIDS,
    RUNGS,
    Table,
    close_table,
    measured,
    plan,
    runs_at,
    search,
    table,
    tree,
)


def test_a_candidate_past_its_job_stops() -> None:
    history = measured(dict.fromkeys(MEDOIDS, RUNGS[0]), table())
    assert not may_continue(plan(), history, MEDOIDS[0], RUNGS[-1])


def test_a_running_candidate_is_not_proposed_again() -> None:
    busy = CandidateHistory(running=True)
    first = next_job(plan(), History({MEDOIDS[0]: busy}))
    assert isinstance(first, Job)
    assert first.candidate == MEDOIDS[1]
    assert next_job(plan(), History(dict.fromkeys(MEDOIDS, busy))) == Wait()


def test_the_wanted_rung_is_the_plans_and_the_next_rung_the_one_above() -> None:
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


def test_a_candidate_eliminated_in_a_race_is_not_the_winner() -> None:
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


def test_the_order_of_trials_does_not_choose_between_equal_answers() -> None:
    """The pair with the better estimate wins: several workers end trials in any order."""
    measure = close_table()
    first, second = Candidate("clip", "llama"), Candidate("clip", "qwen")
    answer = Measurement(FULL, 0.6, 0.02, 400)

    def told(last: dict[Candidate, int]) -> History:
        known = measured(dict.fromkeys(measure.levels, RUNGS[-1]), measure)
        return History(
            {
                c: replace(
                    record,
                    last_trial=last.get(c, 0),
                    measurements=(*record.measurements, *((answer,) if c in last else ())),
                )
                for c, record in known.candidates.items()
            }
        )

    winners = {
        plan(finalists=3).winner(told(last))
        for last in ({first: 8, second: 9}, {first: 9, second: 8})
    }
    assert len(winners) == 1


def test_of_equal_answers_the_one_with_the_best_shown_estimate_wins() -> None:
    """Its earlier scores, and those of its parts with other partners, are better."""
    flat, finish = ClusterTree.flat(["clip", "siglip"], ["llama", "qwen"]), Finish(4)
    chosen = MordalPlan(flat, RUNGS, FULL, finish=finish)
    low, high = Candidate("clip", "llama"), Candidate("siglip", "qwen")
    early = {
        low: 0.2,
        Candidate("clip", "qwen"): 0.4,
        Candidate("siglip", "llama"): 0.4,
        high: 0.5,
    }
    records = {}
    for candidate, score in early.items():
        curve = [Measurement(samples, score, 0.02, 400) for samples in RUNGS]
        answer = Measurement(FULL, 0.6 if candidate in (low, high) else 0.5, 0.02, 400)
        records[candidate] = CandidateHistory((*curve, answer))
    history = History(records)
    estimates = {e.candidate: e.value for e in chosen.ranking(history)}
    assert estimates[high] > estimates[low]
    assert chosen.winner(history) == high


@pytest.mark.parametrize("race", [(1024, 2048), (4096, 2048), (2048, FULL)])
def test_a_race_outside_its_bounds_is_refused(race: tuple[int, ...]) -> None:
    with pytest.raises(SearchError, match=r"of the race were given; .* between 1024 .* and 8192"):
        plan(finalists=2, race=race)


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


def test_a_candidate_estimated_above_the_finalists_takes_a_free_place_of_the_finish() -> None:
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


def test_the_last_trainable_finalist_is_measured_at_the_answer_rung() -> None:
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
