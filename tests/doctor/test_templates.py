"""Checks of templates and targets: every chat family passes; each fault is found by its check."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mordal_optuna.alignment.conversation import IGNORED, Conversations
from mordal_optuna.alignment.samples import Sample
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.doctor.chats import OpenChat, open_chat
from mordal_optuna.doctor.findings import Notebook
from mordal_optuna.doctor.templates import CHAT_CHECKS
from mordal_optuna.pool import TemplateOptions
from tests.evaluation.local_task import scenes_with_options
from tests.families.chat import MESSAGES, turn
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.pool import ModelSource

NO_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
# The answers' header is no part of the generation prompt, so it would be generated and scored.
NO_PROMPT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
# The prompt of an answer is not what the answer is trained after.
OTHER_PROMPT = (
    "{{ bos_token }}{% for m in messages %}{{ m.role | upper }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}BOT: {% endif %}"
)
SAMPLES = (
    Sample("one", MESSAGES[:2]),
    Sample("two", MESSAGES),
    Sample("three", (*MESSAGES, turn("user", "Sure?"), turn("assistant", "It is red."))),
)


def recipe(tmp_path: Path, **options: Any) -> AlignmentSettings:
    given = {"conversations": tmp_path / "c.json", "images": tmp_path, **options}
    return AlignmentSettings(**given)


def opened(
    tmp_path: Path, source: ModelSource, samples: tuple[Sample, ...] = SAMPLES, **options: Any
) -> OpenChat:
    found, verdict = open_chat(source, samples, (), recipe(tmp_path, **options), 16)
    assert verdict.outcome == "ok"
    return found


def outcomes(chat: OpenChat) -> dict[str, str]:
    return {check: outcome for check, (outcome, _) in checked(chat).items()}


def checked(chat: OpenChat) -> dict[str, tuple[str, str]]:
    notes = Notebook()
    notes.checked("m", CHAT_CHECKS, chat)
    return {f.check: (f.verdict.outcome, f.verdict.text) for f in notes.findings}


CLEAN = {
    **dict.fromkeys(
        ("template", "markers", "prompt", "targets", "stop", "padding", "length"), "ok"
    ),
    "answers": "skipped",
}


@pytest.mark.parametrize("name", CHATS)
def test_every_family_passes(tmp_path: Path, name: str) -> None:
    found = checked(opened(tmp_path, CHATS[name].save(tmp_path)))
    assert {check: outcome for check, (outcome, _) in found.items()} == CLEAN, found
    assert found["template"][1].startswith("12 of 12 answers of up to 12 turns come back")


def with_template(folder: Path, text: str) -> ModelSource:
    return replace(CHATS["vicuna-1.5"].save(folder), template=TemplateOptions(text))


def test_a_header_that_is_trained_as_an_answer_is_found(tmp_path: Path) -> None:
    """Such a template trains without an error, and every answer is scored as wrong."""
    found = checked(opened(tmp_path, with_template(tmp_path, NO_PROMPT)))
    outcome, text = found["template"]
    assert outcome == "failed"
    assert "0 of 12 answers" in text
    assert "for 'red' the text 'ASSISTANT: red' is trained" in text
    assert found["stop"][0] == "ok"


def test_a_template_of_another_llm_is_a_warning(tmp_path: Path) -> None:
    """Its marks are pieces of text to this tokenizer, though answers end with the right token."""
    zephyr = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
        "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    found = checked(opened(tmp_path, with_template(tmp_path, zephyr)))
    assert found["markers"][0] == "warning"
    assert "'<|user|>', '<|assistant|>', which the tokenizer cuts" in found["markers"][1]
    assert found["template"][0] == found["stop"][0] == "ok"


def test_another_prompt_than_that_of_the_training_is_found(tmp_path: Path) -> None:
    outcome, text = checked(opened(tmp_path, with_template(tmp_path, OTHER_PROMPT)))["prompt"]
    assert outcome == "failed"
    assert "trained after" in text
    assert "it?BOT: '" in text


def test_a_stop_token_that_is_never_trained_is_found(tmp_path: Path) -> None:
    found = checked(opened(tmp_path, with_template(tmp_path, NO_END)))
    assert found["stop"][0] == "failed"
    assert "generation stops at '</s>' alone" in found["stop"][1]
    assert found["template"][0] == "failed"
    assert "never learn to stop" in found["template"][1]


def test_a_stop_token_after_the_last_answer_alone_is_a_warning(tmp_path: Path) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} ASSISTANT: "
        "{{ m.content }}{% if loop.last %}{{ eos_token }}{% endif %}{% else %}USER: "
        "{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %} ASSISTANT: {% endif %}"
    )
    found = checked(opened(tmp_path, with_template(tmp_path, template)))
    assert found["stop"][0] == "warning"
    assert found["stop"][1].startswith("4 of 12 answers end with a stop token ('</s>')")


def masks_padding(conversations: Conversations, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels as a collator that takes every pad token for padding makes them."""
    return np.where(ids == conversations._tokenizer.pad_token_id, IGNORED, labels)


