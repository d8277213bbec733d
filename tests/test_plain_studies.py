"""The sampler in plain Optuna: however a study is run, its winner is that of one worker."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.objective import Objective
from tests.search.plain import BEST, best_of, drawn, flat, new_study, readme_objective, winner_of
from tests.search.synthetic import ENCODERS, FULL, LLMS, plan, search, table

if TYPE_CHECKING:
    from mordal_optuna.search.curves import Measurement


@pytest.mark.parametrize("jobs", [2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_threads_find_the_winner_of_one_worker_and_drop_no_candidate(jobs: int, seed: int) -> None:
    chosen = flat(3)
    alone, together = drawn(chosen, seed), drawn(chosen, seed)
    one, many = new_study(chosen), new_study(chosen)
    one.optimize(readme_objective(chosen, alone))
    many.optimize(readme_objective(chosen, together, seconds=0.002), n_jobs=jobs)
    assert winner_of(chosen, many) == winner_of(chosen, one) == best_of(alone)
    assert not any(known.overruled for known in study_history(many).candidates.values())
    granted = Counter(
        (mark.candidate, mark.samples) for t in many.trials if (mark := assignment_of(t))
    )
    assert max(granted.values()) == 1  # no job was proposed twice


@pytest.mark.parametrize("jobs", [2, 8])
def test_threads_train_every_rung_once_with_our_objective(jobs: int) -> None:
    chosen = flat(3)
    alone, together = drawn(chosen, 5), drawn(chosen, 5)
    one, many = new_study(chosen), new_study(chosen)
    one.optimize(Objective(chosen, alone))
    many.optimize(Objective(chosen, together), n_jobs=jobs)
    assert Counter(together.runs) == Counter(alone.runs)
    assert chosen.ranking(study_history(many)) == chosen.ranking(study_history(one))


def test_a_long_job_makes_no_empty_trials() -> None:
    """While one job runs that all others wait for, the other threads wait as well."""
    chosen, measure = flat(2), drawn(flat(2), 0)

    def slow(candidate: Candidate, samples: int) -> Measurement:
        time.sleep(1.0 if samples == chosen.rungs[-1] else 0.01)
        return measure(candidate, samples)

    study = new_study(chosen)
    study.optimize(Objective(chosen, slow), n_jobs=4)
    paid = sum(len(t.user_attrs.get(RUNGS, {})) for t in study.trials)
    assert len(study.trials) <= paid + 3  # those of the threads that waited until the end


def test_a_trial_whose_pair_is_running_stands_back() -> None:
    chosen, measure = flat(1), drawn(flat(1), 0)
    begun = threading.Event()

    def slow(candidate: Candidate, samples: int) -> Measurement:
        begun.set()
        time.sleep(0.3)
        return measure(candidate, samples)

    naps: list[float] = []
    study = new_study(chosen, sampler=RandomSampler(seed=0))
    objective = Objective(chosen, slow, sleep=lambda s: (naps.append(s), time.sleep(0.1))[0])
    study.optimize(objective, n_jobs=2, n_trials=8)
    assert naps
    assert set(naps) == {1.0}


def test_a_promoted_pair_keeps_the_further_parameters_it_began_with() -> None:
    chosen, measure = plan(), table()

    def objective(trial: optuna.Trial) -> float:
        rate = 0.0
        for samples in chosen.rungs:
            pair = Candidate(
                trial.suggest_categorical("vision_encoder", ENCODERS),
                trial.suggest_categorical("llm", LLMS),
            )
            rate = trial.suggest_float("learning_rate", 0.0, 0.02)
            trial.report(measure.score(pair, samples) - rate, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return measure.score(pair, FULL) - rate

    for sampler in (None, TPESampler(multivariate=True, n_startup_trials=2, seed=0)):
        study = new_study(chosen, sampler=CkaClusterSampler(chosen, independent_sampler=sampler))
        study.optimize(objective, n_trials=100)
        rates: dict[Candidate | None, set[float]] = {}
        for trial in study.trials:
            if trial.intermediate_values:
                rates.setdefault(candidate_of(trial), set()).add(trial.params["learning_rate"])
        assert len(study.trials) > len(rates)  # some were promoted
        assert all(len(own) == 1 for own in rates.values())
        assert len({min(own) for own in rates.values()}) == len(rates)


def test_a_further_parameter_whose_range_has_changed_is_refused() -> None:
    chosen = plan()
    study, high = new_study(chosen), [0.1]

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        rate = trial.suggest_float("learning_rate", 0.0, high[0])
        trial.report(0.5 + rate, step=RUNG)
        raise optuna.TrialPruned

    RUNG = chosen.rungs[0]
    study.optimize(objective, n_trials=4)
    high[0] = 0.2
    with pytest.raises(SearchError, match=r"continues with learning_rate = .*keep the range"):
        study.optimize(objective, n_trials=40)


@pytest.mark.parametrize("times", [3])
def test_a_finished_study_trains_nothing_more_however_often_it_is_run(times: int) -> None:
    chosen, measure = plan(), table()
    study = new_study(chosen)
    study.optimize(readme_objective(chosen, measure))
    runs, winner = len(measure.runs), winner_of(chosen, study)
    for number in range(times):
        before = len(study.trials)
        study.optimize(readme_objective(chosen, measure), n_jobs=1 + number)
        assert len(measure.runs) == runs
        assert len(study.trials) <= before + 1 + number
        assert winner_of(chosen, study) == winner == BEST


@pytest.mark.parametrize(
    ("encoders", "llms"),
    [
        (("clip", "siglip", "dino", "eva"), LLMS),
        (("clip", "siglip"), LLMS),
        (ENCODERS, LLMS[::-1]),
    ],
)
def test_another_pool_is_refused_with_a_way_on(
    encoders: tuple[str, ...], llms: tuple[str, ...]
) -> None:
    study = search(plan(), table())
    other = MordalPlan(ClusterTree.flat(encoders, llms), (256, 512, 1024), FULL)
    study.sampler, study.pruner = CkaClusterSampler(other), LogLinearHalvingPruner(other)
    with pytest.raises(SearchError, match=r"the plan's pool has .*begin a new study"):
        study.optimize(readme_objective(other, table()))


def test_sampler_and_pruner_are_pickled_and_copied() -> None:
    """In the middle of a search, the copies go on as the originals would."""
    chosen, measure, again = plan(), table(), table()
    study = new_study(chosen)
    study.optimize(Objective(chosen, measure), n_trials=5)
    for copied in (copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))):
        study.sampler, study.pruner = copied(study.sampler), copied(study.pruner)
        study.optimize(Objective(chosen, measure), n_trials=1)
    study.optimize(Objective(chosen, measure))
    search(plan(), again)
    assert measure.runs == again.runs
    assert STOPPED_BECAUSE in study.user_attrs


def test_a_batch_of_asked_trials_never_waits_for_itself() -> None:
    """Ask and tell in one thread: more trials than jobs; the most wanted pair is given twice."""
    chosen = flat(2)
    study = new_study(chosen)
    pairs = []
    for _ in range(6):
        trial = study.ask()
        encoder = trial.suggest_categorical("vision_encoder", chosen.vision_encoders)
        pairs.append(Candidate(encoder, trial.suggest_categorical("llm", chosen.llms)))
    assert len(set(pairs[:4])) == 4
    assert pairs[4:] == pairs[:1] * 2
