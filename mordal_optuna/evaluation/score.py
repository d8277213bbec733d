"""Score a live model on tasks, by lmms-eval's own evaluation."""

from __future__ import annotations

import argparse
import importlib.metadata
import random
from collections import Counter
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tenacity import RetryError

from mordal_optuna.errors import EvaluationError, TaskError
from mordal_optuna.evaluation.documents import (
    document_values,
    guessed_share,
    standard_error,
)
from mordal_optuna.evaluation.guards import alone, import_lmms_eval, quiet, random_states_kept
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.outages import raised_as

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel, ProcessorMixin

    from mordal_optuna.evaluation.tasks import Task

# How lmms-eval calls our model, and where it looks for it.
PLUGIN, PLUGIN_GROUP = "mordal_vlm", "lmms_eval.models"
# lmms-eval's own: Python, numpy, torch; and of few-shot examples.
_SEEDS = (0, 1234, 1234)
_FEWSHOT_SEED = 1234


@dataclass(frozen=True)
class Score:
    """The score of one model on one task.

    Attributes:
        task: its name.
        value: the main metric, 0..1.
        stderr: standard error of the value, from the spread of documents or their clusters.
        documents: how many were scored.
        per_document: their values, in the task's order.
        seconds: what the evaluation took.
        clusters: of each document; None where all are independent.
        guessed: share of answers that the task could not read and drew; None where it never does.
        likelihoods: -ln p of the reference answer of each document, in nats; None where it was
            not asked for.
        found: whether it was looked up in a store and not computed now.
        cut: share of answers that ended at the token limit; None in scores of older versions.
        empty: share of answers without any text; None in scores of older versions.
        alike: share of documents that got the most frequent answer; None in scores of older
            versions.
    """

    task: str
    value: float
    stderr: float
    documents: int
    per_document: tuple[float, ...]
    seconds: float
    clusters: tuple[int, ...] | None = None
    guessed: float | None = None
    likelihoods: tuple[float, ...] | None = None
    found: bool = False
    cut: float | None = None
    empty: float | None = None
    alike: float | None = None

    @property
    def nll(self) -> float | None:
        """Mean of -ln p of the reference answers."""
        return None if self.likelihoods is None else float(np.mean(self.likelihoods))

    @property
    def nll_stderr(self) -> float | None:
        """Its standard error, from the spread of documents or their clusters."""
        if self.likelihoods is None:
            return None
        return standard_error(self.likelihoods, self.clusters)


def score(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    tasks: Sequence[Task],
    *,
    processes: Processes | None = None,
) -> tuple[Score, ...] | None:
    """Score a live model on tasks in one pass; it and all random generators stay as they were.

    Several processes hold the same model, and each answers its share of the documents. The
    leading one alone runs lmms-eval, which would otherwise have them wait for one another in
    places of its own.

    Args:
        model: has `generate`.
        processor: carries tokenizer, image processor and chat template.
        tasks: built by `build_task`, each of another name.
        processes: that answer together; None for a single one.

    Returns:
        The tasks' scores, in their order; None on a process that does not lead.

    Raises:
        EvaluationError: if a document cannot be answered or scored; there is no score then.
        TaskError: if the declared metric is not among the results.
    """
    start = perf_counter()
    import_lmms_eval()
    from mordal_optuna.evaluation.model import MordalVLM

    together = processes or Processes()
    wrapped = MordalVLM.from_live(model, processor, tasks=tasks, processes=together)
    if not together.is_main:
        wrapped.follow()
        return None
    names = ", ".join(task.name for task in tasks)
    try:
        with raised_as(lambda reason: EvaluationError(names, f"lmms-eval failed ({reason})")):
            results = _evaluate(wrapped, tasks)
            found = [_score(results, task, wrapped.likelihoods, wrapped.cut) for task in tasks]
    finally:
        wrapped.stop_followers()
    # What is not one task's own (building requests, lmms-eval's bookkeeping) is shared out by
    # documents.
    shared = perf_counter() - start - sum(wrapped.seconds.values())
    total = sum(s.documents for s in found)
    return tuple(
        replace(s, seconds=wrapped.seconds[s.task] + shared * s.documents / total) for s in found
    )


