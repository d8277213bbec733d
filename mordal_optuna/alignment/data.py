"""The alignment set: LLaVA's conversation format, in one fixed order for all candidates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mordal_optuna.alignment.template import IMAGE_TOKEN
from mordal_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.alignment.assemble import Vlm

# Positions with this label are not trained on, as everywhere in torch and transformers.
IGNORED = -100
_ROLES = {"human": "user", "gpt": "assistant"}


class _Turn(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)
    speaker: str = Field(alias="from", pattern="^(human|gpt)$")
    value: str


class _Record(BaseModel):
    """One entry of the file; keys that are not listed here are not needed and passed over."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)
    id: str
    image: str | None = None
    conversations: tuple[_Turn, ...] = Field(min_length=2)


class Message(TypedDict):
    """One turn, as chat templates want it."""

    role: str
    content: list[dict[str, str]]


class Batch(TypedDict):
    """What the model is fed; sequences are padded on the right."""

    input_ids: torch.Tensor  # samples x tokens
    attention_mask: torch.Tensor  # samples x tokens
    labels: torch.Tensor  # samples x tokens, IGNORED where nothing is trained
    pixel_values: NotRequired[torch.Tensor]  # images x channels x height x width


@dataclass(frozen=True)
class Sample:
    """One conversation.

    Attributes:
        id: as in the file.
        image: its picture; None for a text-only sample.
        messages: the turns, user and assistant alternating, answers last.
    """

    id: str
    image: Path | None
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Encoded:
    """A sample as one candidate reads it.

    Attributes:
        ids: token ids, every image expanded to its placeholders.
        labels: the same ids where they are trained, IGNORED elsewhere.
        image: its picture; None for a text-only sample.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    image: Path | None


class AlignmentSet:
    """Samples in the order of one fixed permutation.

    The order depends on the seed and the number of records alone, so r = 1/16 is a prefix of
    r = 1/8 and all candidates see the same samples at the same step.
    """

    def __init__(self, records: Sequence[_Record], images: Path, *, seed: int, size: int) -> None:
        """Hold checked records; see `read`.

        Args:
            records: all records of the file.
            images: folder of their images.
            seed: of the permutation.
            size: D, how many of them make a full alignment.
        """
        self._records = records
        self._images = images
        self._order = np.random.default_rng(seed).permutation(len(records))[:size]
        self.digest = self._digest()

    @classmethod
    def read(
        cls,
        conversations: Path,
        images: Path,
        *,
        seed: int,
        samples: int | None,
        batch_size: int,
    ) -> AlignmentSet:
        """Read and check an alignment set.

        Args:
            conversations: JSON list of records with `id`, `image` and `conversations`.
            images: folder the image names are relative to.
            seed: of the order.
            samples: D; None takes all records, cut to whole batches.
            batch_size: samples per optimiser step.

        Raises:
            DataError: if the file is broken, too small, or images are missing.
        """
        records = _read_records(conversations)
        size = len(records) // batch_size * batch_size if samples is None else samples
        if not 0 < size <= len(records):
            raise DataError(
                str(conversations),
                f"holds {len(records)} samples; a full alignment needs {size or batch_size}",
            )
        missing = [r.image for r in records if r.image and not (images / r.image).is_file()]
        if missing:
            raise DataError(
                str(images),
                f"{len(missing)} of the images named in {str(conversations)!r} are missing, such "
                f"as {missing[0]!r}; every image must be there",
            )
        return cls(records, images, seed=seed, size=size)

    def __len__(self) -> int:
        """D, the size of one full alignment."""
        return len(self._order)

    def sample(self, index: int) -> Sample:
        """The sample at a position of the fixed order."""
        record = self._records[int(self._order[index])]
        image = self._images / record.image if record.image else None
        return Sample(record.id, image, _messages(record))

    def _digest(self) -> str:
        content = hashlib.sha256()
        for index in self._order:
            content.update(self._records[int(index)].model_dump_json().encode())
        return content.hexdigest()


class Collator:
    """Turns samples into batches for one candidate."""

    def __init__(self, vlm: Vlm, *, max_length: int) -> None:
        """Collate for a candidate.

        Args:
            vlm: gives tokenizer, template, image processor and the placeholders per image.
            max_length: longest sequence in tokens, image tokens included.
        """
        self._processor = vlm.processor
        self._tokenizer = vlm.processor.tokenizer
        self._image_id = vlm.model.config.image_token_index
        self._image_tokens = vlm.image_tokens
        self._max_length = max_length

    def __call__(self, samples: Sequence[Encoded]) -> Batch:
        """Build a batch.

        Raises:
            DataError: for an image that cannot be decoded.
        """
        shape = (len(samples), max(len(sample.ids) for sample in samples))
        input_ids = torch.full(shape, self._tokenizer.pad_token_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED)
        for row, sample in enumerate(samples):
            length = len(sample.ids)
            input_ids[row, :length] = torch.tensor(sample.ids)
            attention_mask[row, :length] = 1
            labels[row, :length] = torch.tensor(sample.labels)
        batch = Batch(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
        images = [open_image(sample.image) for sample in samples if sample.image]
        if images:
            processed = self._processor.image_processor(images=images, return_tensors="pt")
            batch["pixel_values"] = processed["pixel_values"]
        return batch

    def encode(self, sample: Sample) -> Encoded:
        """Token ids and labels of a sample; exactly the answers and what ends them are trained.

        Every turn is tokenised by itself, as generation meets it: the prompt ends where the
        answer begins.

        Raises:
            DataError: for a sample that is too long or has nothing to train on.
        """
        ids: list[int] = []
        labels: list[int] = []
        done = ""
        for end in range(1, len(sample.messages), 2):
            prompt = self._render(sample.messages[:end], prompt=True)
            whole = self._render(sample.messages[: end + 1], prompt=False)
            if not (prompt.startswith(done) and whole.startswith(prompt)):
                raise DataError(
                    sample.id,
                    "its chat template rewrites earlier turns when a new one is added; a template "
                    "must only append",
                )
            context = self._expand(self._tokens(prompt[len(done) :]))
            answer = self._tokens(whole[len(prompt) :])
            ids += context + answer
            labels += [IGNORED] * len(context) + answer
            done = whole
        self._check(sample, ids, labels)
        return Encoded(tuple(ids), tuple(labels), sample.image)

    def _check(self, sample: Sample, ids: list[int], labels: list[int]) -> None:
        if all(label == IGNORED for label in labels):
            raise DataError(sample.id, "has no answer tokens; a sample must have an answer")
        if len(ids) > self._max_length:
            raise DataError(
                sample.id, f"takes {len(ids)} tokens; max_length allows {self._max_length}"
            )
        images = ids.count(self._image_id)
        expected = self._image_tokens if sample.image else 0
        if images != expected:
            raise DataError(
                sample.id,
                f"has {images} image placeholders; a sample with{'' if sample.image else 'out'} "
                f"an image needs {expected}",
            )

    def _render(self, messages: Sequence[Message], *, prompt: bool) -> str:
        rendered: str = self._processor.apply_chat_template(
            list(messages), add_generation_prompt=prompt, tokenize=False
        )
        return rendered

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _expand(self, ids: list[int]) -> list[int]:
        repeated = [
            [token] * (self._image_tokens if token == self._image_id else 1) for token in ids
        ]
        return [token for run in repeated for token in run]


def open_image(path: Path) -> Image.Image:
    """Decode an image to RGB.

    Raises:
        DataError: if it cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(str(path), f"is no image that can be decoded ({error})") from error


def _read_records(path: Path) -> list[_Record]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(str(path), f"cannot be read as JSON ({error})") from error
    try:
        return TypeAdapter(list[_Record]).validate_python(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise DataError(
            str(path),
            f"entry {where}: {problem['msg'].lower()}; LLaVA's format is a list of records with "
            "id, image and conversations of human and gpt turns",
        ) from error


def _messages(record: _Record) -> tuple[Message, ...]:
    messages = []
    for number, turn in enumerate(record.conversations):
        expected = ("human", "gpt")[number % 2]
        if turn.speaker != expected:
            raise DataError(
                record.id, f"turn {number} is by {turn.speaker!r}; turns must alternate from human"
            )
        text = turn.value.replace(IMAGE_TOKEN, "").strip()
        parts = [{"type": "text", "text": text}]
        if number == 0 and record.image:
            parts.insert(0, {"type": "image"})
        messages.append(Message(role=_ROLES[turn.speaker], content=parts))
    if len(messages) % 2:
        raise DataError(record.id, "ends with a question; the last turn must be an answer")
    return tuple(messages)
