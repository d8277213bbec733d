"""The sampler: Optuna's contract, stock samplers and pruners beside it, and the plan's order."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase
from optuna.trial import TrialState

from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.heartbeats import assignment_of
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.plan import next_jobs
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.search.space import PairSpace
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import (
    ENCODERS,
    FULL,
    LLMS,
    MEDOIDS,
    RUNGS,
    believed,
    plan,
    search,
    settings,
    table,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.samplers import BaseSampler

    from mordal_optuna.search.history import History
    from mordal_optuna.search.jobs import Finished, Job
    from mordal_optuna.search.plan import Plan


class TestContract(BasicSamplerTestCase):
    """Everything Optuna asks of a sampler."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        """Over the synthetic pool."""
        return lambda: CkaClusterSampler(plan(), seed=0)


class TestRelativeContract(RelativeSamplerTestCase):
    """The same around a sampler that samples jointly."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        """With a joint sampler for the rest."""
        other = TPESampler(multivariate=True, n_startup_trials=0, seed=0)
        return lambda: CkaClusterSampler(plan(), independent_sampler=other)


def test_the_first_proposals_are_the_medoids() -> None:
    study = optuna.create_study(sampler=CkaClusterSampler(plan()), direction="maximize")
    for cluster in tree().clusters:
        trial = study.ask()
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        assert pair == cluster.candidates[0]


def test_a_finished_study_ends_at_once_at_no_cost() -> None:
    measure = table()
    study = search(plan(), measure)
    runs, trials = list(measure.runs), len(study.trials)
    study.optimize(Objective(plan(), measure), n_trials=50)
    assert measure.runs == runs
    assert [t.state for t in study.trials[trials:]] == [TrialState.PRUNED]


def test_a_trial_asked_for_after_the_end_gives_the_leader() -> None:
    """With ask and tell there is no loop to stop; the attribute tells, and nothing is trained."""
    measure = table()
    study = search(plan(), measure)
    runs = list(measure.runs)
    trial = study.ask()
    Objective(plan(), measure)(trial)
    assert measure.runs == runs
    assert trial.params == {"vision_encoder": "siglip", "llm": "qwen"}
    assert set(study.trials[-1].intermediate_values) == {*RUNGS, FULL}


def test_further_parameters_go_to_the_other_sampler() -> None:
    study = optuna.create_study(sampler=CkaClusterSampler(plan(), seed=1), direction="maximize")
    rates = set()
    for _ in range(4):
        trial = study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        rates.add(trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True))
    assert len(rates) == 4
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)


def test_works_with_a_stock_pruner_and_without_one() -> None:
    for pruner in (HyperbandPruner(RUNGS[0], FULL, 2), NopPruner()):
        measure = table()
        study = optuna.create_study(
            direction="maximize", sampler=CkaClusterSampler(plan()), pruner=pruner
        )
        study.optimize(Objective(plan(), measure), n_trials=60)
        assert len(measure.runs) == len(set(measure.runs))
        assert STOPPED_BECAUSE in study.user_attrs


def test_enqueued_trials_keep_their_pair() -> None:
    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(plan()),
        pruner=LogLinearHalvingPruner(plan()),
    )
    study.enqueue_trial({"vision_encoder": "dino", "llm": "qwen"})
    measure = table()
    study.optimize(Objective(plan(), measure), n_trials=60)
    assert measure.runs[0] == (Candidate("dino", "qwen"), RUNGS[0])
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")


def test_enqueued_trials_are_assigned_the_pair_that_they_fix() -> None:
    """Also where they fix one of the two."""
    study = optuna.create_study(direction="maximize", sampler=CkaClusterSampler(plan()))
    for fixed in ({"vision_encoder": "dino", "llm": "qwen"}, {"llm": "mistral"}):
        study.enqueue_trial(fixed)
        trial = study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        mark = assignment_of(study.trials[trial.number])
        assert mark is not None
        assert mark.candidate == Candidate(**trial.params)
        assert mark.samples == 0


def test_an_interrupted_study_goes_on_without_repeating_a_rung(tmp_path) -> None:  # noqa: ANN001
    """Stopped after every few trials and opened again from its storage, it does the same work."""
    whole = table()
    search(plan(), whole)
    storage, pieces = f"sqlite:///{tmp_path / 'study.db'}", table()
    for _ in range(40):
        study = optuna.create_study(
            study_name="s",
            storage=storage,
            load_if_exists=True,
            direction="maximize",
            sampler=CkaClusterSampler(plan()),
            pruner=LogLinearHalvingPruner(plan()),
        )
        study.optimize(Objective(plan(), pieces), n_trials=1)
        if STOPPED_BECAUSE in study.user_attrs:
            break
    assert pieces.runs == whole.runs


def run_minimizing(sampler: BaseSampler, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    study.optimize(Objective(plan(), table()), n_trials=100)
    return study


def test_minimising_errors_is_the_same_search() -> None:
    """The values are 1 - score; the trials, their order and the winner are the same."""
    up = search(plan(), table())
    down = run_minimizing(CkaClusterSampler(plan()), LogLinearHalvingPruner(plan()))
    assert [candidate_of(t) for t in down.trials] == [candidate_of(t) for t in up.trials]
    for low, high in zip(down.trials, up.trials, strict=True):
        assert low.state == high.state
        assert {s: 1 - v for s, v in low.intermediate_values.items()} == pytest.approx(
            high.intermediate_values
        )
    assert candidate_of(down.best_trial) == Candidate("siglip", "qwen")
    assert down.best_value == pytest.approx(1 - up.best_value)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "pruner", [HyperbandPruner(RUNGS[0], FULL, 2), SuccessiveHalvingPruner(), MedianPruner()]
)
def test_stock_pruners_in_both_directions(
    direction: str, pruner: optuna.pruners.BasePruner
) -> None:
    """Pruned by another pruner, a candidate is proposed again until its rungs are known."""
    study = optuna.create_study(
        direction=direction, sampler=CkaClusterSampler(plan()), pruner=pruner
    )
    measure = table()
    study.optimize(Objective(plan(), measure), n_trials=100)
    assert len(measure.runs) == len(set(measure.runs))
    assert STOPPED_BECAUSE in study.user_attrs
    winner = plan().winner(study_history(study))
    assert winner == Candidate("siglip", "qwen")


def test_a_plain_objective_with_a_stock_pruner_ends() -> None:
    """It retrains from the start each time; a stock pruner stops candidates the plan promotes."""
    chosen, measure = plan(), table()

    def objective(trial: optuna.Trial) -> float:
        pair = Candidate(
            trial.suggest_categorical("vision_encoder", ENCODERS),
            trial.suggest_categorical("llm", LLMS),
        )
        for samples in chosen.rungs:
            trial.report(measure.score(pair, samples), step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return measure.score(pair, FULL)

    pruner = MedianPruner(n_startup_trials=2)
    study = optuna.create_study(
        direction="maximize", sampler=CkaClusterSampler(chosen), pruner=pruner
    )
    study.optimize(objective, n_trials=200)
    assert STOPPED_BECAUSE in study.user_attrs


def test_retried_trials_do_not_confuse_the_search(tmp_path) -> None:  # noqa: ANN001
    """A trial whose process died is retried by Optuna itself, with its pair and attributes."""
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{tmp_path / 'study.db'}",
        heartbeat_interval=1,
        grace_period=1,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )
    study = optuna.create_study(
        storage=storage,
        direction="maximize",
        sampler=CkaClusterSampler(plan()),
        pruner=LogLinearHalvingPruner(plan()),
    )
    dead = study.ask()
    dead.suggest_categorical("vision_encoder", ENCODERS)
    dead.suggest_categorical("llm", LLMS)
    storage.record_heartbeat(dead._trial_id)
    time.sleep(2.1)
    measure = table()
    study.optimize(Objective(plan(), measure), n_trials=60)
    assert study.trials[dead.number].state == TrialState.FAIL
    (retried,) = [t for t in study.trials if "failed_trial" in t.system_attrs]
    again, before = assignment_of(retried), assignment_of(study.trials[dead.number])
    assert again is not None
    assert before is not None
    assert again.begun > before.begun  # it is its new worker's
    assert len(measure.runs) == len(set(measure.runs))
    assert candidate_of(study.best_trial) == Candidate("siglip", "qwen")


def test_a_learning_rate_is_searched_beside_the_pair_by_tpe() -> None:
    sampler = CkaClusterSampler(plan(), independent_sampler=TPESampler(seed=0))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(15):
        trial = study.ask()
        trial.suggest_categorical("vision_encoder", ENCODERS)
        trial.suggest_categorical("llm", LLMS)
        rate = trial.suggest_float("learning_rate", 1e-5, 1e-3, log=True)
        trial.report(1e-5 / rate, RUNGS[0])
        study.tell(trial, 1e-5 / rate)
    rates = [t.params["learning_rate"] for t in study.trials]
    assert min(rates[10:]) < min(rates[:10]) * 3  # TPE has learned which end is good


class _Overtaken:
    """The first job of a plan, which something else happens before it can be taken."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile: Callable[[], object] | None = meanwhile

    def __call__(self, *arguments: Any, **named: Any) -> list[Job] | Finished:
        jobs = next_jobs(*arguments, **named)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile:
            meanwhile()
        return jobs