def _score(
    results: dict[str, Any],
    task: Task,
    likelihoods: Mapping[tuple[str, int], float],
    cut: Mapping[tuple[str, int], bool],
) -> Score:
    value = _main_metric(results, task)
    samples = _samples(results, task)
    values = document_values(samples, task)
    # MMMU rounds its mean to five places.
    if abs(value - float(np.mean(values))) > 1e-5:
        raise EvaluationError(
            task.name,
            f"lmms-eval reports {value} while its documents' mean is {np.mean(values)}; a main "
            "metric must be the mean over documents",
        )
    keys = [(task.name, n) for n in range(len(values))]
    texts = [str(sample["resps"][0][0]).strip() for sample in samples]
    answers = [likelihoods[key] for key in keys if task.likelihood]
    return Score(
        task=task.name,
        value=float(np.mean(values)),
        stderr=standard_error(values, task.clusters),
        documents=len(values),
        per_document=values,
        seconds=0.0,
        clusters=task.clusters,
        guessed=guessed_share(samples, task),
        likelihoods=tuple(answers) or None,
        cut=sum(cut[key] for key in keys) / len(keys),
        empty=texts.count("") / len(texts),
        alike=Counter(texts).most_common(1)[0][1] / len(texts),
    )


def hidden_plugin() -> str | None:
    """What is wrong where lmms-eval's command line does not find our model; None if it does.

    One broken entry point of another package ends lmms-eval's search for plugins; it only warns.
    """
    import_lmms_eval()
    from lmms_eval.models import list_available_models

    with quiet():
        found = list_available_models()
    if PLUGIN in found:
        return None
    own = importlib.metadata.entry_points(group=PLUGIN_GROUP)
    if PLUGIN not in own.names:
        return (
            f"{PLUGIN!r} is not among the entry points {PLUGIN_GROUP!r}; reinstall mordal-optuna"
        )
    for point in own:
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else "?"
            return (
                f"lmms-eval's command line does not find {PLUGIN!r}, since the entry point "
                f"{point.name!r} of the package {package!r} cannot be loaded ({error}) and hides "
                "it; mend or remove that package"
            )
    return f"lmms-eval's command line does not find {PLUGIN!r}, though its entry point loads"


def _evaluate(wrapped: Any, tasks: Sequence[Task]) -> dict[str, Any]:
    from lmms_eval.evaluator import evaluate

    for task in tasks:
        task.live.set_fewshot_seed(seed=_FEWSHOT_SEED)
        if task.live.get_config("num_fewshot") is None:
            task.live.set_config(key="num_fewshot", value=0)
        wrapped.task_dict[task.name] = task.live.dataset
    try:
        with random_states_kept(), quiet(), alone():
            random.seed(_SEEDS[0])
            np.random.seed(_SEEDS[1])  # noqa: NPY002 - what tasks of lmms-eval draw from
            torch.manual_seed(_SEEDS[2])
            # What `simple_evaluate` calls; it would have all processes load the task in turn.
            results: dict[str, Any] = evaluate(
                lm=wrapped,
                task_dict={task.name: task.live for task in tasks},
                bootstrap_iters=0,
                log_samples=True,
                process_docs_parallel=1,
                distributed_executor_backend="torchrun",  # creates no Accelerator
                cli_args=argparse.Namespace(process_with_media=False),
            )
    except RetryError as error:
        cause = error.last_attempt.exception()
        names = ", ".join(task.name for task in tasks)
        raise EvaluationError(names, f"scoring answers failed ({cause})") from cause
    return results


def _main_metric(results: dict[str, Any], task: Task) -> float:
    found = results["results"][task.name]
    if task.spec.metric not in found:
        there = sorted(k for k in found if "," in k and "stderr" not in k)
        raise TaskError(
            task.name,
            f"declares the metric {task.spec.metric!r}; its results have {', '.join(there)}",
        )
    value = float(found[task.spec.metric]) / task.spec.scale
    if not 0.0 <= value <= 1.0:
        raise TaskError(
            task.name,
            f"its metric is {found[task.spec.metric]}; with the declared scale {task.spec.scale} "
            f"it must be between 0 and {task.spec.scale}",
        )
    return value


def _samples(results: dict[str, Any], task: Task) -> list[dict[str, Any]]:
    """What lmms-eval tells of every document, in the task's order."""
    samples: list[dict[str, Any]] = sorted(
        results["samples"][task.name], key=lambda sample: sample["doc_id"]
    )
    if len(samples) != len(task.documents) or len(samples) < 2:
        raise EvaluationError(
            task.name,
            f"{len(samples)} of {len(task.documents)} documents were scored; all are needed, "
            "and at least 2",
        )
    return samples
