"""Plain Optuna: whatever way a study is run in, the winner is that of one worker.

The objective is the README's, which trains from the start in every trial and knows no claims; or
our `Objective`, which is told what is known. Scores are those of a table, without noise.
"""

from __future__ import annotations

import copy
import pickle
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.samplers import GridSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from mordal_optuna.errors import LastingOutageError, SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.search import marks
from mordal_optuna.search.attributes import FAILURE, INTERRUPTED, JOB, RUNGS, STOPPED_BECAUSE
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import ENCODERS, FULL, LLMS, Table, plan, search, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.plan import Plan

SIDE = 7
BEST = Candidate("siglip", "qwen")
EVERY_RUNG = (512, 1024, 2048)


def flat(side: int, *, budget: Budget | None = None) -> MordalPlan:
    """As in the README: every pair a cluster of its own."""
    encoders, llms = [f"e{i}" for i in range(side)], [f"l{i}" for i in range(side)]
    return MordalPlan(ClusterTree.flat(encoders, llms), EVERY_RUNG, 16384, budget=budget)


def drawn(chosen: Plan, seed: int) -> Table:
    """Levels of errors at random."""
    rng = np.random.default_rng(seed)
    pairs = [Candidate(v, m) for v in chosen.vision_encoders for m in chosen.llms]
    return Table(dict(zip(pairs, rng.uniform(0.1, 0.4, len(pairs)), strict=True)))


def best_of(measure: Table) -> Candidate:
    return min(measure.levels, key=measure.levels.__getitem__)


def readme_objective(
    chosen: Plan, measure: Table, *, seconds: float = 0.0
) -> Callable[[optuna.Trial], float]:
    """Trains from the start in every trial."""

    def objective(trial: optuna.Trial) -> float:
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", chosen.vision_encoders),
            trial.suggest_categorical("llm", chosen.llms),
        )
        score = 0.0
        for samples in chosen.rungs:
            time.sleep(seconds)
            score = measure.score(pair, samples)
            measure.runs.append((pair, samples))
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    return objective


def new_study(chosen: Plan, **given: object) -> optuna.Study:
    parts = {"sampler": CkaClusterSampler(chosen), "pruner": LogLinearHalvingPruner(chosen)}
    return optuna.create_study(direction="maximize", **{**parts, **given})


def winner_of(chosen: Plan, study: optuna.Study) -> Candidate:
    winner = chosen.winner(study_history(study))
    assert winner is not None
    return winner


