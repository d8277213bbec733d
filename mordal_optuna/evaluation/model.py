"""The lmms-eval chat model: batched generation with any LLaVA-style model, live or from disk."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages

from mordal_optuna.errors import EvaluationError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lmms_eval.api.instance import Instance
    from transformers import PreTrainedModel, ProcessorMixin


class MordalVLM(lmms):
    """A vision-language model for lmms-eval, named `mordal_vlm` on its command line.

    Answers of a batch are those one by one: greedy unless the task says otherwise, padded on the
    left, cut at the task's stop strings. A document that cannot be answered fails the evaluation.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        max_new_tokens: int = 64,
        max_batch_size: int | str | None = None,  # noqa: ARG002 - lmms-eval's CLI always gives it
    ) -> None:
        """Load a model as lmms-eval's command line does.

        Args:
            pretrained: folder or hub id of a LLaVA-style model with its processor.
            batch_size: documents generated for at once.
            device: torch device; the accelerator where there is one.
            dtype: of the weights; `auto` takes the checkpoint's.
            revision: on the hub.
            max_new_tokens: where the task sets none.
            max_batch_size: accepted for lmms-eval's sake; batches never grow by themselves.

        Raises:
            ModelError: if the model cannot be loaded.
        """
        where = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
        model, processor = _load(pretrained, revision or "main", dtype)
        self._hold(model.to(where).eval(), processor, int(batch_size), max_new_tokens)

    @classmethod
    def from_live(
        cls,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        batch_size: int,
        max_new_tokens: int = 64,
    ) -> MordalVLM:
        """Wrap a model that is already in memory; it is left as it was after the evaluation.

        Args:
            model: has `generate`.
            processor: carries tokenizer, image processor and chat template.
            batch_size: documents generated for at once.
            max_new_tokens: where the task sets none.
        """
        held = cls.__new__(cls)
        held._hold(model, processor, batch_size, max_new_tokens)
        return held

    def _hold(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        batch_size: int,
        max_new_tokens: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self._rank = _environment("RANK", 0)
        self._world_size = _environment("WORLD_SIZE", 1)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    def clean(self) -> None:
        """Do nothing: lmms-eval's own version deletes the model, which is still needed."""

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer all requests, in their order.

        Raises:
            EvaluationError: naming the task and the document that could not be answered.
        """
        answers: dict[int, GenerationResult] = {}
        with _evaluating(self.model):
            for settings, indices in _by_settings(requests).items():
                options = json.loads(settings)
                for start in range(0, len(indices), self.batch_size):
                    chunk = indices[start : start + self.batch_size]
                    texts = self._answer([requests[i] for i in chunk], options)
                    answers.update(zip(chunk, texts, strict=True))
        return [answers[i] for i in range(len(requests))]

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Not offered.

        Raises:
            EvaluationError: always.
        """
        self._refuse("loglikelihood", requests)

    def generate_until_multi_round(self, requests: list[Instance]) -> NoReturn:
        """Not offered.

        Raises:
            EvaluationError: always.
        """
        self._refuse("generate_until_multi_round", requests)

    def _refuse(self, kind: str, requests: list[Instance]) -> NoReturn:
        task = str(requests[0].task_name) if requests else "?"
        raise EvaluationError(
            task, f"asks for {kind}; mordal_vlm answers tasks with output_type generate_until"
        )

    def _answer(
        self, requests: Sequence[Instance], options: dict[str, Any]
    ) -> list[GenerationResult]:
        task, documents = requests[0].args[4], [request.args[3] for request in requests]
        try:
            inputs = self._inputs([self._messages(request) for request in requests])
            with torch.inference_mode():
                output = self.model.generate(**inputs, **self._generation(options))
        except (RuntimeError, ValueError, IndexError, KeyError, OSError, TypeError) as error:
            raise EvaluationError(
                str(task), f"documents {documents} cannot be answered ({error})"
            ) from error
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        pad = self.processor.tokenizer.pad_token_id
        counts = [int((row != pad).sum()) for row in new]
        return [
            GenerationResult(_cut(text, options.get("until") or []), TokenCounts(output_tokens=n))
            for text, n in zip(texts, counts, strict=True)
        ]

    def _messages(self, request: Instance) -> ChatMessages:
        _, doc_to_messages, _, doc_id, task, split = request.args
        return ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc_id]))

    def _inputs(self, conversations: Sequence[ChatMessages]) -> dict[str, torch.Tensor]:
        texts, images = [], []
        for conversation in conversations:
            media, videos, audios = conversation.extract_media()
            if videos or audios:
                raise ValueError("it holds video or audio; images and text are supported")
            images += media
            texts.append(
                self.processor.apply_chat_template(
                    conversation.to_hf_messages(), add_generation_prompt=True, tokenize=False
                )
            )
        inputs = self.processor(
            text=texts,
            images=[image.convert("RGB") for image in images] or None,
            padding=True,
            padding_side="left",
            add_special_tokens=False,  # the template has written them
            return_tensors="pt",
        )
        inputs = inputs.to(self.device)
        if "pixel_values" in inputs:
            tower = next(self.model.model.vision_tower.parameters())
            inputs["pixel_values"] = inputs["pixel_values"].to(tower.dtype)
        return {
            key: inputs[key]
            for key in ("input_ids", "attention_mask", "pixel_values")
            if key in inputs
        }

    def _generation(self, options: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `generate`, from what the task asks for."""
        tokenizer = self.processor.tokenizer
        chosen: dict[str, Any] = {
            "max_new_tokens": options.get("max_new_tokens", self.max_new_tokens),
            "num_beams": options.get("num_beams", 1),
            "do_sample": bool(options.get("do_sample", False)),
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        if chosen["do_sample"]:
            chosen["temperature"] = options.get("temperature", 1.0)
            chosen["top_p"] = options.get("top_p", 1.0)
        return chosen


def _load(pretrained: str, revision: str, dtype: str) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A model and its processor; exports that need our own class get it, not their copy of it."""
    from transformers import AutoModelForImageTextToText, LlavaProcessor, PreTrainedConfig

    from mordal_optuna.alignment.llava import PatchLlavaConfig, PatchLlavaForConditionalGeneration

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


def _by_settings(requests: Sequence[Instance]) -> dict[str, list[int]]:
    """Indices of requests that share their generation arguments, in order of appearance."""
    groups: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(json.dumps(request.args[2], sort_keys=True), []).append(index)
    return groups


def _cut(text: str, until: Sequence[str] | str) -> str:
    """The text up to the first stop string."""
    for stop in [until] if isinstance(until, str) else until:
        if stop:
            text = text.split(stop)[0]
    return text.strip()


def _environment(name: str, default: int) -> int:
    import os

    return int(os.environ.get(name, default))


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode inside, the mode of every module as before outside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
