"""Each warning is raised by its own cause and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import FACTS as FACTS_KEY
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.tasks import weighted_mean
from mordal_optuna.study.result import read_result
from mordal_optuna.study.warnings import (
    StudyFacts,
    above_chance,
    at_chance,
    result_warnings,
    store_facts,
    stored_facts,
    warnings_before_training,
)
from tests.search.synthetic import plan, search, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    Curves = Mapping[Candidate, tuple[Measurement, ...]]

FIRST, SECOND = Candidate("clip", "llama"), Candidate("dino", "qwen")
FACTS = StudyFacts(chance=0.25, warmup_samples=64, batch_size=16, left_out=0.0)
FULL = 4096


def point(samples: int, score: float, nll: float | None = None, **shares: float) -> Measurement:
    """A score of 400 documents."""
    noise = (score * (1 - score) / 400) ** 0.5
    spread = None if nll is None else 0.05
    return Measurement(samples, score, noise, 400, nll=nll, nll_stderr=spread, **shares)


def healthy() -> dict[Candidate, tuple[Measurement, ...]]:
    """Two candidates that learn, far above chance."""
    return {
        FIRST: (point(128, 0.4, 1.5), point(256, 0.5, 1.3)),
        SECOND: (point(128, 0.38, 1.6), point(256, 0.45, 1.5)),
    }


def told(curves: Curves, facts: StudyFacts | None = FACTS, full: int = FULL) -> tuple[str, ...]:
    return result_warnings(curves, FIRST, facts, full)


def test_a_healthy_study_has_no_warnings() -> None:
    assert told(healthy()) == ()
    assert told(healthy(), None) == ()
    assert warnings_before_training(FACTS, FULL) == ()


def scoring(*scores: float) -> dict[Candidate, tuple[Measurement, ...]]:
    return {Candidate("e", str(n)): (point(128, score),) for n, score in enumerate(scores)}


@pytest.mark.parametrize(
    ("chance", "scores", "warned"),
    [
        (0.333, (0.025, 0.086, 0.06), True),  # far below: answers that are not read
        (0.333, (0.34, 0.35, 0.30), True),
        (0.333, (0.34, 0.50, 0.30), False),
        (0.0, (0.0, 0.0, 0.0), True),
        (0.0, (0.0, 0.05, 0.0), False),
    ],
)
def test_scores_at_chance_raise_a_warning(
    chance: float, scores: tuple[float, ...], *, warned: bool
) -> None:
    found = told(scoring(*scores), replace(FACTS, chance=chance))
    assert bool(found) is warned
    if warned:
        assert f"no score is above chance ({100 * chance:.1f} %)" in found[0]
        assert f"the best of 3 is {100 * max(scores):.1f} %" in found[0]


def test_the_false_alarm_rate_does_not_grow_with_the_pool() -> None:
    """Of 400 studies of 2 or 50 guessing candidates, about 5 % raise no warning."""
    draws = np.random.default_rng(0)
    for count in (2, 50):
        passed = 0
        for _ in range(400):
            scores = draws.binomial(400, 0.25, count) / 400
            passed += not told(scoring(*scores))
        assert passed / 400 < 0.10


def test_a_score_without_a_standard_error_is_not_judged() -> None:
    assert above_chance(Measurement(128, 0.1), 0.25) is None
    assert told({FIRST: (Measurement(128, 0.1),)}) == ()
    assert at_chance(FIRST, Measurement(128, 0.1), 0.25) is None


def test_a_single_candidate_at_chance_is_named() -> None:
    text = at_chance(FIRST, point(128, 0.26), 0.25)
    assert text
    assert text.startswith(
        "clip + llama scores 26.0 % at 128 samples, no better than chance (25.0"
    )
    assert at_chance(FIRST, point(128, 0.5), 0.25) is None


@pytest.mark.parametrize(
    ("warmup", "full", "sentence"),
    [
        (2048, 592, "warmup_samples is 2,048, and a full alignment has 592 samples"),
        (592, 592, "a full alignment has 592 samples"),
        (2048, 4096, "no candidate was trained on more than 256 samples"),
        (256, 4096, "no candidate was trained on more than 256 samples"),
        (128, 4096, "the lowest rung has 128 samples"),
        (127, 4096, None),
    ],
)
def test_a_learning_rate_that_rises_for_too_long_raises_a_warning(
    warmup: int, full: int, sentence: str | None
) -> None:
    """A warm-up beyond D raises the warning before anything is trained."""
    facts = replace(FACTS, warmup_samples=warmup)
    found = told(healthy(), facts, full)
    assert len(found) == (sentence is not None)
    assert (sentence or "") in "".join(found)
    assert bool(warnings_before_training(facts, full)) is (warmup >= full)


def test_a_full_alignment_of_few_steps_raises_a_warning() -> None:
    facts = replace(FACTS, batch_size=128)
    (found,) = told(healthy(), facts, 512)
    assert found == (
        "a full alignment of 512 samples in batches of 128 is 4 optimiser steps: candidates "
        "learn almost nothing"
    )
    assert warnings_before_training(facts, 512) == (found,)
    assert not warnings_before_training(facts, 128 * 32)


def test_likelihoods_that_never_rose_raise_a_warning() -> None:
    """One candidate that learns is enough; a candidate with one rung says nothing."""
    flat = {
        FIRST: (point(128, 0.4, 1.5), point(256, 0.5, 1.48)),
        SECOND: (point(128, 0.4, 1.5), point(256, 0.5, 1.7)),
    }
    (found,) = told(flat)
    assert "rose for none of 2 candidates" in found
    assert told({**flat, SECOND: healthy()[FIRST]}) == ()
    assert told({FIRST: (point(128, 0.4, 1.5),), SECOND: (point(128, 0.4),)}) == ()


@pytest.mark.parametrize(
    ("name", "few", "many", "sentence"),
    [
        ("cut", 0.05, 0.4, "40 % of the winner's answers ended at the token limit"),
        ("guessed", 0.05, 0.4, "40 % of the winner's answers could not be read"),
        ("empty", 0.05, 0.4, "40 % of the winner's answers were empty"),
        ("alike", 0.9, 0.99, "99 % of the winner's answers are one and the same"),
    ],
)
def test_unusable_answers_raise_a_warning(
    name: str, few: float, many: float, sentence: str
) -> None:
    """Those of the winner at its last rung; the candidate with the most is named."""

    def curves(winner: float, other: float) -> dict[Candidate, tuple[Measurement, ...]]:
        shares: dict[str, Any] = {name: 1.0}
        early = {c: replace(points[0], **shares) for c, points in healthy().items()}
        last = {
            c: replace(points[-1], **{name: share})
            for (c, points), share in zip(healthy().items(), (winner, other), strict=True)
        }
        return {c: (early[c], last[c]) for c in early}

    assert told(curves(few, 1.0)) == ()
    (alone,) = told(curves(many, few))
    assert alone.startswith(sentence)
    assert "most" not in alone
    (found,) = told(curves(many, 1.0))
    assert found.endswith(" (most: dino + qwen, 100 %)")


def test_left_out_samples_raise_a_warning_from_one_per_cent_on() -> None:
    assert told(healthy(), replace(FACTS, left_out=0.009)) == ()
    assert told(healthy(), replace(FACTS, left_out=None)) == ()
    (found,) = told(healthy(), replace(FACTS, left_out=0.12))
    assert found.startswith("12.0 % of the alignment samples were left out")
    assert warnings_before_training(replace(FACTS, left_out=0.12), FULL) == (found,)


def test_a_result_read_from_its_storage_has_warnings() -> None:
    """They follow from trials and facts; studies of older versions have no facts."""
    chosen, measure = plan(), table()

    def cut(candidate: Candidate, samples: int) -> Measurement:
        return replace(measure(candidate, samples), cut=0.5)

    study = search(chosen, cut)  # type: ignore[arg-type] - called as a table is
    assert stored_facts(study.user_attrs) is None
    before = read_result(study, chosen, method="mordal", task="gqa")
    assert before.warnings == ("50 % of the winner's answers ended at the token limit",)
    facts = StudyFacts(chance=0.99, warmup_samples=9000, batch_size=16, left_out=None)
    store_facts(study, facts)
    assert stored_facts(study.user_attrs) == facts
    found = read_result(study, chosen, method="mordal", task="gqa").warnings
    assert [text.split()[0] for text in found] == ["no", "warmup_samples", "50"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chance": 1.5}, "chance: got 1.5; it must be between 0 and 1"),
        ({"warmup_samples": -1}, "warmup_samples: got -1; it must be at least 0"),
        ({"batch_size": 0}, "batch_size: got 0; it must be at least 1"),
        ({"left_out": -0.1}, "left_out: got -0.1; it must be between 0 and 1"),
    ],
)
def test_facts_out_of_bounds_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SearchError, match=sentence):
        replace(FACTS, **change)


def test_unknown_shares_are_not_stored() -> None:
    assert not point(128, 0.5).to_json().keys() & {"cut", "empty", "alike"}
    stored = point(128, 0.5, cut=0.0, empty=0.1, alike=1.0).to_json()
    assert (stored["cut"], stored["empty"], stored["alike"]) == (0.0, 0.1, 1.0)


def on_both(gqa: Measurement, chartqa: Measurement) -> Measurement:
    return weighted_mean({"gqa": gqa, "chartqa": chartqa}, {"gqa": 1.0, "chartqa": 1.0})


def test_scores_at_chance_and_answers_are_judged_on_each_task() -> None:
    """The mean is far above the mean of both chances, and one task is not learnt at all."""
    facts = replace(FACTS, chance=0.3, chances={"gqa": 0.2, "chartqa": 0.4})
    curves = {FIRST: (on_both(point(128, 0.9), point(128, 0.4, cut=0.5)),)}
    found = told(curves, facts)
    assert [text.split(":")[0] for text in found] == ["chartqa", "chartqa"]
    assert "no score is above chance (40.0 %)" in found[0]
    assert "50 % of the winner's answers ended at the token limit" in found[1]


def test_facts_of_one_task_are_stored_as_older_versions_read_them() -> None:
    study = optuna.create_study()
    store_facts(study, FACTS)
    assert "chances" not in study.user_attrs[FACTS_KEY]
    several = replace(FACTS, chances={"gqa": 0.2})
    store_facts(study, several)
    assert stored_facts(study.user_attrs) == several


def test_a_warning_of_chance_names_the_task_among_several() -> None:
    text = at_chance(FIRST, point(128, 0.2), 0.25, "gqa")
    assert text
    assert text.startswith("gqa: clip + llama scores 20.0 %")
