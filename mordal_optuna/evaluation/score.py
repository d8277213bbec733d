"""Scores a live model on tasks by lmms-eval's evaluation."""

from __future__ import annotations

import argparse
import importlib.metadata
import random
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tenacity import RetryError

from mordal_optuna.alignment.timing import Clock
from mordal_optuna.errors import EvaluationError, TaskError
from mordal_optuna.evaluation.documents import (
    document_values,
    guessed_share,
    standard_error,
)
from mordal_optuna.evaluation.engines import ENGINES
from mordal_optuna.evaluation.guards import (
    import_lmms_eval,
    launch_hidden,
    quiet,
    random_states_kept,
)
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.outages import raised_as

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, ProcessorMixin

    from mordal_optuna.evaluation.engine_model import EngineModel
    from mordal_optuna.evaluation.model import MordalVLM
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm

# Name of the model plugin, and group of its entry point.
PLUGIN, PLUGIN_GROUP = "mordal_vlm", "lmms_eval.models"
# lmms-eval's default seeds of Python, numpy and torch, and of few-shot examples.
_SEEDS = (0, 1234, 1234)
_FEWSHOT_SEED = 1234
# Names under which tasks of lmms-eval report what they read in an answer.
_PARSED = ("parsed_pred", "pred_answer", "prediction", "pred")


@dataclass(frozen=True)
class Score:
    """The score of one model on one task; stored with studies under these field names.

    Attributes:
        task: name of the task.
        value: main metric, 0..1.
        stderr: standard error of the value, from the spread of documents or their clusters.
        documents: number of scored documents.
        per_document: value of each document, 0..1, in the task's order.
        seconds: duration of the evaluation.
        clusters: cluster number of each document; None if all are independent.
        guessed: share of answers that the task could not parse and drew at random; None for tasks
            that never guess.
        likelihoods: -ln p of the reference answer of each document, in nats; None if not
            measured.
        found: whether the score was read from a store instead of computed.
        cut: share of answers that ended at the token limit; None in scores of older versions.
        empty: share of answers without any text; None in scores of older versions.
        alike: share of documents with the most frequent answer; None in scores of older versions.
        engine: name of the engine that answered; None for the live model.
        differing: share of answers in which the engine and the live model differ, of the documents
            that both answered, 0..1; None for the live model.
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
    engine: str | None = None
    differing: float | None = None

    @property
    def nll(self) -> float | None:
        """Mean of -ln p of the reference answers, in nats."""
        return None if self.likelihoods is None else float(np.mean(self.likelihoods))

    @property
    def nll_stderr(self) -> float | None:
        """Standard error of `nll`, from the spread of documents or their clusters."""
        if self.likelihoods is None:
            return None
        return standard_error(self.likelihoods, self.clusters)

    @property
    def p_correct(self) -> float | None:
        """Mean over documents of the reference answer's likelihood p, 0 to 1."""
        return None if self.likelihoods is None else float(np.mean(self._probabilities))

    @property
    def p_correct_stderr(self) -> float | None:
        """Standard error of `p_correct`, from the spread of documents or their clusters."""
        if self.likelihoods is None:
            return None
        return standard_error(self._probabilities, self.clusters)

    @property
    def _probabilities(self) -> tuple[float, ...]:
        return tuple(np.exp(-np.array(self.likelihoods)).tolist())


@dataclass(frozen=True)
class ShownAnswer:
    """An answer to one document, as the model gave it and as the task read it.

    Attributes:
        task: name of the task.
        document: original index of the document.
        answer: text of the model.
        parsed: what the task made of it: its own word for it where it reports one, or else the
            text after the task's filters.
        value: value of the answer, 0..1.
        cut: whether it ended at the token limit.
        guessed: whether the task could not read it and drew an answer at random.
    """

    task: str
    document: int
    answer: str
    parsed: str
    value: float
    cut: bool
    guessed: bool


