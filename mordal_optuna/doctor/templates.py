"""Checks of an LLM's chat template and of what is trained by it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from mordal_optuna.doctor.chats import is_answer
from mordal_optuna.doctor.findings import Check, failed, ok, shown, warning
from mordal_optuna.doctor.lengths import answer_lengths, sample_lengths
from mordal_optuna.models.probe import check_chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.samples import Message
    from mordal_optuna.doctor.chats import OpenChat
    from mordal_optuna.doctor.findings import Verdict
    from mordal_optuna.models.turns import Turns

# How most chat templates mark turns.
_MARKER = re.compile(r"<\|[^|<>\s]+\|>")
# First and last targets that are shown of an answer.
_ENDS = 4


def round_trip(opened: OpenChat) -> Verdict:
    """Targets decode to the answers of the data, and to nothing else.

    What a template writes around an answer would be generated too, and be scored as a part of it.

    Args:
        opened: tokenizer and template.
    """
    check_chat(opened.source, [sample.messages for sample in opened.probes])
    answers, _ = opened.answers
    wrong = [a for a in answers if opened.decoded(a.ids).strip() != a.said.strip()]
    turns = max((len(sample.messages) for sample in opened.probes), default=0)
    text = (
        f"{len(answers) - len(wrong)} of {len(answers)} answers of up to {turns} turns come back"
    )
    if not wrong:
        return ok(text)
    said, learnt = wrong[0].said, opened.decoded(wrong[0].ids)
    return failed(f"{text}; for {shown(said)} the text {shown(learnt)} is trained")


def markers(opened: OpenChat) -> Verdict:
    """What looks like a special token in a conversation rendered by the study's template is one.

    The template of another LLM, or one with a misspelt token, trains well without an error, but
    its marks are new words to the LLM. Some LLMs' own templates write such marks as plain text,
    and the LLMs know them.

    Args:
        opened: tokenizer and template.
    """
    if opened.source.template.text is None:
        return ok("those of its own template, or of the default")
    _ = opened.answers  # raises if a sample cannot be rendered
    text = opened.turns.render(opened.probes[-1].messages).text
    found = list(dict.fromkeys(_MARKER.findall(text)))
    tokenizer = opened.chat.tokenizer
    unknown = [m for m in found if len(tokenizer(m, add_special_tokens=False)["input_ids"]) > 1]
    if unknown:
        return warning(
            f"the template writes {', '.join(map(repr, unknown))}, which the tokenizer cuts into "
            "pieces; is it the template of another LLM?"
        )
    return ok(f"{len(found)} of the form <|...|>, each a token" if found else "none of <|...|>")


def prompts(opened: OpenChat) -> Verdict:
    """An answer is asked for after the same text as it is trained after.

    Args:
        opened: tokenizer and template.
    """
    count = 0
    for sample in opened.probes:
        for end in _ends(sample.messages):
            count += 1
            problem = _prompt_problem(opened.turns, sample.messages[: end + 1])
            if problem:
                return failed(f"of sample {sample.id!r}: {problem}")
    return ok(f"{count} prompts are beginnings of the text that is trained on")


def target_tokens(opened: OpenChat) -> Verdict:
    """What is trained: the first and the last targets, and their share of all tokens.

    Args:
        opened: tokenizer and template.
    """
    answers, tokens = opened.answers
    targets = sum(len(answer.ids) for answer in answers)
    if not targets:
        return failed(f"none of {tokens:,} tokens is a target")
    ids = answers[0].ids
    text = opened.raw(ids)
    if len(ids) > 2 * _ENDS:
        text = f"{opened.raw(ids[:_ENDS])} … {opened.raw(ids[-_ENDS:])}"
    return ok(
        f"{targets:,} of {tokens:,} tokens ({100 * targets / tokens:.0f} %) are targets, such as "
        f"{text!r}"
    )


def trained_stop(opened: OpenChat) -> Verdict:
    """Each answer ends with a target at which generation stops.

    Args:
        opened: tokenizer and template.
    """
    answers, _ = opened.answers
    stopped = [a for a in answers if opened.stops.intersection(a.ids)]
    named = _named(opened, opened.stops)
    if not any(a.last for a in stopped):
        end = shown(opened.raw(answers[0].ids[-3:]))
        return failed(
            f"no answer ends with a stop token, but with {end}; generation stops at {named} alone "
            "and would always go on to the token limit"
        )
    text = f"{len(stopped)} of {len(answers)} answers end with a stop token ({named})"
    missing = len(answers) - len(stopped)
    if any(a.last for a in answers if a not in stopped):
        return failed(f"{text}; the last answer of every conversation must")
    return warning(f"{text}; the others go on to the next question") if missing else ok(text)


def padding(opened: OpenChat) -> Verdict:
    """A stop token that also pads is a target where it ends an answer.

    Args:
        opened: tokenizer and template.
    """
    tokenizer = opened.chat.tokenizer
    pad, answers = tokenizer.pad_token_id, opened.answers[0]
    name = shown(opened.raw([pad]))
    if pad not in opened.stops:
        return ok(f"{name} pads, and ends no answer")
    written = 0
    for sample in opened.probes:
        rendered = opened.turns.render(sample.messages)
        for begin, end in rendered.answers:
            ids = tokenizer(rendered.text[begin:end], add_special_tokens=False)["input_ids"]
            written += list(ids).count(pad)
    trained = sum(answer.ids.count(pad) for answer in answers)
    text = f"{name} pads, and ends {written} of {len(answers)} answers"
    if trained < written:
        return failed(
            f"{text}, of which {written - trained} are masked as padding: the LLM would not learn "
            "to stop"
        )
    return ok(f"{text}, all of them as targets")


CHAT_CHECKS: tuple[Check[OpenChat], ...] = (
    Check("template", round_trip),
    Check("markers", markers),
    Check("prompt", prompts),
    Check("targets", target_tokens),
    Check("stop", trained_stop),
    Check("padding", padding),
    Check("length", sample_lengths),
    Check("answers", answer_lengths),
)


def _ends(messages: Sequence[Message]) -> list[int]:
    """Positions of the first answer, which is what a task asks for, and of the last one."""
    numbers = [number for number, message in enumerate(messages) if is_answer(message)]
    return sorted({numbers[0], numbers[-1]})


def _prompt_problem(turns: Turns, messages: Sequence[Message]) -> str:
    """Why the last answer is not asked for as it is trained; empty if it is."""
    try:
        prompt, whole = turns.prompt(messages[:-1]), turns.render(messages)
    except (TemplateError, ValueError) as error:
        return f"{len(messages)} turns cannot be rendered ({error})"
    if not whole.answers:
        return "the template writes no answer"
    before = whole.text[: whole.answers[-1][0]]
    if before == prompt:
        return ""
    return (
        f"the answer is trained after {shown(before[-40:])} and asked after {shown(prompt[-40:])}"
    )


def _named(opened: OpenChat, ids: frozenset[int]) -> str:
    return ", ".join(repr(opened.raw([token])) for token in sorted(ids))
