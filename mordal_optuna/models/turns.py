"""Where a rendered conversation has the assistant's answers, and which tokens end them.

Training masks one rendering of a whole conversation. A template may write a turn differently where
it is not the last one (Qwen3 removes the think block, Phi-3 adds eos after the last turn), so
renderings of parts of the conversation need not be beginnings of it.

Symbols:
    marked    the rendering with each answer replaced by a word of its own
    lead      what the template writes between the generation prompt and an answer, such as a space
    tail      what it writes after the answer of a conversation that ends there
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from mordal_optuna.models.template import (
    IMAGE_TOKEN,
    joined_parts,
    joins_parts,
    marks_answers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import GenerationConfig, PreTrainedTokenizerBase

# Stands for the n-th answer; templates leave letters and digits as they are.
_WORD = "mordalanswer{}x"


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation.

    Attributes:
        text: the rendering.
        answers: begin and end of what the assistant writes, its end of turn included, in
            characters, ascending; empty if the template writes no answer.
    """

    text: str
    answers: tuple[tuple[int, int], ...]


class Chats(Protocol):
    """A tokenizer with a chat template, such as a processor."""

    tokenizer: PreTrainedTokenizerBase
    chat_template: Any


class Turns:
    """Renders conversations by a chat template."""

    def __init__(self, processor: Chats) -> None:
        """Use a processor.

        Args:
            processor: tokenizer and chat template.
        """
        self._processor = processor

    def render(self, messages: Sequence[Mapping[str, Any]]) -> Rendered:
        """Render a conversation and find its answers.

        Args:
            messages: turns, whose content is a list of parts.

        Raises:
            TemplateError: if the template refuses the conversation.
            ValueError: if the answers cannot be found in the rendering.
        """
        if marks_answers(self._processor.chat_template):
            return self._by_markers(messages)
        marked = [dict(message) for message in messages]
        numbers = [n for n, message in enumerate(messages) if message["role"] == "assistant"]
        for number in numbers:
            marked[number]["content"] = _text(_WORD.format(number))
        text = self._text(messages)
        pieces = _split(self._text(marked), [_WORD.format(n) for n in numbers])
        if len(pieces) == 1:
            return Rendered(text, ())
        said = [joined_parts(messages[number]["content"]) for number in numbers]
        places = _places(text, pieces, said)
        return Rendered(text, tuple(self._with_ends(places, pieces)))

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The rendering of a question, as an answer is generated after it.

        Args:
            messages: turns, whose content is a list of parts.

        Raises:
            TemplateError: if the template refuses the conversation.
            ValueError: if there is no template.
        """
        return self._text(messages, prompt=True)

    @cached_property
    def end_of_turn(self) -> int | None:
        """Id of the token that the template puts after an answer; None if it is plain text."""
        text = self._tail.lstrip()
        if not text:
            return None
        tokenizer = self._processor.tokenizer
        first = int(tokenizer(text, add_special_tokens=False)["input_ids"][0])
        token = tokenizer.added_tokens_decoder.get(first)
        return None if token is None or str(token) == IMAGE_TOKEN else first

    def _with_ends(
        self, places: Sequence[tuple[int, int]], pieces: Sequence[str]
    ) -> list[tuple[int, int]]:
        """Extend answers by what the assistant writes before and after them."""
        spans = []
        for number, (begin, end) in enumerate(places):
            before, after = pieces[number : number + 2]
            lead = self._lead if before.endswith(self._lead) else ""
            tail = after if number == len(places) - 1 else self._ended(after)
            spans.append((begin - len(lead), end + len(tail)))
        return spans

    def _ended(self, after: str) -> str:
        """The end of a turn that others follow: the tail, or the tail's end of turn alone."""
        if after.startswith(self._tail):
            return self._tail
        if self.end_of_turn is None:
            return ""
        token = str(self._processor.tokenizer.added_tokens_decoder[self.end_of_turn])
        closed = self._tail[: self._tail.index(token) + len(token)]
        return closed if after.startswith(closed) else ""

    @cached_property
    def _probe(self) -> tuple[str, str]:
        """The rendering of a question with the generation prompt, and with an answer."""
        question = {"role": "user", "content": _text("question")}
        answer = {"role": "assistant", "content": _text(_WORD.format(1))}
        return self._text([question], prompt=True), self._text([question, answer])

    @cached_property
    def _lead(self) -> str:
        prompt, whole = self._probe
        before = whole.partition(_WORD.format(1))[0]
        return before[len(prompt) :] if before.startswith(prompt) else ""

    @cached_property
    def _tail(self) -> str:
        return self._probe[1].partition(_WORD.format(1))[2]

    def _by_markers(self, messages: Sequence[Mapping[str, Any]]) -> Rendered:
        """What the template marks, without the generation prompt where it is marked as well."""
        text, spans = self._marked(messages)
        prompt, whole = self._probe
        question = {"role": "user", "content": _text("question")}
        answer = {"role": "assistant", "content": _text(_WORD.format(1))}
        _, probed = self._marked([question, answer])
        header = ""
        if probed and whole.startswith(prompt):
            header = whole[probed[0][0] : max(len(prompt), probed[0][0])]
        cut = [
            (begin + len(header) if text.startswith(header, begin) else begin, end)
            for begin, end in spans
        ]
        return Rendered(text, tuple((begin, end) for begin, end in cut if begin < end))

    def _marked(self, messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
        text, spans = self._rendering(messages, return_assistant_tokens_mask=True)
        return text, spans[0]

    def _text(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool = False) -> str:
        return self._rendering(messages, add_generation_prompt=prompt)[0]

    def _rendering(
        self, messages: Sequence[Mapping[str, Any]], **options: bool
    ) -> tuple[str, list[list[tuple[int, int]]]]:
        template = self._processor.chat_template
        if not isinstance(template, str):
            raise ValueError("it has no chat template")  # noqa: TRY004 - a value of a processor
        if joins_parts(template):
            messages = [
                {"role": message["role"], "content": joined_parts(message["content"])}
                for message in messages
            ]
        texts, spans = render_jinja_template(
            conversations=[list(messages)],
            chat_template=template,
            **self._processor.tokenizer.special_tokens_map,
            **options,
        )
        return texts[0], spans


def stop_tokens(processor: Chats, generation: GenerationConfig | None) -> list[int]:
    """All tokens that end an answer: of the tokenizer, the LLM's settings and the template.

    Args:
        processor: tokenizer and chat template.
        generation: the LLM's generation settings; None if it has none.

    Returns:
        Token ids in ascending order, at least one.
    """
    given = generation.eos_token_id if generation else None
    ids = {processor.tokenizer.eos_token_id, *(given if isinstance(given, list) else [given])}
    try:
        ids.add(Turns(processor).end_of_turn)
    except (TemplateError, ValueError):  # refused, with its reason, where a sample is rendered
        ids.add(None)
    return sorted(i for i in ids if i is not None)


def _text(value: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": value}]


def _split(marked: str, words: Sequence[str]) -> list[str]:
    """The pieces before, between and after words.

    Raises:
        ValueError: if some words are missing, or one is there twice.
    """
    counts = [marked.count(word) for word in words]
    if not any(counts):
        return [marked]
    if any(count != 1 for count in counts):
        raise ValueError("its chat template leaves answers out, or repeats them")
    pieces, rest = [], marked
    for word in words:
        before, _, rest = rest.partition(word)
        pieces.append(before)
    return [*pieces, rest]


def _places(text: str, pieces: Sequence[str], said: Sequence[str]) -> list[tuple[int, int]]:
    """Where the answers are between the pieces; templates may strip them.

    Raises:
        ValueError: if the pieces do not surround the answers.
    """
    begin, places = len(pieces[0]), []
    found = text.startswith(pieces[0])
    for number, (after, answer) in enumerate(zip(pieces[1:], said, strict=True)):
        last = number == len(said) - 1
        exact = begin + len(answer)
        if text.startswith(answer, begin) and (
            text[exact:] == after if last else text.startswith(after, exact)
        ):
            end = exact
        elif last:
            end = len(text) - len(after)
            found = found and end >= begin and text.endswith(after)
        else:
            end = text.find(after, begin)
            found = found and end >= 0
        places.append((begin, end))
        begin = end + len(after)
    if not found:
        raise ValueError("its chat template writes other turns differently after other answers")
    return places