def score(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    tasks: Sequence[Task],
    *,
    processes: Processes | None = None,
    clock: Clock | None = None,
) -> tuple[Score, ...] | None:
    """Score a live model on tasks in one pass; model and random generators stay unchanged.

    All processes hold the same model, and each answers a share of the documents. Only rank 0 runs
    lmms-eval, which would otherwise synchronise the processes at points of its own.

    Args:
        model: a model with `generate`.
        processor: tokenizer, image processor and chat template of the model.
        tasks: tasks built by `build_task`, with different names.
        processes: processes that share the documents; None for a single process.
        clock: counts where the time goes; None if nobody reads it.

    Returns:
        The score on each task, in the order of `tasks`; None on other ranks.

    Raises:
        EvaluationError: if a document cannot be answered or scored; there is no score then.
        TaskError: if the declared metric is not among the results.
    """
    start = perf_counter()
    import_lmms_eval()
    from mordal_optuna.evaluation.model import MordalVLM

    together = processes or Processes()
    wrapped = MordalVLM.from_live(model, processor, tasks=tasks, processes=together, clock=clock)
    if not together.is_main:
        wrapped.follow()
        return None
    return _scored(wrapped, tasks, start, clock or Clock(wrapped.device))


def show_answer(model: PreTrainedModel, processor: ProcessorMixin, task: Task) -> ShownAnswer:
    """Let a live model answer the first document of a task, and score it as `score` does.

    Model and random generators stay unchanged.

    Args:
        model: a model with `generate`.
        processor: tokenizer, image processor and chat template of the model.
        task: the task.

    Raises:
        EvaluationError: if the document cannot be answered or scored.
    """
    import_lmms_eval()
    from mordal_optuna.evaluation.model import MordalVLM

    first = task.subset(1)
    wrapped = MordalVLM.from_live(model, processor, tasks=[first])
    with raised_as(lambda reason: EvaluationError(task.name, f"lmms-eval failed ({reason})")):
        (sample,) = _evaluate(wrapped, [first])["samples"][task.name]
        (value,) = document_values([sample], first)
        guessed = guessed_share([sample], first)
    return ShownAnswer(
        task=task.name,
        document=first.documents[0],
        answer=str(sample["resps"][0][0]),
        parsed=_parsed(sample, first),
        value=value,
        cut=wrapped.cut[task.name, 0],
        guessed=bool(guessed),
    )


def score_by_engine(
    name: str,
    vlm: Vlm,
    tasks: Sequence[Task],
    *,
    device: torch.device,
    arguments: Mapping[str, Any],
    folder: Path,
    clock: Clock | None = None,
) -> tuple[Score, ...]:
    """Score a live candidate's merged export by an engine; the candidate stays unchanged.

    Args:
        name: name of the engine, see `engines.ENGINES`.
        vlm: the candidate, whole in this process.
        tasks: tasks built by `build_task`, with different names and without likelihoods.
        device: device of the candidate, which is free for the engine meanwhile.
        arguments: further arguments of the engine.
        folder: folder for the export, which is removed afterwards.
        clock: counts where the time goes; None if nobody reads it.

    Returns:
        The score on each task, in the order of `tasks`.

    Raises:
        EvaluationError: if a document cannot be answered or scored; there is no score then.
        TaskError: if the declared metric is not among the results.
    """
    start = perf_counter()
    import_lmms_eval()
    from mordal_optuna.evaluation.engine_model import engine_model

    clock = clock or Clock(device)
    wrapped = engine_model(
        ENGINES[name],
        vlm,
        tasks,
        device=device,
        arguments=arguments,
        folder=folder,
        clock=clock,
    )
    scores = _scored(wrapped, tasks, start, clock)
    return tuple(replace(s, engine=name, differing=wrapped.differing[s.task]) for s in scores)


