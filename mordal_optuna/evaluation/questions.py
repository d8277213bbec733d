"""Requests of lmms-eval in a form that other processes understand, and their answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmms_eval.api.instance import GenerationResult, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from lmms_eval.api.instance import Instance

    from mordal_optuna.evaluation.answers import Answer


@dataclass(frozen=True)
class Question:
    """A request as it can be sent to another process, which has the same tasks.

    Attributes:
        task: name of the task.
        split: name of the split.
        document: number of the document in the split.
        settings: generation arguments as JSON.
        length: characters of the question's text.
    """

    task: str
    split: str
    document: int
    settings: str
    length: int

    @classmethod
    def of(cls, request: Instance) -> Question:
        """The question of a request.

        Args:
            request: a request of lmms-eval's `generate_until` for chat models.
        """
        text, _, settings, document, task, split = request.args
        given = json.dumps(settings, sort_keys=True)
        return cls(str(task), str(split), int(document), given, len(str(text)))


@dataclass(frozen=True)
class Ask:
    """Message of rank 0: answer this rank's share of the questions."""

    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Reply:
    """An answer, and -ln p of the reference answer where it was asked for."""

    result: GenerationResult
    likelihood: float | None
    cut: bool

    @classmethod
    def of(cls, answer: Answer, stops: Sequence[str] | str) -> Reply:
        """The answer up to the first stop string; one that has reached it was not cut."""
        text = up_to_stop(answer.text, stops)
        result = GenerationResult(text, TokenCounts(output_tokens=answer.tokens))
        stopped = text != answer.text.strip()
        return cls(result, answer.likelihood, answer.cut and not stopped)


def by_settings(asked: Sequence[Question], own: Sequence[int]) -> list[tuple[str, str, list[int]]]:
    """Tasks, generation arguments, and indices of the questions that share both.

    Args:
        asked: all questions.
        own: indices of the questions to group.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index in own:
        groups.setdefault((asked[index].task, asked[index].settings), []).append(index)
    return [(task, settings, indices) for (task, settings), indices in groups.items()]


def longest_first(
    asked: Sequence[Question], own: Sequence[int], pictures: Sequence[Hashable] | None
) -> list[int]:
    """Indices in the order in which they are best answered.

    Questions of similar length come together, so that there is little padding; the longest come
    first, so that memory runs out early if it does. Questions on one picture stay together, since
    they share its keys and values.

    Args:
        asked: all questions.
        own: indices to sort.
        pictures: what distinguishes the pictures of the split's documents; None if it is not
            known: the given order, in which most tasks have questions on one picture together, is
            kept then.
    """
    if pictures is None:
        return list(own)
    longest: dict[Hashable, int] = {}
    for index in own:
        picture = pictures[asked[index].document]
        longest[picture] = max(longest.get(picture, 0), asked[index].length)
    groups: dict[Hashable, list[int]] = {}
    for index in sorted(own, key=lambda i: -asked[i].length):
        groups.setdefault(pictures[asked[index].document], []).append(index)
    order = sorted(groups, key=lambda picture: -longest[picture])
    return [index for picture in order for index in groups[picture]]


def up_to_stop(text: str, until: Sequence[str] | str) -> str:
    """The text before the first stop string, without surrounding space.

    Args:
        text: an answer.
        until: stop strings, or a single one.
    """
    for stop in [until] if isinstance(until, str) else until:
        if stop:
            text = text.split(stop)[0]
    return text.strip()
