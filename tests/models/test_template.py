"""Templates: the default's exact text, and LLMs' own templates carrying images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoTokenizer

from mordal_optuna.models.template import DEFAULT_TEMPLATE, chat_template
from tests import tiny

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
