"""Templates: the default's exact text, and LLMs' own templates carrying images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from mordal_optuna.models.template import (
    DEFAULT_TEMPLATE,
    chat_template,
    joined_parts,
    joins_parts,
)
from tests import tiny
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
    {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_the_default_is_llavas_layout(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.llm(tmp_path, "llama").location)
    assert chat_template(tokenizer) == DEFAULT_TEMPLATE
    tokenizer.chat_template = DEFAULT_TEMPLATE
    text = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    assert text == "<s>USER: <image>\nWhat? ASSISTANT: red</s>USER: Where? ASSISTANT:"


def test_an_own_template_is_kept_and_gets_the_image_as_text(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny.llm(tmp_path, "qwen2").location)
    tokenizer.chat_template = CHATML
    tokenizer.chat_template = chat_template(tokenizer)
    text = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\nred<|im_end|>\n"
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", CHATS)
def test_turns_whose_parts_are_joined_before_are_rendered_the_same(
    tmp_path: Path, name: str
) -> None:
    """By every LLM's own template; the default joins no parts."""
    tokenizer = AutoTokenizer.from_pretrained(CHATS[name].save(tmp_path).location)
    template = chat_template(tokenizer)
    assert joins_parts(template) == (CHATS[name].template is not None)
    if not joins_parts(template):
        return
    joined = [{**turn, "content": joined_parts(turn["content"])} for turn in MESSAGES]
    both = [
        render_jinja_template(
            conversations=[given], chat_template=template, **tokenizer.special_tokens_map
        )[0][0]
        for given in (MESSAGES, joined)
    ]
    assert both[0] == both[1]
    assert "<image>\nWhat?" in both[0]
