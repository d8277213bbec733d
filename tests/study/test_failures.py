"""Failures: a common cause outside the candidates is detected, and failures can be cleared."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import (
    FAILURE,
    FURTHER_SCORES,
    INTERRUPTED,
    PAIR,
    RETRY,
    RUNGS,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.failures import clear_failures, common_failure, newest_failure, normalized

A, B, C = Candidate("clip", "llama"), Candidate("siglip", "qwen"), Candidate("dino", "phi")
FULL = "training after 8 samples: RuntimeError: no space for {} in /tmp/{}7"


class Trials:
    """A study to which each method adds a trial."""

    def __init__(self) -> None:
        self.study = optuna.create_study(study_name="told", direction="maximize")

    def fail(self, candidate: Candidate, reason: str = FULL, **attributes: object) -> Trials:
        """A failure; its reason names the encoder."""
        name = candidate.vision_encoder
        return self._add(candidate, {FAILURE: reason.format(name, name)} | attributes)

    def score(self, candidate: Candidate) -> Trials:
        """A new score."""
        return self._add(candidate, {RUNGS: {"8": {}}})

    def _add(self, candidate: Candidate, attributes: dict[str, object]) -> Trials:
        pair = [candidate.vision_encoder, candidate.llm]
        state = TrialState.FAIL if FAILURE in attributes else TrialState.PRUNED
        self.study.add_trial(
            optuna.trial.create_trial(state=state, user_attrs={PAIR: pair} | attributes)
        )
        return self


def test_three_candidates_in_a_row_fail_for_a_similar_reason() -> None:
    told = Trials().fail(A).fail(A).fail(B)
    assert common_failure(told.study.trials) is None
    found = common_failure(told.fail(C).study.trials)
    assert found is not None
    assert found.candidates == (C, B, A)
    assert found.reason == FULL.format("dino", "dino")


def test_a_score_in_between_rules_out_a_common_cause() -> None:
    assert common_failure(Trials().fail(A).score(A).fail(B).fail(C).study.trials) is None
    assert common_failure(Trials().score(A).fail(A).fail(B).fail(C).study.trials) is not None


def test_another_reason_ends_the_row() -> None:
    trials = Trials().fail(A).fail(B, "the loss is nan").fail(C).study.trials
    assert common_failure(trials) is None


def test_an_interruption_is_neither_a_failure_nor_a_score() -> None:
    outage = {INTERRUPTED: "outage"}
    told = Trials().fail(A).fail(B).fail(C, **outage)
    assert common_failure(told.study.trials) is None
    assert common_failure(told.fail(C).study.trials) is not None


@pytest.mark.parametrize(
    "candidates",
    [
        [Candidate("clip", "llama"), Candidate("clip", "qwen"), Candidate("clip", "phi")],
        [Candidate("clip", "phi"), Candidate("siglip", "phi"), Candidate("dino", "phi")],
    ],
)
def test_a_model_that_all_failures_share_may_be_at_fault(candidates: list[Candidate]) -> None:
    told = Trials()
    for candidate in candidates:
        told.fail(candidate)
    assert common_failure(told.study.trials) is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("model 'clip': lacks 3 weights", "model 'dino': lacks 12 weights", True),
        ("cannot read /a/b.bin (cuda:0)", "cannot read /c (cuda:11)", True),
        ("the loss is nan", "the loss is inf", False),
        ("training after 8 samples: x", "evaluation on 'ai2d': x", False),
    ],
)
def test_names_paths_and_numbers_are_ignored_in_reasons(
    one: str,
    other: str,
    alike: bool,  # noqa: FBT001
) -> None:
    assert (normalized(one, A) == normalized(other, C)) is alike


def test_a_short_model_name_is_replaced_only_as_a_whole_word() -> None:
    assert normalized("a: a mean failure", Candidate("a", "b")) == "*: * mean failure"


def test_the_newest_failure_is_found() -> None:
    told = Trials().fail(A).fail(B, "the loss is nan").score(C)
    assert newest_failure(told.study.trials) == (B, "the loss is nan")
    assert newest_failure([]) is None


def test_clearing_allows_another_try_and_reopens_an_ended_study() -> None:
    """The stored end of the search is cleared as well; both readers of the history agree."""
    told, reader = Trials().fail(A).fail(A).fail(B).fail(C), HistoryReader()
    study = told.study
    study.set_user_attr(STOPPED_BECAUSE, "pool exhausted")
    study.set_user_attr(FURTHER_SCORES, [])
    assert study_history(study, reader=reader).of(A).failures == 2
    assert clear_failures(study) == {c: FULL.format(*[c.vision_encoder] * 2) for c in (A, B, C)}
    for found in (study_history(study, reader=reader), study_history(study)):
        assert (found.of(A).failures, found.of(B).failures) == (0, 0)
    assert study.user_attrs[STOPPED_BECAUSE] is None
    assert study.user_attrs[FURTHER_SCORES] is None
    assert study.trials[-1].user_attrs == {RETRY: "all"}
    assert study_history(told.fail(A).study, reader=reader).of(A).failures == 1
    assert common_failure(told.fail(B).study.trials) is None, "a row begins anew"


def test_only_chosen_candidates_are_cleared() -> None:
    study = Trials().fail(A).fail(B).study
    running = study.ask()
    assert list(clear_failures(study, [A])) == [A]
    found = study_history(study)
    assert (found.of(A).failures, found.of(B).failures) == (0, 1)
    study.tell(running, state=TrialState.FAIL)
    assert study_history(study).of(A).failures == 0


def test_clearing_without_a_failure_is_refused_and_changes_nothing() -> None:
    study = Trials().score(A).study
    study.set_user_attr(STOPPED_BECAUSE, "pool exhausted")
    with pytest.raises(SearchError, match="study 'told' has no failed candidate"):
        clear_failures(study)
    study = Trials().score(A).fail(B).study
    with pytest.raises(SearchError, match="'clip [+] llama' has not failed; those are 'siglip"):
        clear_failures(study, [A])
    assert RETRY not in study.trials[-1].user_attrs
