"""A pool that grows in a study of several tasks: scores on each task are carried over."""

from __future__ import annotations

import optuna

from mordal_optuna.search.attributes import RUNGS, answers_attribute
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.sampler import study_history
from mordal_optuna.search.tasks import PartialMeasurement
from mordal_optuna.study.growing import carry_over
from tests.search import frozen
from tests.search.several import WEIGHTS, Several
from tests.search.synthetic import RUNGS as STEPS
from tests.search.synthetic import plan, search
from tests.study.grown import GROWN, successor


def test_scores_on_each_task_and_the_values_of_documents_are_carried_over() -> None:
    earlier = search(plan(), Several())  # type: ignore[arg-type]
    first = earlier.trials[0]
    key = answers_attribute(STEPS[0], "gqa")
    earlier._storage.set_study_system_attr(earlier._study_id, "of the dashboard", 1)
    first.system_attrs[key] = "packed"
    grown = successor(earlier)
    stub = optuna.create_study(direction="maximize")
    stub.add_trials([first])
    carry_over(stub, grown, GROWN, address="sqlite://")
    assert grown.trials[0].system_attrs == {key: "packed"}
    record = study_history(grown).of(candidate_of(first))
    own = record.measurements[0].by_task
    assert own.keys() == WEIGHTS.keys()
    assert all(m.train_spent == m.eval_spent == 0.0 for m in own.values())
    assert own["gqa"].answers == "packed"


def test_scores_on_some_of_several_tasks_are_carried_over() -> None:
    """They cost nothing again, and the task that is missing can be scored at their rung."""
    rows = {"gqa": Measurement(16, 0.5, 0.1, 9, 4.0, 2.0, train_spent=4.0, eval_spent=2.0)}
    details = PartialMeasurement(16, rows).to_json()
    earlier = optuna.create_study(study_name="earlier", direction="maximize")
    earlier.add_trial(frozen.trial({}, attributes={RUNGS: {"16": details}}))
    grown = successor(earlier)
    for _ in range(2):
        carry_over(earlier, grown, GROWN, address="sqlite://")
    assert len(grown.trials) == 1
    record = study_history(grown).of(frozen.PAIR)
    assert record.on_task("gqa", 16).score == 0.5  # type: ignore[union-attr]
    assert record.carried_partial == {(16, "gqa")}
    assert (record.top, record.seconds, record.measurements) == (16, 0.0, ())
