"""lmms-eval chat model: batched generation with any LLaVA-style model, live or from disk."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from torch.distributed.fsdp import FSDPModule

from mordal_optuna.alignment.revive import checkpoint_at, revive
from mordal_optuna.alignment.timing import Clock
from mordal_optuna.errors import EvaluationError, ModelError
from mordal_optuna.evaluation.answers import Answerer
from mordal_optuna.evaluation.documents import picture_keys
from mordal_optuna.evaluation.prefetch import prepared_ahead, threads
from mordal_optuna.evaluation.questions import Ask, Question, Reply, by_settings, longest_first
from mordal_optuna.evaluation.sizes import BatchSize
from mordal_optuna.evaluation.task import ANSWER_TOKENS
from mordal_optuna.models.prompts import leaves_tokens_to_tokenizer
from mordal_optuna.models.turns import stop_tokens
from mordal_optuna.processes.channel import Channel
from mordal_optuna.processes.group import Processes
from mordal_optuna.processes.outages import raised_as

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from lmms_eval.api.instance import GenerationResult, Instance
    from transformers import PreTrainedModel, ProcessorMixin

    from mordal_optuna.evaluation.answers import Answer
    from mordal_optuna.evaluation.reading import Prompt
    from mordal_optuna.evaluation.task import Task

    Reader = Callable[[Any], Any]


# What a document or a model raises that cannot be answered.
_FAILURES = (RuntimeError, ValueError, IndexError, KeyError, OSError, TypeError)


class MordalVLM(lmms):
    """A vision-language model for lmms-eval, named `mordal_vlm` on its command line.

    Answers do not depend on the batch size. Generation is greedy unless the task says otherwise;
    of the model's own generation settings only the stop tokens are used. Answers end at a stop
    token, see `stop_tokens`, or at the task's stop strings. A document that cannot be answered
    fails the evaluation.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        max_new_tokens: int = ANSWER_TOKENS,
        max_batch_size: int | str | None = None,  # noqa: ARG002 - lmms-eval's CLI always gives it
        *,
        trust_remote_code: bool = False,
    ) -> None:
        """Load a model as lmms-eval's command line does.

        Args:
            pretrained: folder or hub id of a LLaVA-style model with its processor; or a checkpoint
                of a study, `<checkpoints>/<run>/<samples>`, whose vision encoder and LLM are
                loaded from the locations in its study file.
            batch_size: number of documents generated for at once; `auto` to find it from the
                memory of a CUDA device.
            device: torch device; None for the accelerator if there is one, else the CPU.
            dtype: dtype of the weights; `auto` for the stored dtype. Checkpoints of a study always
                use the study's precision.
            revision: commit, tag or branch on the hub.
            max_new_tokens: token limit for tasks that set none.
            max_batch_size: ignored; lmms-eval's command line always passes it.
            trust_remote_code: whether code shipped with a checkpoint's models may run.

        Raises:
            ModelError: if the model cannot be loaded.
            CheckpointError: if a checkpoint is damaged, or its models have changed.
        """
        where = torch.device(device) if device else _process_device()
        if checkpoint_at(pretrained):
            vlm = revive(pretrained, device=where, trust_remote_code=trust_remote_code)
            model, processor, adds = vlm.model, vlm.processor, False
        else:
            model, processor = _load(pretrained, revision or "main", dtype)
            adds = leaves_tokens_to_tokenizer(model.config, processor)
        size = batch_size if batch_size == "auto" else int(batch_size)
        self._hold(model.to(where).eval(), processor, size, max_new_tokens, adds)

    @classmethod
    def from_live(
        cls,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        tasks: Sequence[Task],
        max_new_tokens: int = ANSWER_TOKENS,
        processes: Processes | None = None,
        clock: Clock | None = None,
    ) -> MordalVLM:
        """Wrap a model that is already in memory; its state is unchanged after the evaluation.

        Args:
            model: a model with `generate`.
            processor: tokenizer, image processor and chat template of the model.
            tasks: tasks on which the model will be scored.
            max_new_tokens: token limit for tasks that set none.
            processes: processes that hold the same model and share the documents; None for a
                single process.
            clock: counts where the time goes; None if nobody reads it.
        """
        held = cls.__new__(cls)
        held._hold(model, processor, 1, max_new_tokens)
        held._clock = clock or held._clock
        for task in tasks:
            held._tasks[task.name] = task
            held.task_dict[task.name] = task.live.dataset
        if processes is not None:  # lmms-eval must see a single process
            held._processes = processes
            held._rank, held._world_size = 0, 1
        return held

    def _hold(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        batch_size: int | str,
        max_new_tokens: int,
        adds_special_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self._adds_special_tokens = adds_special_tokens
        self._tasks: dict[str, Task] = {}
        self._sizes: dict[str, BatchSize] = {}
        # By task and document: -ln p of the reference answer, and whether the answer was cut at
        # the token limit. By task: seconds spent.
        self.likelihoods: dict[tuple[str, int], float] = {}
        self.cut: dict[tuple[str, int], bool] = {}
        self.seconds: dict[str, float] = {}
        self._stops = stop_tokens(processor, model.generation_config)
        self._processes = Processes()
        self._clock = Clock(self.device)
        self._rank = _environment("RANK", 0)
        self._world_size = _environment("WORLD_SIZE", 1)

    @property
    def device(self) -> torch.device:
        """Torch device of the model."""
        return next(self.model.parameters()).device

    def clean(self) -> None:
        """Do nothing: lmms-eval's implementation deletes the model, which is still needed."""

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Rank 0: answer all requests, of which every rank answers a share.

        Args:
            requests: requests of lmms-eval.

        Returns:
            The answers, in the order of the requests.

        Raises:
            EvaluationError: naming the task and the document that could not be answered.
        """
        asked = [Question.of(request) for request in requests]
        readers = [request.args[1] for request in requests]
        return self._channel.run(Ask(tuple(asked)), lambda: self._answer_share(asked, readers))

    def follow(self) -> None:
        """Other ranks: answer a share of each list of questions, until rank 0 stops.

        Raises:
            EvaluationError: if a document could not be answered, on any rank; raised after rank 0
                has stopped.
        """
        failure = self._channel.follow(self._answer_questions)
        if failure:
            raise failure

    def stop_followers(self) -> None:
        """Rank 0: let the other ranks leave `follow`."""
        self._channel.stop()

    @property
    def _sharded(self) -> bool:
        return any(isinstance(module, FSDPModule) for module in self.model.modules())

    @property
    def _channel(self) -> Channel[Ask]:
        return Channel(self._processes)

    def _answer_questions(self, message: Ask) -> None:
        readers = [self._tasks[q.task].live.doc_to_messages for q in message.questions]
        self._answer_share(message.questions, readers)

    def _answer_share(
        self, asked: Sequence[Question], readers: Sequence[Reader]
    ) -> list[GenerationResult]:
        share = range(self._processes.rank, len(asked), self._processes.world_size)
        if self._sharded:
            # Every forward pass gathers the layers from all ranks, so all must run the same ones.
            share = range(len(asked))
        replies: dict[int, Reply] = {}
        names = ", ".join(sorted({question.task for question in asked}))
        with (
            raised_as(lambda reason: EvaluationError(names, f"failed ({reason})")),
            _evaluating(self.model),
            self._clock.span("generating"),
        ):
            for task, settings, indices in by_settings(asked, share):
                start = perf_counter()
                replies.update(self._replies(task, settings, indices, asked, readers))
                spent = perf_counter() - start
                self.seconds[task] = self.seconds.get(task, 0.0) + spent
        for gathered in self._processes.gather(replies):
            replies.update(gathered)
        for index, question in enumerate(asked):
            reply, key = replies[index], (question.task, question.document)
            self.cut[key] = reply.cut
            if reply.likelihood is not None:
                self.likelihoods[key] = reply.likelihood
        return [replies[i].result for i in range(len(asked))]

    def _replies(
        self,
        task: str,
        settings: str,
        indices: Sequence[int],
        asked: Sequence[Question],
        readers: Sequence[Reader],
    ) -> Iterator[tuple[int, Reply]]:
        """Replies to questions of one task with the same generation arguments."""
        options = json.loads(settings)
        left = longest_first(asked, indices, self._pictures(asked[indices[0]]))
        size = self._sizes.setdefault(task, BatchSize(self._asked(task), self.device))
        while left:
            portion = left[: size.portion(len(left))]
            answered, fitted = set(), True
            try:
                for index, answer in self._answers(portion, asked, readers, options, size.now):
                    answered.add(index)
                    yield index, Reply.of(answer, options.get("until") or [])
            except torch.OutOfMemoryError as error:
                missing = [i for i in portion if i not in answered]
                self._refuse_to_shrink(task, asked[missing[0]].document, size.now, error)
                fitted = False
            # Outside the handler, whose error holds the activations in memory.
            if fitted:
                size.succeed()
            else:
                size.fail()
            left = [i for i in left if i not in answered]

    def _answers(
        self,
        portion: Sequence[int],
        asked: Sequence[Question],
        readers: Sequence[Reader],
        options: dict[str, Any],
        size: int,
    ) -> Iterator[tuple[int, Answer]]:
        """Answers with the indices of their questions, in the order in which they end."""
        answerer = Answerer(
            self.model, self.processor, adds_special_tokens=self._adds_special_tokens
        )
        open_ = dict.fromkeys(asked[i].document for i in portion)
        task, generation = asked[portion[0]].task, self._generation(options)

        def prepare(index: int) -> Prompt:
            return self._prompt(answerer, asked[index], readers[index])

        workers = threads(self._processes.world_size)
        with prepared_ahead(prepare, portion, ahead=size + workers, workers=workers) as prompts:
            try:
                for number, answer in answerer.stream(self._awaited(prompts), generation, size):
                    open_.pop(asked[portion[number]].document, None)
                    yield portion[number], answer
            except torch.OutOfMemoryError:
                raise
            except _FAILURES as error:
                named = sorted(list(open_)[:size])
                raise EvaluationError(
                    task, f"documents {named} cannot be answered ({error})"
                ) from error

    def _awaited(self, prompts: Iterator[Prompt]) -> Iterator[Prompt]:
        """The prompts; the time until each is ready counts as `reading`."""
        while True:
            with self._clock.span("reading"):
                prompt = next(prompts, None)
            if prompt is None:
                return
            yield prompt

    def _prompt(self, answerer: Answerer, asked: Question, reader: Reader) -> Prompt:
        """A document as a prompt; called by threads ahead of the device."""
        built = self._tasks.get(asked.task)
        try:
            document = self.task_dict[asked.task][asked.split][asked.document]
            conversation = ChatMessages(messages=reader(document))
            reference = None
            if built is not None and built.likelihood:
                reference = built.reference(asked.document)
            return answerer.prepare(conversation, reference)
        except _FAILURES as error:
            raise EvaluationError(
                asked.task, f"document {asked.document} cannot be answered ({error})"
            ) from error

    def _pictures(self, asked: Question) -> Sequence[Hashable] | None:
        """What distinguishes the pictures of a task's documents; None if it is not known."""
        if asked.task in self._tasks:
            task = self._tasks[asked.task]
            return task.clusters or range(len(task.documents))
        return picture_keys(self.task_dict[asked.task][asked.split])

    def _asked(self, task: str) -> int | None:
        """Number of documents at once that was asked for; None to find it from the memory."""
        if task in self._tasks:
            return self._tasks[task].batch_size
        return None if self.batch_size == "auto" else int(self.batch_size)

    def _refuse_to_shrink(
        self, task: str, document: int, size: int, error: torch.OutOfMemoryError
    ) -> None:
        if self._sharded:  # the other ranks are in the midst of the same batch
            raise EvaluationError(
                task,
                f"{size} documents at once do not fit the memory of process "
                f"{self._processes.rank}; use a smaller batch_size of the task ({error})",
            ) from error
        if size == 1:
            raise EvaluationError(
                task, f"document {document} alone does not fit the memory ({error})"
            ) from error

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Not supported.

        Raises:
            EvaluationError: always.
        """
        self._refuse("loglikelihood", requests)

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Not supported.

        Raises:
            EvaluationError: always.
        """
        self._refuse("generate_until_multi_round", requests)

    def _refuse(self, kind: str, requests: list[Instance]) -> NoReturn:
        task = str(requests[0].task_name) if requests else "?"
        raise EvaluationError(
            task, f"asks for {kind}; mordal_vlm answers tasks with output_type generate_until"
        )

    def _generation(self, options: dict[str, Any]) -> dict[str, Any]:
        """Fields of a generation configuration from the generation options of a task."""
        tokenizer = self.processor.tokenizer
        chosen: dict[str, Any] = {
            "max_new_tokens": options.get("max_new_tokens", self.max_new_tokens),
            "num_beams": options.get("num_beams", 1),
            "do_sample": bool(options.get("do_sample", False)),
            "eos_token_id": self._stops,
            "pad_token_id": tokenizer.pad_token_id,
        }
        if chosen["do_sample"]:
            chosen["temperature"] = options.get("temperature", 1.0)
            chosen["top_p"] = options.get("top_p", 1.0)
        return chosen


def _load(pretrained: str, revision: str, dtype: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model and its processor; exports of `PatchLlava` use our class, not their copy of it."""
    from transformers import AutoModelForImageTextToText, LlavaProcessor, PreTrainedConfig

    from mordal_optuna.models.llava import PatchLlavaConfig, PatchLlavaForConditionalGeneration

    try:
        settings, _ = PreTrainedConfig.get_config_dict(pretrained, revision=revision)
        ours = settings.get("model_type") == PatchLlavaConfig.model_type
        kind = PatchLlavaForConditionalGeneration if ours else AutoModelForImageTextToText
        model = kind.from_pretrained(
            pretrained, revision=revision, dtype=dtype, use_safetensors=True
        )
        processor = LlavaProcessor.from_pretrained(pretrained, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            pretrained,
            f"cannot be loaded ({reason}); it must be a LLaVA-style folder or hub id",
        ) from error
    return model, processor


def _process_device() -> torch.device:
    """The accelerator of this process; the CPU if there is none."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, _environment("LOCAL_RANK", 0))


def _environment(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into evaluation mode; restore the mode of every module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
