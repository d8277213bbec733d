"""The weighted mean of several tasks: score, noise, costs, and what is stored of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.answers import Answers, contrast
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.tasks import PartialMeasurement, completed, weighted_mean

GQA = Measurement(
    512, 0.6, 0.03, 400, 100.0, 2.0, nll=1.0, nll_stderr=0.3, train_spent=10.0, eval_spent=2.0
)
CHARTQA = Measurement(
    512, 0.3, 0.06, 100, 100.0, 5.0, nll=4.0, nll_stderr=0.6, train_spent=10.0, eval_spent=0.0
)
BOTH = {"gqa": GQA, "chartqa": CHARTQA}
WEIGHTS = {"gqa": 1.0, "chartqa": 2.0}
PAIR = Candidate("clip", "llama")


def test_the_mean_is_weighted_and_its_noise_that_of_independent_tasks() -> None:
    mean = weighted_mean(BOTH, WEIGHTS)
    assert mean.samples == 512
    assert mean.score == pytest.approx((0.6 + 2 * 0.3) / 3)
    assert mean.stderr == pytest.approx((0.03**2 + (2 * 0.06) ** 2) ** 0.5 / 3)
    assert mean.nll == pytest.approx((1 + 2 * 4) / 3)
    assert mean.nll_stderr == pytest.approx((0.3**2 + (2 * 0.6) ** 2) ** 0.5 / 3)
    assert mean.by_task == BOTH


def test_the_training_is_paid_once_and_every_evaluation() -> None:
    mean = weighted_mean(BOTH, WEIGHTS)
    assert (mean.train_seconds, mean.train_spent) == (100.0, 20.0)
    assert (mean.eval_seconds, mean.eval_spent) == (7.0, 2.0)


def test_what_one_task_does_not_know_the_mean_does_not_know() -> None:
    mean = weighted_mean({**BOTH, "chartqa": Measurement(512, 0.3)}, WEIGHTS)
    assert (mean.stderr, mean.nll, mean.train_spent, mean.eval_spent) == (None,) * 4
    assert mean.documents is None


def test_perfect_scores_are_not_certain() -> None:
    """On each task the noise is at least half a document."""
    perfect = {name: Measurement(512, 1.0, 0.0, 50) for name in WEIGHTS}
    mean = weighted_mean(perfect, {"gqa": 0.1, "chartqa": 0.2})
    assert mean.score == 1.0
    assert mean.stderr == pytest.approx(0.01 * 5**0.5 / 3)


@pytest.mark.parametrize(
    ("by_task", "weights"),
    [
        (BOTH, {"gqa": 1.0}),
        ({}, {}),
        ({**BOTH, "gqa": replace(GQA, samples=256)}, WEIGHTS),
        (BOTH, {**WEIGHTS, "gqa": 0.0}),
    ],
)
def test_other_tasks_rungs_or_weights_are_refused(
    by_task: dict[str, Measurement], weights: dict[str, float]
) -> None:
    with pytest.raises(SearchError):
        weighted_mean(by_task, weights)


def test_what_is_stored_is_read_back() -> None:
    mean = weighted_mean(BOTH, WEIGHTS)
    details = json.loads(json.dumps(mean.to_json()))
    assert Measurement.from_json(details, samples=512, score=mean.score) == mean
    assert details["tasks"]["gqa"]["score"] == 0.6
    assert "tasks" not in GQA.to_json()


def test_a_measurement_of_several_tasks_can_be_a_key() -> None:
    """Rankers cache estimates by the history."""
    assert hash(weighted_mean(BOTH, WEIGHTS)) == hash(weighted_mean(dict(BOTH), WEIGHTS))


def test_the_history_of_a_task_has_its_scores_and_its_share_of_the_costs() -> None:
    record = CandidateHistory((weighted_mean(BOTH, WEIGHTS),), other_seconds=9.0, failures=1)
    history = History({PAIR: record})
    own = history.of_task("chartqa").of(PAIR)
    assert own.measurements == (CHARTQA,)
    assert own.failures == 1
    assert history.of_task("ai2d").of(PAIR).measurements == ()
    shares = sum(history.of_task(name).seconds for name in WEIGHTS)
    assert shares + 9.0 == history.seconds == 20.0 + 2.0 + 9.0


def answered(values: list[float], digest: str) -> Measurement:
    """A score with its documents."""
    score = sum(values) / len(values)
    answers = Answers.of(values, None, digest * 16).packed()
    return Measurement(512, score, 0.1, len(values), answers=answers)


def test_means_are_compared_document_by_document_on_every_task() -> None:
    first = {"gqa": answered([1, 1, 0, 0], "a"), "chartqa": answered([1, 0, 0, 0], "b")}
    second = {"gqa": answered([1, 0, 0, 0], "a"), "chartqa": answered([1, 1, 0, 1], "b")}
    one, other = (weighted_mean(tasks, WEIGHTS) for tasks in (first, second))
    seen = contrast([one], [other], WEIGHTS)
    apart = [(w, contrast([first[name]], [second[name]])) for name, w in WEIGHTS.items()]
    assert seen
    assert seen.paired
    assert seen.difference == pytest.approx((0.25 - 2 * 0.5) / 3)
    errors = [weight * difference.stderr for weight, difference in apart if difference]
    assert seen.stderr == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 3)


def test_means_without_the_documents_of_one_task_are_not_paired() -> None:
    known = {"gqa": answered([1, 0], "a"), "chartqa": Measurement(512, 0.5, 0.1, 2)}
    mean = weighted_mean(known, WEIGHTS)
    seen = contrast([mean], [mean], WEIGHTS)
    assert seen
    assert not seen.paired
    assert seen.stderr == pytest.approx(2**0.5 * mean.noise)


def test_some_tasks_make_no_mean_and_the_last_one_completes_it() -> None:
    """Each was paid once, in whatever order they came."""
    first = completed(PartialMeasurement(512, {"gqa": GQA}, {"training": 3.0}), None, WEIGHTS)
    assert isinstance(first, PartialMeasurement)
    stored = json.loads(json.dumps(first.to_json()))
    assert PartialMeasurement.from_json(stored, samples=512) == first
    assert (first.train_spent, first.eval_spent) == (10.0, 2.0)
    last = PartialMeasurement(512, {"chartqa": CHARTQA}, {"training": 1.0})
    whole = completed(last, first, WEIGHTS)
    assert whole == weighted_mean(BOTH, WEIGHTS)
    assert whole.time == {"training": 4.0}
    assert PartialMeasurement.from_json(whole.to_json(), samples=512) is None
    assert completed(whole, first, WEIGHTS) is whole
