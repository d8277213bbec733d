"""The prompts that a study stores are those that its LLMs are scored with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.reading import PromptReader
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.workbench import prompts as module
from mordal_optuna.workbench.prompts import rendered_prompts
from mordal_optuna.workbench.workbench import open_workbench

if TYPE_CHECKING:
    from mordal_optuna.workbench.workbench import Workbench


@pytest.fixture
def bench(study_content: dict[str, Any]) -> Workbench:
    settings = parse_study(study_content | {"also_score": []})
    settings.workdir.mkdir(parents=True)
    return open_workbench(settings, Silent())


def test_a_prompt_is_what_the_model_is_asked(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, with the template of each LLM and one placeholder for the image."""
    prompts = bench.prompts
    assert set(prompts) == {"llama-t", "mistral-t"}
    assert all(text.count("<image>") == 1 for text in prompts.values())
    asked: list[str] = []
    render = PromptReader._render

    def noted(self: PromptReader, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        text = render(self, messages, prompt=prompt)
        if prompt:
            asked.append(text)
        return text

    monkeypatch.setattr(PromptReader, "_render", noted)
    bench.measure(Candidate("clip-t", "llama-t"), 8)
    assert prompts["llama-t"] in asked


def test_an_unusable_llm_has_none_and_a_long_prompt_is_cut(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    llms, task = bench.settings.models().llms, bench._tasks[0]
    assert set(rendered_prompts(llms, task, {"llama-t"})) == {"mistral-t"}
    monkeypatch.setattr(module, "_LONGEST", 10)
    for text in rendered_prompts(llms, task).values():
        assert text[10:].startswith(" ... (")


def test_a_document_that_the_task_cannot_ask_about_is_an_error_of_the_task(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = bench._tasks[0]

    def broken(_: object) -> None:
        raise KeyError("question")

    monkeypatch.setattr(task.live, "doc_to_messages", broken)
    with pytest.raises(TaskError, match="`doc_to_messages` fails"):
        rendered_prompts(bench.settings.models().llms, task)
