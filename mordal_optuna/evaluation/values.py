"""Aggregations of a task that are replaced before lmms-eval computes them.

The score of a task whose aggregation is no mean over documents is the mean of each document's
value. MME, for example, gives `{"question_id", "category", "score"}` for a document and adds up
points of categories, over pairs of questions. A subset of its documents has no such score, and no
standard error is known for it. The mean of `score` has both.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.faults import task_faults
from mordal_optuna.evaluation.guards import quiet, random_states_kept
from mordal_optuna.evaluation.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mordal_optuna.evaluation.metric import MetricSpec


def mean_of_value(metrics: Sequence[Mapping[str, Any]] | None, key: str) -> list[dict[str, Any]]:
    """A YAML's `metric_list` with the mean of a value as every aggregation.

    Args:
        metrics: the `metric_list`; None for none.
        key: key of the value in what the task gives for a document.
    """

    def mean(values: Sequence[Mapping[str, Any]]) -> float:
        return sum(float(value[key]) for value in values) / len(values)

    return [{**metric, "aggregation": mean} for metric in metrics or ()]


def without_submissions(
    metrics: Sequence[Mapping[str, Any]] | None, main: str
) -> list[dict[str, Any]]:
    """A YAML's `metric_list` without aggregations that write a file for a leaderboard.

    lmms-eval hands them its command line, which says where the file goes; here there is none.

    Args:
        metrics: the `metric_list`; None for none.
        main: name of the main metric, which stays as it is.
    """

    def writes(metric: Mapping[str, Any]) -> bool:
        function = metric.get("aggregation")
        return callable(function) and "args" in signature(function).parameters

    return [
        {**metric}
        for metric in metrics or ()
        if str(metric["metric"]) == main or not writes(metric)
    ]


def valued_rows(name: str, live: Any, split: str, spec: MetricSpec) -> list[int]:
    """The documents that have the main metric, which may depend on the document alone.

    Args:
        name: name of the task.
        live: lmms-eval's task object.
        split: split of its documents.
        spec: main metric, with `value`.

    Raises:
        TaskError: if the task's code gives no dictionaries with the value, or no document has the
            metric.
    """
    judge, rows = live.config.process_results, []
    if not callable(judge):
        raise TaskError(
            name, f"declares the value {spec.value!r}; only tasks with `process_results` have one"
        )
    with task_faults(name, "`process_results` fails"), random_states_kept(), quiet():
        for row, document in enumerate(Rows(live.dataset_no_image[split])):
            given = judge(document, [""]).get(spec.document_key)
            if given is None:
                continue
            if not isinstance(given, dict) or spec.value not in given:
                keys = ", ".join(given) if isinstance(given, dict) else repr(given)
                raise TaskError(
                    name,
                    f"declares the value {spec.value!r}; `process_results` gives {keys} for "
                    f"{spec.document_key!r}",
                )
            rows.append(row)
    if not rows:
        raise TaskError(name, f"no document has the metric {spec.document_key!r}")
    return rows
