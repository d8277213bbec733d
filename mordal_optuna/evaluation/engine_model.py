"""lmms-eval model that lets an engine answer, and compares its answers with the live model's.

The live model answers a few documents of each task first. It then makes room on the device, and
the engine answers all documents from the export. Both get the same documents, chat template and
limits; an answer ends at the same stop strings.
"""

from __future__ import annotations

import copy
import gc
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from lmms_eval.models import get_model
from tokenizers import processors

from mordal_optuna.alignment.timing import Clock
from mordal_optuna.errors import EvaluationError, ModelError
from mordal_optuna.evaluation.model import MordalVLM
from mordal_optuna.evaluation.questions import up_to_stop
from mordal_optuna.models.export import merged_copy, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from lmms_eval.api.instance import Instance
    from transformers import PreTrainedModel, ProcessorMixin

    from mordal_optuna.evaluation.engines import Engine
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm

# Documents of a task that both models answer.
COMPARED = 32


class EngineModel(lmms):
    """Answers by an engine; a document that it cannot answer fails the evaluation.

    Attributes:
        differing: share of the compared documents with different answers, by task.
        likelihoods: empty; engines measure none.
        cut: empty; engines do not say which answers ended at the token limit.
        seconds: empty; an engine answers all tasks at once.
    """

    is_simple = False

    def __init__(
        self,
        engine: Engine,
        live: MordalVLM,
        open_engine: Callable[[], AbstractContextManager[lmms]],
        clock: Clock,
    ) -> None:
        """Join an engine and the live model.

        Args:
            engine: the engine's description.
            live: the live model, wrapped for the tasks.
            open_engine: opens the engine on the device, and closes it.
            clock: counts where the time goes; an engine does not say how long it decodes images.
        """
        super().__init__()
        self.differing: dict[str, float] = {}
        self.likelihoods: dict[tuple[str, int], float] = {}
        self.cut: dict[tuple[str, int], bool] = {}
        self.seconds: dict[str, float] = {}
        self._engine = engine
        self._live = live
        self._open_engine = open_engine
        self._clock = clock
        self.task_dict = live.task_dict

    def clean(self) -> None:
        """Do nothing: the engine is closed after it has answered."""

    def stop_followers(self) -> None:
        """Do nothing: an engine works in a single process."""

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer all requests.

        Args:
            requests: requests of lmms-eval.

        Returns:
            The engine's answers, in the order of the requests.

        Raises:
            EvaluationError: if the live model or the engine cannot answer.
        """
        compared = _spread(requests, COMPARED)
        live = self._live.generate_until([requests[n] for n in compared])
        asked = [self._as_asked(request) for request in requests]
        with self._open_engine() as engine:
            engine.task_dict = self._live.task_dict
            with self._clock.span("generating"):
                answers = engine.generate_until(asked)
        finished = [self._finished(*pair) for pair in zip(requests, answers, strict=True)]
        counts: dict[str, list[bool]] = {}
        for number, own in zip(compared, live, strict=True):
            task = str(requests[number].args[4])
            counts.setdefault(task, []).append(finished[number].text != own.text)
        self.differing = {task: sum(odd) / len(odd) for task, odd in counts.items()}
        return finished

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Not supported.

        Raises:
            EvaluationError: always.
        """
        self._live.loglikelihood(requests)

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Not supported.

        Raises:
            EvaluationError: always.
        """
        self._live.generate_until_multi_round(requests)

    def _as_asked(self, request: Instance) -> Instance:
        """A request with the limits that the live model has, where the task leaves them open."""
        context, reader, options, document, task, split = request.args
        sampled = bool(options.get("do_sample", False))
        beams = options.get("num_beams", 1)
        if beams > 1 and not self._engine.beams:
            raise EvaluationError(
                str(task), f"asks for {beams} beams; the engine {self._engine.name!r} has one"
            )
        chosen = {
            "max_new_tokens": options.get("max_new_tokens", self._live.max_new_tokens),
            "do_sample": sampled,
            "temperature": options.get("temperature", 1.0) if sampled else 0,
            "top_p": options.get("top_p", 1.0) if sampled else 1.0,
            "num_beams": beams,
        }
        return replace(request, arguments=(context, reader, chosen, document, task, split))

    def _finished(self, request: Instance, answer: GenerationResult | str) -> GenerationResult:
        """An answer up to the first stop string.

        Raises:
            EvaluationError: if the engine has swallowed an error.
        """
        result = answer if isinstance(answer, GenerationResult) else GenerationResult(answer)
        if self._engine.counts_tokens and result.token_counts is None:
            raise EvaluationError(
                str(request.args[4]),
                f"the engine {self._engine.name!r} could not answer document {request.args[3]}",
            )
        stops = request.args[2].get("until") or []
        return GenerationResult(up_to_stop(result.text, stops), result.token_counts)


def engine_model(
    engine: Engine,
    vlm: Vlm,
    tasks: Sequence[Task],
    *,
    device: torch.device,
    arguments: Mapping[str, Any],
    folder: Path,
    clock: Clock | None = None,
) -> EngineModel:
    """An engine for a live candidate, which writes the export when it is needed.

    Args:
        engine: the engine.
        vlm: the candidate; it is unchanged afterwards, and on its device.
        tasks: tasks on which it will be scored.
        device: device of the candidate.
        arguments: arguments of the study file.
        folder: folder for the export, which is removed afterwards.
        clock: counts where the time goes: the export and the engine's start count as `loading`.
            None if nobody reads it.
    """
    own = clock or Clock(device)

    @contextmanager
    def opened() -> Iterator[lmms]:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place, off_device(vlm.model, device):
            export = Path(place) / "export"
            with own.span("loading"):
                merged = merged_copy(vlm)
                merged.processor = _template_only(merged.processor)
                write(merged, export)
                del merged
                built = _built(engine, engine.built_with(export, device, arguments))
            try:
                yield built
            finally:
                _close(built)
                del built
                _free(device)

    live = MordalVLM.from_live(vlm.model, vlm.processor, tasks=tasks, clock=own)
    return EngineModel(engine, live, opened, own)


@contextmanager
def off_device(model: PreTrainedModel, device: torch.device) -> Iterator[None]:
    """Keep a model in the host's memory meanwhile; its parameters stay the same objects.

    The optimiser refers to them. Its state, 8 bytes per trained parameter, stays on the device.

    Args:
        model: the model.
        device: device of the model, to which it returns.
    """
    _move(model, torch.device("cpu"))
    _free(device)
    try:
        yield
    finally:
        _move(model, device)


def _move(model: PreTrainedModel, device: torch.device) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.data.to(device)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _built(engine: Engine, arguments: Mapping[str, Any]) -> lmms:
    """The engine, built by its name in lmms-eval.

    Raises:
        ModelError: if its constructor refuses the arguments.
    """
    try:
        model: lmms = get_model(engine.name)(**arguments)
    except (AssertionError, ImportError) as error:  # by which lmms-eval's models refuse
        raise ModelError(engine.name, f"cannot be opened as an engine ({error})") from error
    return model


def _close(built: lmms) -> None:
    """Shut an engine's processes down, where it has some."""
    shutdown = getattr(getattr(built, "client", None), "shutdown", None)
    if shutdown:
        shutdown()


def _template_only(processor: ProcessorMixin) -> ProcessorMixin:
    """A copy of a processor whose tokenizer adds no token to prompts, as in alignment.

    Engines let the tokenizer add BOS, which the template may have written already.
    """
    own = copy.deepcopy(processor)
    own.tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    for name in ("add_bos_token", "add_eos_token"):
        if hasattr(own.tokenizer, name):
            setattr(own.tokenizer, name, False)
    return own


def _spread(requests: Sequence[Instance], most: int) -> list[int]:
    """Indices of at most so many requests of each task, evenly spread."""
    by_task: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
        by_task.setdefault(str(request.args[4]), []).append(number)
    chosen = []
    for numbers in by_task.values():
        count = min(most, len(numbers))
        chosen += [numbers[n * len(numbers) // count] for n in range(count)]
    return chosen
