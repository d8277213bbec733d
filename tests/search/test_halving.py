"""Halving: its jobs agree with a naive implementation, in random pools at random moments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mordal_optuna.pool import Candidate
from mordal_optuna.search.clusters import CandidateCluster, ClusterTree, Group
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job, Wait
from mordal_optuna.search.methods.grid import grid_plan
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.plan import ATTEMPTS, may_continue, next_job, wanted_rung

if TYPE_CHECKING:
    from mordal_optuna.search.plan import Plan

RUNGS, FULL = (100, 200, 400), 3200


@dataclass
class Pool:
    """A clustered pool with the score of every candidate at every rung.

    Attributes:
        tree: the pool.
        plan: halves it.
        eta: of the plan.
        top: K of the plan.
        points: p of the plan.
        scores: by candidate, one a rung; ties are common.
    """

    tree: ClusterTree
    plan: MordalPlan
    eta: int
    top: int
    points: int
    scores: dict[Candidate, list[float]]

    def history(
        self,
        rungs: dict[Candidate, int],
        failed: frozenset[Candidate] = frozenset(),
        running: frozenset[Candidate] = frozenset(),
    ) -> History:
        """What is known once each candidate was scored on so many rungs."""
        return History(
            {
                c: CandidateHistory(
                    tuple(
                        Measurement(rung, score, 0.01, 100)
                        for rung, score in zip(RUNGS[:count], self.scores[c], strict=False)
                    ),
                    failures=ATTEMPTS if c in failed else 0,
                    running=c in running,
                )
                for c, count in rungs.items()
            }
        )


def draw_pool(rng: np.random.Generator) -> Pool:
    """A pool of up to 6 x 6, each side cut into groups at random."""
    encoders = [f"v{n}" for n in range(rng.integers(1, 7))]
    llms = [f"m{n}" for n in range(rng.integers(1, 7))]
    groups = cut(encoders, rng)
    tree = ClusterTree(
        tuple(encoders),
        tuple(llms),
        tuple(CandidateCluster(v, m) for v in groups for m in cut(llms, rng)),
    )
    eta, top, points = (int(n) for n in rng.integers((2, 1, 2), (4, 5, 4)))
    plan = MordalPlan(tree, RUNGS, FULL, eta=eta, top_clusters=top, fit_points=points)
    scores = {c: (rng.integers(0, 9, len(RUNGS)) / 10).tolist() for c in tree.candidates}
    return Pool(tree, plan, eta, top, points, scores)


def cut(names: list[str], rng: np.random.Generator) -> list[Group]:
    """Names in neighbouring groups."""
    ends = [n for n in range(1, len(names)) if rng.random() < 0.7]
    return [Group(tuple(names[a:b])) for a, b in zip([0, *ends], [*ends, len(names)], strict=True)]


def read_plainly(pool: Pool, history: History) -> list[Job]:
    """The jobs before the finish as the rules say it, cluster by cluster and list by list."""
    curve = RUNGS[-pool.points :]

    def usable(candidate: Candidate) -> bool:
        return history.of(candidate).failures < ATTEMPTS

    def inside(clusters: list[tuple[CandidateCluster, Candidate]]) -> list[Job]:
        jobs = []
        for cluster, _ in clusters:
            for candidate in filter(usable, cluster.candidates):
                missing = [rung for rung in curve if not history.of(candidate).at(rung)]
                jobs += [Job(candidate, rung, "intra-cluster") for rung in missing[:1]]
        return jobs

    left = [(c, next(filter(usable, c.candidates), None)) for c in pool.tree.clusters]
    left = [(c, stands) for c, stands in left if stands]
    for number, rung in enumerate(RUNGS):
        if len(left) <= pool.top:
            break
        places = max(pool.top, math.ceil(len(left) / pool.eta))
        scored = [pair for pair in left if history.of(pair[1]).at(rung)]
        scored.sort(key=lambda pair: -history.of(pair[1]).at(rung).score)
        lacking = [pair for pair in left if not history.of(pair[1]).at(rung)]
        if lacking:
            jobs = [Job(stands, rung, "inter-cluster") for _, stands in lacking]
            sure = scored[: max(places - len(lacking), 0)]
            if places > pool.top and rung != RUNGS[-1]:
                above = RUNGS[number + 1]
                waiting = [stands for _, stands in sure if not history.of(stands).at(above)]
                return jobs + [Job(stands, above, "inter-cluster") for stands in waiting]
            return jobs + (inside(sure) if places == pool.top else [])
        left = scored[:places]
    return inside(left[: pool.top])


def whole_search(pool: Pool) -> dict[Candidate, int]:
    """How many rungs each candidate gets in the undisturbed search of one worker."""
    rungs: dict[Candidate, int] = {}
    while jobs := read_plainly(pool, pool.history(rungs)):
        rungs[jobs[0].candidate] = RUNGS.index(jobs[0].samples) + 1
    return rungs


def draw_moment(pool: Pool, rng: np.random.Generator) -> History:
    """Any candidates scored on any number of rungs, some failed, some running.

    Now and then one rung or two are complete.
    """
    least = int(rng.choice([0, 0, 0, 1, 2]))
    some = {
        c: max(least, int(rng.integers(0, len(RUNGS) + 1)) if rng.random() < 0.6 else 0)
        for c in pool.tree.candidates
        if least or rng.random() < 0.8
    }
    share = rng.choice([0.0, 0.1, 0.5])
    failed, running = (frozenset(c for c in some if rng.random() < share) for _ in range(2))
    return pool.history(some, failed, running)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_jobs_are_those_of_a_plain_reading_of_the_rules(seed: int) -> None:
    """The same jobs in the same order, whichever way they are asked for."""
    rng = np.random.default_rng(seed)
    pool = draw_pool(rng)
    history = draw_moment(pool, rng)
    expected, found = read_plainly(pool, history), pool.plan.jobs(history)
    if not expected:
        assert isinstance(found, Finished) or {job.stage for job in found} == {"finish"}
        return
    assert found == expected
    assert len(found) == len(expected)
    assert (found[0], found[-1], found[1:3]) == (expected[0], expected[-1], expected[1:3])
    check_questions(pool.plan, history, expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_jobs_of_a_list_are_every_missing_rung_of_everyone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = draw_pool(rng)
    history, plan = draw_moment(pool, rng), grid_plan(pool.tree, (*RUNGS, FULL))
    expected = []
    for candidate in pool.tree.candidates:
        known = history.of(candidate)
        missing = [rung for rung in plan.rungs if not known.at(rung)]
        if known.failures < ATTEMPTS and missing:
            expected.append(Job(candidate, missing[0], "grid"))
    if expected:
        assert plan.jobs(history) == expected
        check_questions(plan, history, expected)


def check_questions(plan: Plan, history: History, jobs: list[Job]) -> None:
    """What sampler, pruner and objective ask is answered as by looking through the whole list."""
    free = [job for job in jobs if not history.of(job.candidate).running]
    assert next_job(plan, history) == (free[0] if free else Wait())
    first, last = jobs[0].candidate, jobs[-1].candidate
    done = next((c for c in history.candidates if all(j.candidate != c for j in jobs)), first)
    for candidate in (first, last, done, Candidate("of", "another pool")):
        for top in (0, *RUNGS):
            own = [j.samples for j in jobs if j.candidate == candidate and j.samples > top]
            assert may_continue(plan, history, candidate, top) == bool(own)
            assert wanted_rung(plan, history, candidate, top) == min(own, default=None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nothing_is_listed_that_one_worker_would_not_run(seed: int) -> None:
    """However far several workers have come, in whatever order."""
    rng = np.random.default_rng(seed)
    pool = draw_pool(rng)
    run = whole_search(pool)
    some = {c: int(rng.integers(0, count + 1)) for c, count in run.items()}
    jobs = pool.plan.jobs(pool.history(some))
    assert not isinstance(jobs, Finished)
    for job in jobs:
        if job.stage != "finish":
            assert RUNGS.index(job.samples) < run[job.candidate], job