def _scored(
    wrapped: MordalVLM | EngineModel, tasks: Sequence[Task], start: float, clock: Clock
) -> tuple[Score, ...]:
    """Rank 0: the scores of a wrapped model, whose evaluation began at a time in seconds."""
    names = ", ".join(task.name for task in tasks)
    try:
        with (
            raised_as(lambda reason: EvaluationError(names, f"lmms-eval failed ({reason})")),
            clock.span("judging"),
        ):
            results = _evaluate(wrapped, tasks)
            scores = [_score(results, task, wrapped.likelihoods, wrapped.cut) for task in tasks]
    finally:
        wrapped.stop_followers()
    # Time that belongs to no single task (building requests, lmms-eval's bookkeeping) is divided
    # in proportion to documents.
    shared = perf_counter() - start - sum(wrapped.seconds.values())
    total = sum(s.documents for s in scores)
    return tuple(
        replace(s, seconds=wrapped.seconds.get(s.task, 0.0) + shared * s.documents / total)
        for s in scores
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
            f"lmms-eval reports {value}, but the mean over documents is {np.mean(values)}; a main "
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
        cut=sum(cut[key] for key in keys) / len(keys) if cut else None,
        empty=texts.count("") / len(texts),
        alike=Counter(texts).most_common(1)[0][1] / len(texts),
    )


def plugin_problem() -> str | None:
    """Why lmms-eval's command line does not find `mordal_vlm`; None if it does.

    A broken entry point of another package ends lmms-eval's search for plugins with a warning.
    """
    import_lmms_eval()
    from lmms_eval.models import list_available_models

    with quiet():
        models = list_available_models()
    if PLUGIN in models:
        return None
    points = importlib.metadata.entry_points(group=PLUGIN_GROUP)
    if PLUGIN not in points.names:
        return (
            f"{PLUGIN!r} is not among the entry points {PLUGIN_GROUP!r}; reinstall mordal-optuna"
        )
    for point in points:
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else "?"
            return (
                f"lmms-eval's command line does not find {PLUGIN!r}, since the entry point "
                f"{point.name!r} of the package {package!r} cannot be loaded ({error}) and hides "
                "it; repair or remove that package"
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
        with random_states_kept(), quiet(), launch_hidden(), _rows_kept(tasks):
            random.seed(_SEEDS[0])
            np.random.seed(_SEEDS[1])  # noqa: NPY002 - generator that lmms-eval's tasks use
            torch.manual_seed(_SEEDS[2])
            # Not `simple_evaluate`, which would make all processes load the tasks in turn.
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


@contextmanager
def _rows_kept(tasks: Sequence[Task]) -> Iterator[None]:
    """Let the task objects of lmms-eval read documents without images from plain rows.

    Args:
        tasks: the tasks that will be scored.
    """
    with ExitStack() as kept:
        for task in tasks:
            documents = task.live.dataset_no_image[task.split]
            splits = {**task.live.dataset_no_image, task.split: task.rows}
            for name, value in (("dataset_no_image", splits), ("task_docs", task.rows)):
                before = getattr(task.live, name)
                if name == "task_docs" and before is not documents:
                    continue
                kept.callback(setattr, task.live, name, before)
                setattr(task.live, name, value)
        yield


def _main_metric(results: dict[str, Any], task: Task) -> float:
    metrics = results["results"][task.name]
    if task.spec.metric not in metrics:
        available = sorted(k for k in metrics if "," in k and "stderr" not in k)
        raise TaskError(
            task.name,
            f"declares the metric {task.spec.metric!r}; its results have {', '.join(available)}",
        )
    value = float(metrics[task.spec.metric]) / task.spec.scale
    if not 0.0 <= value <= 1.0:
        raise TaskError(
            task.name,
            f"its metric is {metrics[task.spec.metric]}; with the declared scale "
            f"{task.spec.scale} it must be between 0 and {task.spec.scale}",
        )
    return value


def _parsed(sample: Mapping[str, Any], task: Task) -> str:
    """What a task made of an answer."""
    judged = sample[task.spec.document_key]
    reported = (
        [judged[key] for key in _PARSED if key in judged] if isinstance(judged, dict) else []
    )
    read = reported or sample["filtered_resps"]
    while isinstance(read, list):  # of texts, or of lists of them
        read = read[0] if read else ""
    return str(read)


def _samples(results: dict[str, Any], task: Task) -> list[dict[str, Any]]:
    """lmms-eval's sample of every document, in the task's order."""
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
