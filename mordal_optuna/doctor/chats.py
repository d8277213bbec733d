"""An LLM's tokenizer and chat template, with what training makes of the study's own samples.

What the loss would get is looked at, not what should lead to it: the targets of the batches that
training makes. A run is a row of targets without a gap, which is one answer of the assistant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from mordal_optuna.alignment.batches import Share, micro_batches
from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.alignment.memory import TokenBudget
from mordal_optuna.alignment.samples import Sample
from mordal_optuna.doctor.findings import ok
from mordal_optuna.errors import ModelError
from mordal_optuna.models.generation import load_chat, own_generation
from mordal_optuna.models.template import IMAGE_TOKEN, joined_parts
from mordal_optuna.models.turns import Turns, stop_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.samples import Message
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.doctor.findings import Verdict
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.generation import Chat
    from mordal_optuna.pool import ModelSource

# Samples that are rendered and compared in detail: those with the most turns. The first few are
# also joined to one conversation, so that one of several turns is among them.
_PROBED, _JOINED = 16, 3


@dataclass(frozen=True)
class Answer:
    """An answer of the alignment data, and what is trained of it.

    Attributes:
        said: text of the assistant's turn.
        ids: targets of the loss.
        last: whether it ends its conversation.
    """

    said: str
    ids: tuple[int, ...]
    last: bool


@dataclass(frozen=True)
class OpenChat:
    """An LLM's tokenizer and template, with what they will be used on.

    Attributes:
        source: the LLM.
        chat: tokenizer and chat template.
        stops: tokens that end a generated answer.
        samples: the first samples of the alignment data.
        tasks: all tasks of the study that could be built.
        recipe: alignment recipe, adapted to the data.
        image_tokens: placeholders of one image, of the encoder with the most.
    """

    source: ModelSource
    chat: Chat
    stops: frozenset[int]
    samples: tuple[Sample, ...]
    tasks: tuple[Task, ...]
    recipe: AlignmentSettings
    image_tokens: int

    @cached_property
    def turns(self) -> Turns:
        """Renders conversations by the LLM's template."""
        return Turns(self.chat)

    @cached_property
    def probes(self) -> list[Sample]:
        """The samples with the most turns, and the first few samples as one conversation."""
        longest = sorted(self.samples, key=lambda sample: -len(sample.messages))[:_PROBED]
        return [*longest, _joined(self.samples[:_JOINED])]

    @cached_property
    def image_id(self) -> int:
        """Id of the placeholder of an image."""
        return int(self.chat.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))

    @cached_property
    def conversations(self) -> Conversations:
        """Tokenises conversations, with one placeholder for each image."""
        return Conversations.of_chat(self.chat, self.image_id, max_length=2**31 - 1)

    @cached_property
    def answers(self) -> tuple[tuple[Answer, ...], int]:
        """All answers of the probes, and the number of their tokens, questions included.

        Raises:
            UnusableError: if a sample cannot be rendered.
            ModelError: if a sample has not as many runs of targets as answers.
        """
        answers: list[Answer] = []
        tokens = 0
        for sample in self.probes:
            said = [joined_parts(m["content"]) for m in sample.messages if is_answer(m)]
            length, runs = self._targets(sample)
            tokens += length
            if len(runs) != len(said):
                raise ModelError(
                    self.source.name,
                    f"of the {len(said)} answers of sample {sample.id!r} {len(runs)} are trained; "
                    "all must be",
                )
            ends = [number == len(said) for number in range(1, len(said) + 1)]
            answers += map(Answer, said, map(tuple, runs), ends)
        return tuple(answers), tokens

    def decoded(self, ids: Sequence[int]) -> str:
        """Tokens as the text that a generated answer would have.

        Args:
            ids: token ids.
        """
        said = [token for token in ids if token not in self.stops]
        return str(self.chat.tokenizer.decode(said, skip_special_tokens=True))

    def raw(self, ids: Sequence[int]) -> str:
        """Tokens as text with special tokens.

        Args:
            ids: token ids.
        """
        return str(self.chat.tokenizer.decode(list(ids)))

    def _targets(self, sample: Sample) -> tuple[int, list[list[int]]]:
        """Number of tokens of a sample, and the runs of targets in the batch that trains it."""
        encoded = self.conversations.encode(sample)
        share = Share([encoded], [], int(encoded.trained.sum()))
        (batch,) = micro_batches(
            share,
            [torch.empty(0)],
            self.conversations,
            budget=TokenBudget(1, None),
            batching="grouped",
            pad_id=self.chat.tokenizer.pad_token_id,
        )
        gaps = np.flatnonzero(np.diff(batch["places"].numpy()) > 1) + 1
        runs = [run.tolist() for run in np.split(batch["targets"].numpy(), gaps)]
        return encoded.length, [run for run in runs if run]


def open_chat(
    source: ModelSource,
    samples: tuple[Sample, ...],
    tasks: tuple[Task, ...],
    recipe: AlignmentSettings,
    image_tokens: int,
) -> tuple[OpenChat, Verdict]:
    """Load an LLM's tokenizer and chat template.

    Args:
        source: the LLM.
        samples: the first samples of the alignment data.
        tasks: all tasks of the study that could be built.
        recipe: alignment recipe, adapted to the data.
        image_tokens: placeholders of one image, of the encoder with the most.

    Raises:
        ModelError: if they cannot be loaded.
    """
    chat = load_chat(source)
    stops = frozenset(stop_tokens(chat, own_generation(source)))
    named = "the study file's" if source.template.text else "its own"
    template = named if source.template.text or chat.tokenizer.chat_template else "the default"
    opened = OpenChat(source, chat, stops, samples, tasks, recipe, image_tokens)
    return opened, ok(f"{len(chat.tokenizer):,} tokens; {template} chat template")


def is_answer(message: Message) -> bool:
    """Whether a turn is the assistant's.

    Args:
        message: the turn.
    """
    return message["role"] == "assistant"


def _joined(samples: Sequence[Sample]) -> Sample:
    """Samples as one conversation; a system prompt stands before the first question alone."""
    turns = [
        message
        for number, sample in enumerate(samples)
        for message in sample.messages
        if number == 0 or message["role"] != "system"
    ]
    return Sample(f"the first {len(samples)} samples together", tuple(turns))
