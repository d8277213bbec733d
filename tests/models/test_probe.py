"""Probes: an LLM that cannot be trained, or that would never stop, is refused with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.errors import ModelError
from mordal_optuna.models.probe import check_chat
from mordal_optuna.pool import TemplateOptions
from tests.families.chat import MESSAGES, turn
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path

NO_END = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.mark.parametrize("name", CHATS)
def test_every_family_can_be_trained(tmp_path: Path, name: str) -> None:
    check_chat(CHATS[name].save(tmp_path), [MESSAGES])


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (NO_END, "would never learn to stop.*without any of the stop tokens '</s>'"),
        ("{{ messages[-1].content }}</s>", "4 turns cannot be trained on.*leaves answers out"),
        ("{{ raise_exception('no') }}", r"4 turns cannot be trained on \(no\)"),
        (
            "{% for m in messages %}{{ m.content.replace('<image>', '') }}</s>{% endfor %}",
            "0 placeholders for 1 images",
        ),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_refused(
    tmp_path: Path, template: str, sentence: str
) -> None:
    source = replace(CHATS["vicuna-1.5"].save(tmp_path), template=TemplateOptions(template))
    with pytest.raises(ModelError, match=sentence):
        check_chat(source)


def test_turns_of_the_data_that_a_template_refuses_are_found(tmp_path: Path) -> None:
    """Gemma 2 has no system role."""
    source = CHATS["gemma-2-it"].save(tmp_path)
    with pytest.raises(ModelError, match="5 turns.*System role not supported"):
        check_chat(source, [(turn("system", "Be brief."), *MESSAGES)])


def test_an_argument_that_the_template_does_not_read_is_refused(tmp_path: Path) -> None:
    source = CHATS["qwen2.5-instruct"].save(tmp_path)
    options = TemplateOptions(arguments=(("enable_thinkng", False),))
    with pytest.raises(ModelError, match="'enable_thinkng', which its chat template does not"):
        check_chat(replace(source, template=options))