def _worker(storage: optuna.storages.BaseStorage, chosen: Plan) -> optuna.Study:
    return optuna.create_study(
        study_name="both",
        storage=storage,
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
        load_if_exists=True,
    )


def test_a_job_that_another_worker_finished_meanwhile_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other worker begins and ends between this one's reading and its assignment."""
    storage, measure = optuna.storages.InMemoryStorage(), table()
    objective = Objective(plan(), measure)
    first = _Overtaken(lambda: _worker(storage, plan()).optimize(objective, n_trials=1))
    monkeypatch.setattr("mordal_optuna.search.sampler.next_jobs", first)
    _worker(storage, plan()).optimize(objective, n_trials=1)
    (first_pair, _), (second_pair, _) = measure.runs
    assert first_pair == MEDOIDS[0]
    # One of the other wanted jobs: workers that ask together spread over them.
    assert second_pair in MEDOIDS[1:]
    assert {samples for _, samples in measure.runs} == {RUNGS[0]}


def test_a_worker_that_waited_for_others_reads_again_when_they_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last other trial ends between this worker's two readings."""
    storage, measure = optuna.storages.InMemoryStorage(), table()
    pair = MEDOIDS[0]
    chosen = build_plan(settings("popular", popular=tuple(pair)), tree(), FULL)
    worker = _worker(storage, chosen)
    trial = worker.ask(PairSpace(ENCODERS, LLMS).distributions)

    def end_other() -> None:
        trial.report(0.8, FULL)
        worker.tell(trial, 0.8)

    monkeypatch.setattr("mordal_optuna.search.sampler.next_jobs", _Overtaken(end_other))
    _worker(storage, chosen).optimize(Objective(chosen, measure))
    states = [t.state for t in worker.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED]
    assert measure.runs == []