def test_a_stop_token_that_is_masked_as_padding_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(CHATS["vicuna-1.5"], pad="</s>").save(tmp_path)
    clean = checked(opened(tmp_path, source))
    assert {check: outcome for check, (outcome, _) in clean.items()} == CLEAN
    assert clean["padding"][1] == "'</s>' pads, and ends 12 of 12 answers, all of them as targets"
    expand = Conversations.expand

    def masked(self: Conversations, encoded: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
        ids, labels = expand(self, encoded)
        return ids, masks_padding(self, ids, labels)

    monkeypatch.setattr(Conversations, "expand", masked)
    found = checked(opened(tmp_path, source))
    assert found["padding"][0] == "failed"
    assert "of which 12 are masked as padding" in found["padding"][1]
    assert found["stop"][0] == "failed"


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"max_length": 400}, "ok"),
        ({"max_length": 50}, "failed"),
        ({"max_length": 50, "too_long": "refuse"}, "failed"),
    ],
)
def test_answers_that_are_cut_are_found(
    tmp_path: Path, options: dict[str, Any], outcome: str
) -> None:
    source = CHATS["vicuna-1.5"].save(tmp_path)
    assert outcomes(opened(tmp_path, source, **options))["length"] == outcome


def test_a_few_cut_answers_are_a_warning(tmp_path: Path) -> None:
    """One of 20 samples; one of 5 is too many, and one of 200 is as it should be."""
    source, long = CHATS["vicuna-1.5"].save(tmp_path), Sample("long", MESSAGES * 10)
    for count, outcome in ((4, "failed"), (19, "warning"), (199, "ok")):
        samples = (long, *SAMPLES[:1] * count)
        found = outcomes(opened(tmp_path, source, samples, max_length=200))
        assert found["length"] == outcome


def test_samples_that_cannot_be_rendered_are_found(tmp_path: Path) -> None:
    """Gemma 2 has no system role."""
    source = CHATS["gemma-2-it"].save(tmp_path)
    system = Sample("system", (turn("system", "Be brief."), *MESSAGES))
    found = outcomes(opened(tmp_path, source, (system,)))
    assert found["template"] == found["length"] == found["prompt"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "outcome"), [(8, "ok"), (2, "ok"), (1, "failed")])
def test_reference_answers_beyond_the_limit_are_found(
    tmp_path: Path, limit: int, outcome: str
) -> None:
    """`red` is two tokens with the space before it; the end of the turn does not count."""
    task = scenes_with_options(tmp_path / "task", [["red"]] * 4)
    task.live.config.generation_kwargs["max_new_tokens"] = limit
    chat = opened(tmp_path, CHATS["vicuna-1.5"].save(tmp_path))
    found = checked(replace(chat, tasks=(task,)))["answers"]
    assert found[0] == outcome
    assert f"the longest of 4 reference answers takes 2 of {limit} tokens" in found[1]
