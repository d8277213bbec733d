"""Checks of lengths: samples within `max_length`, and reference answers within a task's limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jinja2 import TemplateError

from mordal_optuna.doctor.findings import failed, ok, skipped, warning
from mordal_optuna.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mordal_optuna.alignment.samples import Message
    from mordal_optuna.doctor.chats import OpenChat
    from mordal_optuna.doctor.findings import Verdict
    from mordal_optuna.evaluation.task import Task

# Documents of a task whose reference answers are tokenised.
_REFERENCES = 256
# Largest share of samples, or of reference answers, whose end is cut off without a warning, and
# with one.
_FEW, _MANY = 0.01, 0.1


def sample_lengths(opened: OpenChat) -> Verdict:
    """Samples fit `max_length` with their answers.

    Args:
        opened: tokenizer and template.
    """
    counts = np.array(opened.conversations.count(opened.samples))
    recipe, of = opened.recipe, len(counts)
    unusable = int((counts[:, 0] < 0).sum())
    if unusable > recipe.skip_unusable * of:
        return failed(
            f"{unusable} of {of} samples cannot be trained on; skip_unusable allows "
            f"{100 * recipe.skip_unusable:g} %"
        )
    wholes = counts[:, 0] + counts[:, 1] * (opened.image_tokens - 1)
    cut = int((wholes > recipe.max_length).sum())
    text = (
        f"the longest of {of} samples takes {int(wholes.max()):,} tokens of max_length "
        f"{recipe.max_length:,}, with images of {opened.image_tokens}; {cut} are longer"
    )
    if cut and recipe.too_long == "refuse":
        return failed(f"{text}, which `too_long: refuse` refuses")
    if cut > _MANY * of:
        return failed(f"{text}, and lose the end of their answer")
    if cut > _FEW * of:
        return warning(f"{text}, and lose the end of their answer")
    return ok(text)


def answer_lengths(opened: OpenChat) -> Verdict:
    """The tasks' reference answers fit the limit of generated tokens.

    Args:
        opened: tokenizer and template.
    """
    if not opened.tasks:
        return skipped("no task could be built")
    texts, worst = [], 0.0
    for task in opened.tasks:
        needed = np.array(list(_reference_lengths(opened, task)))
        limit = task.answer_tokens
        if not len(needed):
            texts.append(f"{task.name}: no reference answers, of up to {limit} tokens")
            continue
        worst = max(worst, float((needed > limit).mean()))
        texts.append(
            f"{task.name}: the longest of {len(needed)} reference answers takes {needed.max()} of "
            f"{limit} tokens, {int((needed > limit).sum())} are longer"
        )
    text = "; ".join(texts)
    if worst > _FEW:
        return failed(f"{text}: raise `max_new_tokens` in the task's `generation_kwargs`")
    return warning(text) if worst else ok(text)


def _reference_lengths(opened: OpenChat, task: Task) -> Iterator[int]:
    """Tokens of reference answers as the template writes them, without the end of the turn."""
    question: Message = {"role": "user", "content": [{"type": "text", "text": "question"}]}
    for reference in task.references(_REFERENCES):
        answer = [{"type": "text", "text": reference}]
        said: Message = {"role": "assistant", "content": answer}
        try:
            rendered = opened.turns.render([question, said])
        except (TemplateError, ValueError) as error:
            raise UnusableError(task.name, f"an answer cannot be rendered ({error})") from error
        text = "".join(rendered.text[begin:end] for begin, end in rendered.answers)
        ids = opened.chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = [place for place, token in enumerate(ids) if token in opened.stops]
        yield ends[0] if ends else len(ids)