class _Claimed:
    """Claims of a sampler, some of which another worker holds."""

    def __init__(self, others: set[Candidate]) -> None:
        self._others = others
        self.held: dict[int, Candidate] = {}

    def take(self, candidate: Candidate, trial: int) -> bool:
        if candidate in self._others:
            return False
        self.held[trial] = candidate
        return True

    def give_back(self, trial: int) -> None:
        self.held.pop(trial, None)


def test_a_pair_that_another_worker_has_just_claimed_is_passed_over() -> None:
    """The study does not show it yet: the other worker stores its assignment after the claim."""
    claims = _Claimed({MEDOIDS[0]})
    study = _worker(optuna.storages.InMemoryStorage(), plan())
    study.sampler = CkaClusterSampler(plan(), claims=claims)
    trial = study.ask(PairSpace(ENCODERS, LLMS).distributions)
    (chosen,) = claims.held.values()
    assert chosen in MEDOIDS[1:]  # any of them: workers that ask together spread
    kept = study.sampler.shared.take_kept(trial.number)
    assert kept is not None
    assert not kept.of(chosen).running  # it leaves out the trial itself
    study.tell(trial, state=TrialState.FAIL)
    assert claims.held == {}


def test_with_claims_a_search_is_the_same() -> None:
    """One worker is never in its own way, and trains the same rungs in the same order."""
    expected, measure = table(), table()
    search(plan(), expected)
    claims = _Claimed(set())
    study = _worker(optuna.storages.InMemoryStorage(), plan())
    study.sampler = CkaClusterSampler(plan(), claims=claims)
    study.optimize(Objective(plan(), measure))
    assert measure.runs == expected.runs
    assert claims.held == {}