@pytest.mark.parametrize("jobs", [2, 4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_threads_find_what_one_does_and_drop_nobody(jobs: int, seed: int) -> None:
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
def test_threads_train_every_rung_once_where_the_objective_is_told(jobs: int) -> None:
    chosen = flat(3)
    alone, together = drawn(chosen, 5), drawn(chosen, 5)
    one, many = new_study(chosen), new_study(chosen)
    one.optimize(Objective(chosen, alone))
    many.optimize(Objective(chosen, together), n_jobs=jobs)
    assert Counter(together.runs) == Counter(alone.runs)
    assert chosen.ranking(study_history(many)) == chosen.ranking(study_history(one))


def sampler_named(name: str, chosen: Plan, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed)
    if name == "random":
        return RandomSampler(seed=seed)
    space = {"vision_encoder": chosen.vision_encoders, "llm": chosen.llms}
    return GridSampler(space, seed=seed)


@pytest.mark.parametrize("name", ["tpe", "random", "grid"])
@pytest.mark.parametrize("seed", range(3))
def test_beside_stock_samplers_the_pruner_never_excludes_the_best(name: str, seed: int) -> None:
    """A sampler may propose a pair once only: the best of all is then let through at once."""
    chosen = flat(SIDE)
    measure = drawn(chosen, seed)
    study = new_study(chosen, sampler=sampler_named(name, chosen, seed))
    study.optimize(readme_objective(chosen, measure), n_trials=120)
    tried = {candidate_of(t) for t in study.trials}
    best = min(tried, key=measure.levels.__getitem__)
    assert study_history(study).of(best).top == chosen.rungs[-1]
    assert candidate_of(study.best_trial) == best
    assert sum(samples == 16384 for _, samples in measure.runs) < len(study.trials) / 2


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


def test_a_stock_sampler_that_proposes_what_runs_stands_back() -> None:
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


def broken_for(
    bad: Candidate, objective: Callable[[optuna.Trial], float], error: BaseException
) -> Callable[[optuna.Trial], float]:
    def broken(trial: optuna.Trial) -> float:
        encoder = trial.suggest_categorical("vision_encoder", ENCODERS)
        if encoder == bad.vision_encoder and candidate_of_mark(trial) == bad:
            raise error
        return objective(trial)

    return broken


def candidate_of_mark(trial: optuna.Trial) -> Candidate:
    return Candidate(*trial.study.trials[trial.number].system_attrs[JOB]["pair"])


def test_a_pair_whose_objective_raises_is_tried_twice() -> None:
    """Also where it raises before it has asked for the second of the two models."""
    chosen, bad = plan(), Candidate("clip", "llama")
    study = new_study(chosen)
    objective = broken_for(bad, readme_objective(chosen, table()), ValueError("no such layer"))
    study.optimize(objective, n_trials=300, catch=(Exception,))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert len(failed) == 2
    assert {t.user_attrs[FAILURE] for t in failed} == {"ValueError: no such layer"}
    assert len(study.trials) < 40
    assert winner_of(chosen, study) == BEST


def test_interruptions_are_nobodys_failure() -> None:
    chosen, bad = plan(), Candidate("clip", "llama")
    study = new_study(chosen)
    stopped = broken_for(bad, readme_objective(chosen, table()), KeyboardInterrupt())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            study.optimize(stopped)
    assert all(INTERRUPTED in t.user_attrs for t in study.trials)
    assert study_history(study).of(bad).failures == 0
    study.optimize(readme_objective(chosen, table()))
    assert study_history(study).of(bad).top


def test_an_outage_in_an_objective_is_nobodys_failure_and_is_waited_out() -> None:
    chosen, measure, naps = plan(), table(), []
    plain, study = readme_objective(chosen, measure), new_study(chosen)
    study.sampler._patience = Patience(naps.append, Silent())  # type: ignore[attr-defined]

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        if 3 <= trial.number < 6:
            raise ConnectionError("the hub is away")
        return plain(trial)

    study.optimize(objective, catch=(Exception,))
    assert naps == [1.0, 2.0, 4.0]
    assert not any(known.failures for known in study_history(study).candidates.values())
    assert winner_of(chosen, study) == BEST


def test_an_outage_that_lasts_stops_the_study_with_one_sentence() -> None:
    chosen, naps = plan(), []
    study = new_study(chosen)
    study.sampler._patience = Patience(naps.append, Silent())  # type: ignore[attr-defined]

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        raise ConnectionError("the hub is away")

    study.optimize(objective, n_trials=100, catch=(ConnectionError, LastingOutageError))
    assert len(study.trials) == len(naps) + 2
    assert sum(naps) > 1500
    assert STOPPED_BECAUSE not in study.user_attrs


@pytest.mark.parametrize("wrong", [float("nan"), 54.3])
def test_what_is_no_score_fails_its_trial_and_the_study_stays_readable(wrong: float) -> None:
    chosen, bad = plan(), Candidate("clip", "llama")
    measure = table()

    def objective(trial: optuna.Trial) -> float:
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        score = 0.0
        for samples in chosen.rungs:
            score = wrong if pair == bad else measure.score(pair, samples)
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = new_study(chosen)
    with pytest.raises(SearchError, match=f"trial 0 reported {wrong} at 256.*between 0 and 1"):
        study.optimize(objective)
    study.optimize(objective, catch=(SearchError,))
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [candidate_of(t) for t in failed] == [bad, bad]
    assert all(f"reported {wrong}" in t.user_attrs[FAILURE] for t in failed)
    assert winner_of(chosen, study) == BEST


def test_with_a_pruner_that_looks_at_no_score_a_wrong_one_counts_as_a_failure() -> None:
    chosen, bad = plan(), Candidate("clip", "llama")
    study = new_study(chosen, pruner=optuna.pruners.NopPruner())

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        trial.report(float("nan"), step=256)
        return 0.5

    study.optimize(objective, n_trials=2)
    assert study_history(study).of(bad).failures == 2
    assert "reported nan" in (study_history(study).of(bad).failure or "")


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


def test_trials_of_a_pair_that_differ_in_a_further_parameter_are_not_one_curve() -> None:
    """The configuration that has come furthest stands for the pair."""
    study = optuna.create_study(direction="maximize")
    for rate, scores in ((1e-3, {256: 0.1}), (1e-4, {256: 0.3, 512: 0.5}), (1e-3, {1024: 0.2})):
        params = {"vision_encoder": "clip", "llm": "llama", "learning_rate": rate}
        study.enqueue_trial(params)
        trial = study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        trial.suggest_float("learning_rate", 1e-5, 1e-2)
        for samples, score in scores.items():
            trial.report(score, step=samples)
        study.tell(trial, state=TrialState.PRUNED)
        if rate == 1e-4:
            known = study_history(study).of(Candidate("clip", "llama"))
            assert [(m.samples, m.score) for m in known.measurements] == [(256, 0.3), (512, 0.5)]
    known = study_history(study).of(Candidate("clip", "llama"))
    assert [(m.samples, m.score) for m in known.measurements] == [(256, 0.1), (1024, 0.2)]
    assert [(p.name, p.value) for p in known.parameters] == [("learning_rate", 1e-3)]


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
    with pytest.raises(SearchError, match=r"goes on with learning_rate = .*keep the range"):
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


def two(names: tuple[str, str] = ("l0", "l1")) -> MordalPlan:
    """One encoder with two LLMs."""
    return MordalPlan(ClusterTree.flat(["e0"], names), EVERY_RUNG, 16384)


def test_a_silent_worker_is_waited_for_and_then_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It marked its pair on another machine, and has said nothing since."""
    chosen, measure = two(), drawn(two(), 0)
    study = new_study(chosen)
    trial = study.ask()
    mark = marks.Mark(Candidate("e0", "l0"), 512, "elsewhere/1/a", time.time())
    study._storage.set_trial_system_attr(trial._trial_id, JOB, mark.stored())
    monkeypatch.setattr(marks, "SILENCE_SECONDS", 0.5)
    start = time.perf_counter()
    study.optimize(Objective(chosen, measure))
    assert time.perf_counter() - start > 0.5
    assert measure.runs[0] == (Candidate("e0", "l1"), 512)
    assert Counter(measure.runs).total() == len(set(measure.runs)) == 7


@pytest.mark.slow
def test_a_worker_that_gives_signs_of_life_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job takes far longer than silence may last; the other one trains what is left."""
    chosen, measure = two(), drawn(two(), 0)
    monkeypatch.setattr(marks, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(marks, "PULSE_SECONDS", 0.1)
    storage, begun = optuna.storages.InMemoryStorage(), threading.Event()

    def slow(candidate: Candidate, samples: int) -> Measurement:
        begun.set()
        time.sleep(2.5 if samples == 512 else 0.0)
        return measure(candidate, samples)

    def work(own: Callable[[Candidate, int], Measurement]) -> None:
        study = new_study(chosen, study_name="s", storage=storage, load_if_exists=True)
        study.optimize(Objective(chosen, own))

    first = threading.Thread(target=work, args=(slow,))
    first.start()
    begun.wait()
    work(measure)
    first.join()
    assert Counter(measure.runs).total() == len(set(measure.runs)) == 7


def test_a_plain_study_keeps_its_budget_by_the_time_its_trials_took() -> None:
    """Objectives that tell no seconds are charged from begin to end."""
    chosen = flat(2, budget=Budget(device_hours=0.5 / 3600))
    study = new_study(chosen)
    start = time.perf_counter()
    study.optimize(readme_objective(chosen, drawn(chosen, 0), seconds=0.1))
    assert 0.5 <= time.perf_counter() - start < 2.0
    assert study.user_attrs[STOPPED_BECAUSE].startswith("budget spent")
