"""The method `joint`: start, rounds, stop rules, budget, and their independence of the workers."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.replay.run import method_settings, replay
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.budget import Budget
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job
from mordal_optuna.search.joint.design import balanced_start
from mordal_optuna.search.joint.rules import Rounds, Stop
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.joint import JointPlan
from mordal_optuna.search.plan import next_jobs
from tests.search.synthetic import FULL, settings, tree

RUNGS = tuple(FULL >> k for k in range(5, -1, -1))
NAMES = [f"v{n}" for n in range(4)], [f"m{n}" for n in range(5)]
TREE = ClusterTree.flat(*NAMES)


def plan(**options: object) -> JointPlan:
    return JointPlan(TREE, RUNGS, FULL, **{"stop": Stop(None), **options})  # type: ignore[arg-type]


def score(candidate: Candidate, samples: int) -> Measurement:
    """v0 and m0 are the best, and errors fall with the samples."""
    i, j = int(candidate.vision_encoder[1:]), int(candidate.llm[1:])
    error = (0.25 + 0.04 * i + 0.03 * j) * (samples / FULL) ** -0.2
    return Measurement(samples, 1 - error, 0.01, 300, samples / 100, 1.0)


class Run:
    """A search in steps: measures jobs in any order."""

    def __init__(self, chosen: JointPlan) -> None:
        self.plan = chosen
        self.records: dict[Candidate, CandidateHistory] = {}
        self.order: list[tuple[Candidate, int]] = []

    @property
    def history(self) -> History:
        """All measurements so far."""
        return History(dict(sorted(self.records.items())))

    def measure(self, candidate: Candidate, samples: int) -> None:
        """Add a score."""
        before = self.records.get(candidate, CandidateHistory())
        rows = sorted((*before.measurements, score(candidate, samples)), key=lambda m: m.samples)
        self.records[candidate] = replace(before, measurements=tuple(rows))
        self.order.append((candidate, samples))

    def to_the_end(self, *, backwards: bool = False, most: int = 200) -> Finished:
        """Measure the first wanted job, or the last one, until the plan is finished."""
        for _ in range(most):
            jobs = self.plan.jobs(self.history)
            if isinstance(jobs, Finished):
                return jobs
            job = jobs[-1 if backwards else 0]
            self.measure(job.candidate, job.samples)
        raise AssertionError("the search does not end")


def started(chosen: JointPlan) -> Run:
    run = Run(chosen)
    for job in list(chosen.jobs(run.history)):  # type: ignore[arg-type]
        run.measure(job.candidate, job.samples)
    return run


def test_the_start_has_every_model_in_two_pairs_at_an_eighth() -> None:
    jobs = plan().jobs(History())
    assert not isinstance(jobs, Finished)
    assert {job.samples for job in jobs} == {FULL // 8}
    assert len(jobs) == 10
    for side, names in enumerate(NAMES):
        assert {job.candidate[side] for job in jobs} == set(names)


def test_rounds_have_the_wanted_size_and_go_beyond_the_start() -> None:
    run = started(plan(rounds=Rounds(3, 0)))
    jobs = run.plan.jobs(run.history)
    assert not isinstance(jobs, Finished)
    assert len({job.candidate for job in jobs}) == 3
    assert all(job.samples > run.history.of(job.candidate).top for job in jobs)


def test_with_a_lag_two_rounds_are_open_at_once() -> None:
    run = started(plan(rounds=Rounds(3, 1)))
    first = run.plan.jobs(run.history)
    assert not isinstance(first, Finished)
    rounds = Run(plan(rounds=Rounds(3, 0)))
    rounds.records = dict(run.records)
    alone = rounds.plan.jobs(rounds.history)
    assert list(alone) == list(first[: len(alone)])  # type: ignore[arg-type]
    assert len(first) > len(alone)  # type: ignore[arg-type]
    run.measure(first[0].candidate, first[0].samples)
    then = run.plan.jobs(run.history)
    assert list(then) == list(first[1:])  # the next round waits for the whole first one


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_the_order_in_which_jobs_end_changes_nothing(lag: int) -> None:
    budget = Budget(device_hours=2.5 * FULL / 100 / 3600)
    runs = [Run(plan(rounds=Rounds(3, lag), budget=budget)) for _ in range(2)]
    for run, backwards in zip(runs, (False, True), strict=True):
        run.to_the_end(backwards=backwards)
    assert runs[0].history == runs[1].history
    assert runs[0].order != runs[1].order


def test_the_budget_is_spent_and_not_exceeded() -> None:
    seconds = 3.0 * FULL / 100
    run = Run(plan(budget=Budget(device_hours=seconds / 3600)))
    end = run.to_the_end()
    assert end.reason.startswith("budget spent")
    spent = run.history.seconds
    assert 0.8 * seconds < spent <= 1.05 * seconds


def test_a_budget_below_the_start_ends_the_start() -> None:
    run = Run(plan(budget=Budget(device_hours=0.3 * FULL / 100 / 3600)))
    assert run.to_the_end().reason.startswith("budget spent")
    assert len(run.order) < 10


def test_the_search_ends_when_its_expected_regret_is_small_or_the_leader_is_likely() -> None:
    easy, strict = (Run(plan(stop=Stop(regret))) for regret in (0.05, 0.002))
    assert "expected regret" in easy.to_the_end().reason
    strict.to_the_end()
    assert len(easy.order) < len(strict.order)
    likely = Run(plan(stop=Stop(None, 0.8)))
    assert "probability" in likely.to_the_end().reason
    assert likely.plan.ranker.posterior(likely.history).best.max() > 0.75


def test_the_winner_is_the_best_estimate_among_measured_pairs() -> None:
    run = Run(plan(stop=Stop(0.01)))
    assert run.plan.winner(run.history) is None
    run.to_the_end()
    assert run.plan.winner(run.history) == Candidate("v0", "m0")
    assert run.history.of(Candidate("v0", "m0")).measurements


def test_without_limits_every_pair_is_trained_fully() -> None:
    run = Run(plan(rounds=Rounds(8, 1)))
    assert "pool exhausted" in run.to_the_end().reason
    assert all(run.history.of(c).at(FULL) for c in TREE.candidates)


def test_a_pair_that_fails_is_left_out_and_rounds_go_on() -> None:
    run = started(plan(rounds=Rounds(2, 0)))
    jobs = run.plan.jobs(run.history)
    assert not isinstance(jobs, Finished)
    broken = jobs[0].candidate
    before = run.records.get(broken, CandidateHistory())
    run.records[broken] = CandidateHistory(before.measurements, failures=2, failure="broken")
    run.measure(jobs[1].candidate, jobs[1].samples)
    following = run.plan.jobs(run.history)
    assert not isinstance(following, Finished)
    assert following
    assert broken not in {job.candidate for job in following}


def test_a_pool_in_which_nothing_can_be_trained_ends_without_an_answer() -> None:
    records = {c: CandidateHistory(failures=2, failure="broken") for c in TREE.candidates}
    end = plan().jobs(History(records))
    assert isinstance(end, Finished)
    assert end.failed


def test_scores_that_no_round_asked_for_change_no_choice() -> None:
    runs = [started(plan()) for _ in range(2)]
    other = next(c for c in TREE.candidates if c not in runs[0].records)
    runs[1].measure(other, RUNGS[0])
    first, second = (list(run.plan.jobs(run.history)) for run in runs)  # type: ignore[arg-type]
    # The other's score may be one that a round asks for; then it is not measured again.
    assert [job for job in first if job != Job(other, RUNGS[0], "joint")] == second


def test_a_copy_decides_the_same() -> None:
    run = started(plan())
    copy = pickle.loads(pickle.dumps(run.plan))  # noqa: S301
    assert copy.jobs(run.history) == run.plan.jobs(run.history)


def test_study_files_build_it() -> None:
    built = build_plan(settings("joint", start_pairs=1, max_ratio=1.0), tree(), FULL)
    jobs = built.jobs(History())
    assert not isinstance(jobs, Finished)
    assert len(jobs) == 3


def test_any_number_of_workers_ends_with_the_same_ranking() -> None:
    """On the simulated clock, through sampler, pruner and study."""
    grid = synthetic_grid(3)
    options = method_settings("joint")
    runs = [
        replay(grid, "joint", settings=options, budget=2.0, workers=workers)
        for workers in (1, 3, 8)
    ]
    assert runs[0].ranking == runs[1].ranking == runs[2].ranking
    assert runs[2].elapsed_seconds < runs[0].elapsed_seconds


def grown(ratio: int = 8, **options: object) -> tuple[Run, set[Candidate]]:
    """A search of the pool without v4; the carried pairs are those of a start without it."""
    old = balanced_start(NAMES[0], NAMES[1], 2)
    bigger = ClusterTree.flat([*NAMES[0], "v4"], NAMES[1])
    run = Run(JointPlan(bigger, RUNGS, FULL, **{"stop": Stop(None), **options}))  # type: ignore[arg-type]
    for candidate in old:
        free = replace(score(candidate, FULL // ratio), train_spent=0.0, eval_spent=0.0)
        carried = frozenset([FULL // ratio])
        run.records[candidate] = CandidateHistory((free,), carried=carried)
    return run, set(old)


def test_a_grown_pool_starts_with_the_pairs_that_its_new_model_needs() -> None:
    run, old = grown()
    jobs = run.plan.jobs(run.history)
    assert not isinstance(jobs, Finished)
    assert [job.candidate.vision_encoder for job in jobs] == ["v4", "v4"]
    assert {job.samples for job in jobs} == {FULL // 8}
    # Without the mark they are scores that no round asked for, and the whole start is wanted.
    unmarked = {c: replace(r, carried=frozenset()) for c, r in run.history.candidates.items()}
    whole = run.plan.jobs(History(unmarked))
    assert not isinstance(whole, Finished)
    assert len({job.candidate for job in whole} | old) > len(old) + 2


def test_pairs_that_were_carried_below_the_start_do_not_count_for_it() -> None:
    run, _ = grown(ratio=16)
    jobs = run.plan.jobs(run.history)
    assert not isinstance(jobs, Finished)
    assert len({job.candidate for job in jobs}) == 10


def test_rounds_of_a_grown_pool_go_on_from_the_carried_rungs() -> None:
    run, old = grown(rounds=Rounds(6, 0))
    for job in list(run.plan.jobs(run.history)):  # type: ignore[arg-type]
        run.measure(job.candidate, job.samples)
    jobs = run.plan.jobs(run.history)
    assert not isinstance(jobs, Finished)
    assert any(job.candidate in old for job in jobs)
    assert all(job.samples > run.history.of(job.candidate).top for job in jobs)
    # The choice depends on the carried scores.
    other = History(
        {
            c: replace(r, measurements=(replace(r.measurements[0], score=0.99 - 0.2 * (n % 4)),))
            if c in old
            else r
            for n, (c, r) in enumerate(run.history.candidates.items())
        }
    )
    assert run.plan.jobs(other) != jobs


@pytest.mark.parametrize("lag", [0, 1])
def test_the_order_in_which_jobs_of_a_grown_pool_end_changes_nothing(lag: int) -> None:
    budget = Budget(device_hours=1.5 * FULL / 100 / 3600)
    runs = [grown(rounds=Rounds(3, lag), budget=budget)[0] for _ in range(2)]
    for run, backwards in zip(runs, (False, True), strict=True):
        run.to_the_end(backwards=backwards)
    assert runs[0].history == runs[1].history
    assert runs[0].order != runs[1].order


def test_what_was_carried_over_takes_nothing_of_the_budget() -> None:
    """The carried scores cost nearly as much as the whole budget."""
    seconds = 1.5 * FULL / 100
    run, _ = grown(budget=Budget(device_hours=seconds / 3600))
    before = sum(m.train_seconds for r in run.records.values() for m in r.measurements)
    assert before > 0.8 * seconds
    assert run.to_the_end().reason.startswith("budget spent")
    spent = 0.0
    for candidate, samples in run.order:
        record = run.history.of(candidate)
        below = max((m.samples for m in record.measurements if m.samples < samples), default=0)
        spent += (samples - below) / 100 + 1.0
    assert 0.8 * seconds < spent <= 1.1 * seconds  # expected costs are rounded, by up to 9 %


def start_jobs() -> list[Job]:
    jobs = plan().jobs(History({}))
    assert not isinstance(jobs, Finished)
    return list(jobs)


def test_all_workers_begin_with_the_start_before_any_cost_is_known() -> None:
    """Its jobs are certain in any case, unless comparing models has spent the budget."""
    first, second = (job.candidate for job in start_jobs()[:2])
    begun = History({first: CandidateHistory(running=True)})
    limited = plan(budget=Budget(device_hours=1.0))
    assert limited.has_room(begun)
    assert second in [job.candidate for job in next_jobs(limited, begun, 7)]
    assert not plan(budget=Budget(device_hours=1.0, spent_seconds=3600.0)).has_room(begun)


def test_jobs_of_the_start_wait_for_room_once_a_cost_is_known() -> None:
    """The first score took half of the budget, and another such job runs."""
    first, second = start_jobs()[:2]
    measured = score(first.candidate, first.samples)
    running = CandidateHistory(running=True, granted=second.samples)
    known = History({first.candidate: CandidateHistory((measured,)), second.candidate: running})
    hours = 2 * (measured.train_seconds + measured.eval_seconds) / 3600
    assert not plan(budget=Budget(device_hours=0.99 * hours)).has_room(known)
    assert plan(budget=Budget(device_hours=1.01 * hours)).has_room(known)
