"""The status of a study in every state, from its database alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mordal_optuna.config import read_study
from mordal_optuna.driver import study_plan
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import (
    CONFIG,
    FAILURE,
    FULL_SAMPLES,
    INTERRUPTED,
    PAIR,
    STOPPED_BECAUSE,
    store_value,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study import status as module
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.presence import Presence, alive
from mordal_optuna.study.result import Representation, read_result, store_representation
from mordal_optuna.study.status import read_status
from tests.cli.calls import study_file
from tests.search.synthetic import Table
from tests.study.test_presence import doings, soon

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings

FULL = 65536


@pytest.fixture
def settings(tmp_path: Path) -> StudySettings:
    """Two encoders and two LLMs; its database does not exist."""
    (tmp_path / "run").mkdir()
    return read_study(study_file(tmp_path))


def begun(settings: StudySettings) -> optuna.Study:
    """The study as `mordal run` begins it, its models not compared."""
    storage = study_storage(settings.storage_url())
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    store_value(study, CONFIG, settings.fingerprint())
    study.set_user_attr(FULL_SAMPLES, FULL)
    return study


def compared(settings: StudySettings) -> optuna.Study:
    study = begun(settings)
    pool = settings.models()
    tree = ClusterTree.flat(pool.encoder_names, pool.llm_names)
    store_representation(
        study, Representation((), {}, tree, {"features": 7.0, "similarity": 1.0, "warmup": 2.0})
    )
    return study


def searched(study: optuna.Study, settings: StudySettings, trials: int) -> None:
    plan = study_plan(settings, FULL, None)
    study.sampler, study.pruner = CkaClusterSampler(plan, seed=0), LogLinearHalvingPruner(plan)
    levels = {c: 0.2 + 0.02 * n for n, c in enumerate(settings.models().candidates)}
    study.optimize(Objective(plan, Table(levels)), n_trials=trials)


def test_a_study_that_has_not_begun(settings: StudySettings) -> None:
    """No file is created for it."""
    found = read_status(settings)
    assert (found.state, found.pairs, found.workers) == ("not begun", 4, ())
    assert not (settings.workdir / "study.db").exists()
    optuna.create_study(study_name="another", storage=settings.storage_url())
    assert read_status(settings).state == "not begun"


def test_a_study_that_compares_its_models(settings: StudySettings) -> None:
    begun(settings)
    with Presence(settings.storage_url(), "s") as presence:
        presence.does("comparing models: clip")
        soon(lambda: doings(settings.storage_url()) == ["comparing models: clip"])
        found = read_status(settings)
    assert found.state == "comparing"
    assert [worker.doing for worker in found.workers] == ["comparing models: clip"]
    assert found.warnings == ()
    assert "no worker is alive" in read_status(settings).warnings[0]


def test_a_study_that_is_searched(settings: StudySettings) -> None:
    """Its figures are those of `mordal run`; what is left is spent by the rest of the search."""
    study = compared(settings)
    searched(study, settings, 3)
    found = read_status(settings)
    plan = study_plan(settings, FULL, None)
    result = read_result(study, plan, method="mordal", task="t")
    assert (found.state, found.stage, found.rounds) == ("searching", "intra-cluster", None)
    assert found.leader is not None
    assert found.leader.candidate == result.winner.candidate
    assert found.leader.measured == result.measured
    assert found.leader.estimate.low == result.winner.low
    assert (found.leader.basis, found.leader.final) == ("pool", False)
    values = [e.value for e in found.ranking]
    assert values == sorted(values, reverse=True)
    assert dict(zip([e.candidate for e in found.ranking], values, strict=True)) == {
        e.candidate: e.value for e in result.ranking
    }
    assert found.costs == result.costs
    assert sum(rung.scored for rung in found.rungs) == sum(map(len, result.curves.values()))
    assert (found.left_by, found.seconds_to_end) == ("plan", None)
    searched(study, settings, 100)
    done = read_status(settings)
    assert done.state == "ended"
    assert done.reason == study.user_attrs[STOPPED_BECAUSE]
    assert found.left == pytest.approx(done.costs.total - found.costs.total, rel=0.2)
    assert done.leader is not None
    assert done.leader.final
    assert done.is_over


def test_the_expected_end_counts_the_devices_at_work(settings: StudySettings) -> None:
    searched(compared(settings), settings, 3)
    with Presence(settings.storage_url(), "s", devices=4):
        soon(lambda: alive(settings.storage_url(), "s"))
        found = read_status(settings)
    assert found.left is not None
    assert found.seconds_to_end == found.left / 4


def test_a_large_search_is_read_without_fits(
    settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same leader, with the interval of its own scores."""
    searched(compared(settings), settings, 3)
    small = read_status(settings)
    monkeypatch.setattr(module, "_FITTED", 0)
    large = read_status(settings)
    assert large.leader is not None
    assert small.leader is not None
    assert large.leader.candidate == small.leader.candidate
    assert large.leader.basis == "own scores"
    assert (large.left, large.stage) == (None, None)
    assert large.costs == small.costs


def test_failures_and_interruptions_are_listed(settings: StudySettings) -> None:
    """Three candidates without a common model that fail alike make the study fail."""
    study = compared(settings)

    def fail(pair: list[str], **attributes: str) -> None:
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={PAIR: pair, **attributes}))

    fail(["clip", "qwen"], **{FAILURE: "the loss is nan"})
    fail(["dino", "qwen"], **{INTERRUPTED: "its worker x has ended"})
    found = read_status(settings)
    assert found.state == "searching"
    failed = found.failures[Candidate("clip", "qwen")]
    assert (failed.attempts, failed.given_up, failed.reason) == (1, False, "the loss is nan")
    assert found.interruptions == ((Candidate("dino", "qwen"), "its worker x has ended"),)
    for pair in (["dino", "llama"], ["dino", "qwen"]):
        fail(pair, **{FAILURE: "the loss is nan"})
    found = read_status(settings)
    assert found.state == "failed"
    assert "the loss is nan" in (found.reason or "")
