"""Turns: exactly what the assistant writes is trained, for the templates of real models."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer, GenerationConfig, LlavaProcessor

from mordal_optuna.models.template import chat_template
from mordal_optuna.models.turns import Turns, stop_tokens
from mordal_optuna.pool import TemplateOptions
from tests.families.chat import MESSAGES, Chat, turn
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path

DATED = TemplateOptions(date="2026-01-02")
# What is trained of `MESSAGES`, where it is not the answer, the end of turn and a line break.
TRAINED = {
    "vicuna-1.5": [" red</s>", " north</s>"],
    "mistral-v0.3": [" red</s>", " north</s>"],
    "llama-3.2-instruct": ["red<|eot_id|>", "north<|eot_id|>"],
    "gemma-2-it": ["red<end_of_turn>\n", "north<end_of_turn>\n"],
    "gemma-3-it": ["red<end_of_turn>\n", "north<end_of_turn>\n"],
    "phi-3.5-mini": ["red<|end|>", "north<|end|>\n<|endoftext|>"],
    "olmo-2-instruct": ["red<|endoftext|>", "north<|endoftext|>"],
    "stablelm-2-zephyr": ["red<|endoftext|>\n", "north<|endoftext|>\n"],
}
CHATML = ["red<|im_end|>\n", "north<|im_end|>\n"]


def processor_of(chat: Chat, folder: Path, template: str | None = None) -> LlavaProcessor:
    """The candidate's processor, without an image processor."""
    tokenizer = AutoTokenizer.from_pretrained(chat.save(folder).location)
    processor = LlavaProcessor.__new__(LlavaProcessor)
    processor.tokenizer = tokenizer
    processor.chat_template = template or chat_template(tokenizer, DATED)
    return processor


def answers(processor: LlavaProcessor, messages: Any = MESSAGES) -> list[str]:  # noqa: ANN401
    rendered = Turns(processor).render(messages)
    return [rendered.text[begin:end] for begin, end in rendered.answers]


@pytest.mark.parametrize("name", CHATS)
def test_a_prompt_is_what_the_answer_is_trained_after(tmp_path: Path, name: str) -> None:
    processor = processor_of(CHATS[name], tmp_path)
    turns, rendered = Turns(processor), Turns(processor).render(MESSAGES)
    assert turns.prompt(MESSAGES[:-1]) == rendered.text[: rendered.answers[-1][0]]


@pytest.mark.parametrize("name", CHATS)
def test_every_family_is_rendered_trained_and_stopped_as_the_real_one(
    tmp_path: Path, name: str
) -> None:
    chat = CHATS[name]
    processor = processor_of(chat, tmp_path)
    assert Turns(processor).render(MESSAGES).text == chat.rendered
    assert answers(processor) == TRAINED.get(name, CHATML)
    tokenizer = processor.tokenizer
    place = tmp_path / name
    found = stop_tokens(processor, GenerationConfig.from_pretrained(place))
    assert {tokenizer.decode([token]) for token in found} == set(chat.stop)
    assert Turns(processor).end_of_turn in found


@pytest.mark.parametrize("name", sorted(CHATS.keys() - {"qwen3", "phi-3.5-mini"}))
def test_where_a_template_only_appends_the_answers_are_what_is_appended(
    tmp_path: Path, name: str
) -> None:
    """As before there was one rendering: runs of these families keep their weights."""
    processor = processor_of(CHATS[name], tmp_path)

    def text(count: int, *, prompt: bool) -> str:
        rendered: str = processor.apply_chat_template(
            list(MESSAGES[:count]), add_generation_prompt=prompt, tokenize=False
        )
        return rendered

    appended = [
        text(n + 1, prompt=False).removeprefix(text(n, prompt=True))
        for n, message in enumerate(MESSAGES)
        if message["role"] == "assistant"
    ]
    assert answers(processor) == appended


def test_thinking_may_be_kept(tmp_path: Path) -> None:
    """Without the argument the empty block is no part of the prompt, so it is trained."""
    chat = CHATS["qwen3"]
    options = TemplateOptions(arguments=(("enable_thinking", True),))
    tokenizer = AutoTokenizer.from_pretrained(chat.save(tmp_path).location)
    processor = processor_of(chat, tmp_path / "again", chat_template(tokenizer, options))
    assert answers(processor) == [
        "red<|im_end|>\n",
        "<think>\n\n</think>\n\nnorth<|im_end|>\n",
    ]


def test_answers_that_a_template_strips_or_that_repeat_its_marks_are_found(
    tmp_path: Path,
) -> None:
    spaced = (MESSAGES[0], turn("assistant", " red \n"), MESSAGES[2], turn("assistant", "north "))
    assert answers(processor_of(CHATS["gemma-2-it"], tmp_path), spaced) == (TRAINED["gemma-2-it"])
    odd = (MESSAGES[0], turn("assistant", "assistant: user north"), *MESSAGES[2:])
    assert answers(processor_of(CHATS["phi-3.5-mini"], tmp_path), odd)[0] == (
        "assistant: user north<|end|>"
    )


def test_markers_decide_what_is_trained_without_the_generation_prompt(tmp_path: Path) -> None:
    """Also where they leave turns out, or the end of a turn."""
    template = (
        "{% for m in messages %}"
        "{% if m.role == 'assistant' and loop.last %}"
        "A:{% generation %}{{ m.content[0].text }}{{ eos_token }}{% endgeneration %}\n"
        "{% else %}{{ m.role }}:{{ m.content[-1].text }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}A:{% endif %}"
    )
    processor = processor_of(CHATS["vicuna-1.5"], tmp_path, template)
    assert answers(processor) == ["north</s>"]


def test_a_system_prompt_that_moves_with_the_last_question_hurts_nothing(tmp_path: Path) -> None:
    """Mistral writes it where a question comes last, and nowhere else."""
    said = (turn("system", "Be brief."), *MESSAGES)
    assert answers(processor_of(CHATS["mistral-v0.3"], tmp_path), said) == [
        " red</s>",
        " north</s>",
    ]


def test_an_end_of_turn_of_plain_text_is_no_stop_token(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content[-1].text }}\n###\n{% endfor %}"
    processor = processor_of(CHATS["vicuna-1.5"], tmp_path, template)
    assert Turns(processor).end_of_turn is None
    assert stop_tokens(processor, None) == [processor.tokenizer.eos_token_id]


def test_a_model_without_generation_settings_stops_at_the_ends_of_its_template(
    tmp_path: Path,
) -> None:
    processor = processor_of(replace(CHATS["phi-3.5-mini"], name="bare"), tmp_path)
    tokens = [processor.tokenizer.decode([i]) for i in stop_tokens(processor, None)]
    assert sorted(tokens) == ["<|endoftext|>", "<|end|>"]
