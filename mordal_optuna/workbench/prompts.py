"""The prompts of a study's LLMs on a task, as they are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import TemplateError

from mordal_optuna.errors import ModelError
from mordal_optuna.evaluation.faults import task_faults
from mordal_optuna.models.generation import load_chat
from mordal_optuna.models.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.pool import ModelSource

# Characters of a prompt that are kept; few-shot prompts can be longer.
_LONGEST = 4000


def rendered_prompts(
    llms: Sequence[ModelSource], task: Task, unusable: Collection[str] = ()
) -> dict[str, str]:
    """Render a task's first document for each LLM, with one placeholder for an image.

    Args:
        llms: the LLMs, and how their chat templates are used.
        task: the task.
        unusable: names of LLMs to leave out, since they cannot be trained.

    Returns:
        Prompt by name of the LLM, at most 4,000 characters each; the reason in its place where the
        template refuses the document.

    Raises:
        TaskError: if the task's own code fails on the document.
    """
    from lmms_eval.protocol import ChatMessages  # after the task, which imports it guarded

    with task_faults(task.name, "`doc_to_messages` fails"):
        document = task.live.dataset[task.split][0]
        messages = ChatMessages(messages=task.live.doc_to_messages(document)).to_hf_messages()
    return {llm.name: _prompt(llm, messages) for llm in llms if llm.name not in unusable}


def _prompt(llm: ModelSource, messages: Sequence[Mapping[str, Any]]) -> str:
    try:
        text = Turns(load_chat(llm)).prompt(messages)
    except (TemplateError, ValueError, ModelError) as error:
        return f"(cannot be rendered: {error})"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text):,} characters)"