def test_a_competitor_makes_the_claim_be_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain worker has assigned itself the pair, without a claim, before this one's check."""
    storage, measure = optuna.storages.InMemoryStorage(), table()
    objective = Objective(plan(), measure)
    first = _Overtaken(lambda: _worker(storage, plan()).optimize(objective, n_trials=1))
    monkeypatch.setattr("mordal_optuna.search.sampler.next_jobs", first)
    claims, study = _Claimed(set()), _worker(storage, plan())
    study.sampler = CkaClusterSampler(plan(), claims=claims)
    trial = study.ask(PairSpace(ENCODERS, LLMS).distributions)
    assert [pair for pair, _ in measure.runs] == [MEDOIDS[0]]
    assert claims.held == {trial.number: Candidate(**trial.params)}
    assert Candidate(**trial.params) in MEDOIDS[1:]


def _in_order(sampler: CkaClusterSampler, chosen: Plan) -> tuple[list[Candidate], History]:
    """The pairs in the order in which one worker begins them, and the history at the end."""
    study = _worker(optuna.storages.InMemoryStorage(), chosen)
    study.sampler = sampler
    study.optimize(Objective(chosen, table()))
    pairs = [pair for trial in study.trials if (pair := candidate_of(trial))]
    return pairs, study_history(study)


@pytest.mark.parametrize("method", ["grid", "joint", "mordal", "all-at-ratio"])
def test_keeping_the_llm_changes_the_order_and_not_the_result(method: str) -> None:
    chosen = build_plan(settings(method), tree(), FULL)
    plain, history = _in_order(CkaClusterSampler(chosen), chosen)
    kept, same = _in_order(CkaClusterSampler(chosen, keep_llm=True), chosen)
    assert believed(chosen.ranking(same)) == believed(chosen.ranking(history))
    assert scores(same) == scores(history)
    if method == "grid":
        assert changes(kept) == len(LLMS) - 1 < changes(plain)


def scores(history: History) -> dict[Candidate, list[int]]:
    """The rungs of every pair; the number of its trials may depend on the order."""
    return {c: [m.samples for m in r.measurements] for c, r in history.candidates.items()}


def changes(pairs: list[Candidate]) -> int:
    """How often the LLM is another one than that of the pair before."""
    return sum(a.llm != b.llm for a, b in pairwise(pairs))


def test_under_a_budget_the_order_of_the_plan_stays() -> None:
    chosen = build_plan(settings("grid", device_hours=100.0), tree(), FULL)
    plain, _ = _in_order(CkaClusterSampler(chosen), chosen)
    kept, _ = _in_order(CkaClusterSampler(chosen, keep_llm=True), chosen)
    assert kept == plain
