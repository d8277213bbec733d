"""Plans over a fixed list: which candidates are trained, lead, or become finalists."""

from __future__ import annotations

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.jobs import Finished, Job, jobs_of
from mordal_optuna.search.methods.listed import ListPlan
from mordal_optuna.search.plan import ATTEMPTS
from mordal_optuna.search.ranking import Ranker
from tests.search.synthetic import FULL, RUNGS, measured, table, tree

LISTED = (Candidate("dino", "qwen"), Candidate("clip", "llama"))


def listed(*, untrained_finalists: bool = False) -> ListPlan:
    return ListPlan(
        tree(),
        LISTED,
        RUNGS,
        FULL,
        Ranker(tree(), FULL),
        stage="list",
        untrained_finalists=untrained_finalists,
    )


def test_the_listed_candidates_climb_rung_by_rung_in_the_order_of_the_list() -> None:
    plan = listed()
    assert plan.jobs(History()) == [Job(c, RUNGS[0], "list") for c in LISTED]
    scored = measured({LISTED[0]: RUNGS[0]}, table())
    assert plan.jobs(scored) == [
        Job(LISTED[0], RUNGS[1], "list"),
        Job(LISTED[1], RUNGS[0], "list"),
    ]


def test_candidates_outside_the_list_and_failed_ones_get_no_job() -> None:
    failed = History({LISTED[0]: CandidateHistory(failures=ATTEMPTS)})
    jobs = listed().jobs(failed)
    assert not isinstance(jobs, Finished)
    assert {job.candidate for job in jobs} == {LISTED[1]}
    assert jobs_of(jobs, LISTED[0]) == jobs_of(jobs, Candidate("clip", "qwen")) == ()


@pytest.mark.parametrize("untrained", [False, True])
def test_untrained_candidates_lead_only_if_that_is_asked_for(untrained: bool) -> None:
    """Clip and qwen are good in the trained pairs, so clip + qwen has the best estimate."""
    good, bad = (CandidateHistory((Measurement(FULL, s, 0.01, 500),)) for s in (0.8, 0.2))
    history = History(
        {
            Candidate("clip", "llama"): good,
            Candidate("siglip", "qwen"): good,
            Candidate("siglip", "mistral"): bad,
            Candidate("dino", "llama"): bad,
        }
    )
    plan = listed(untrained_finalists=untrained)
    eligible = {e.candidate for e in plan.eligible(history)}
    assert (plan.leader(history) in history.candidates) is not untrained
    assert eligible == (set(tree().candidates) if untrained else set(history.candidates))
    assert plan.leader(History()) is None
