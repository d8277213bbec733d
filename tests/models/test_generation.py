"""Generation: which stored scores stay valid, and the settings of an LLM without their file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mordal_optuna.models.generation import generation_mark, load_chat, own_generation
from mordal_optuna.models.turns import stop_tokens
from mordal_optuna.pool import TemplateOptions
from tests import tiny
from tests.families.chats import CHATS

# Those whose answers ended nowhere but at the tokenizer's eos, without settings of their own.
AS_BEFORE = {"vicuna-1.5", "mistral-v0.3", "olmo-2-instruct", "stablelm-2-zephyr", "smollm3"}


@pytest.mark.parametrize("name", CHATS)
def test_scores_have_another_key_where_answers_were_generated_otherwise(
    tmp_path: Path, name: str
) -> None:
    mark = generation_mark(CHATS[name].save(tmp_path))
    assert (mark == "") == (name in AS_BEFORE)
    assert len(mark) in (0, 8)


@pytest.mark.parametrize("family", tiny.LLMS)
def test_scores_of_the_embedded_pool_stay_valid(tmp_path: Path, family: Any) -> None:
    assert generation_mark(tiny.llm(tmp_path, family)) == ""


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"temperature": 0.9, "top_p": 0.6, "do_sample": True, "max_length": 4096}, False),
        ({"repetition_penalty": 1.1}, True),
        ({"no_repeat_ngram_size": 3}, True),
        ({"min_new_tokens": 4}, True),
        ({"eos_token_id": [2, 7]}, True),
    ],
)
def test_a_setting_that_changed_greedy_answers_gives_another_key(
    tmp_path: Path, settings: dict[str, Any], changes: bool
) -> None:
    source = CHATS["vicuna-1.5"].save(tmp_path, **settings)
    assert bool(generation_mark(source)) == changes


def test_a_template_that_ends_turns_elsewhere_gives_another_key(tmp_path: Path) -> None:
    """The key depends on the stop tokens, so that of another template is another one."""
    source = CHATS["gemma-3-it"].save(tmp_path)
    ended = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    other = replace(source, template=TemplateOptions(ended))
    assert generation_mark(source) == generation_mark(other)  # generation_config.json has both
    early = CHATS["gemma-2-it"].save(tmp_path)
    assert generation_mark(early)
    assert generation_mark(replace(early, template=TemplateOptions(ended))) == ""


def test_without_their_file_settings_are_those_of_the_configuration(tmp_path: Path) -> None:
    """As transformers reads them with the weights."""
    source = CHATS["gemma-3-it"].save(tmp_path)
    folder = Path(source.location)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [1, 4]}))
    assert own_generation(source).eos_token_id == [1, 4]
    assert {1, 4} <= set(stop_tokens(load_chat(source), own_generation(source)))


@pytest.mark.parametrize(("window", "changes"), [(512, True), (4096, False)])
def test_a_window_shorter_than_prompts_gives_another_key(
    tmp_path: Path, window: int, *, changes: bool
) -> None:
    """Older versions put padding inside prompts, which such a window counted."""
    source = CHATS["mistral-v0.3"].save(tmp_path)
    config = Path(source.location) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sliding_window": window}))
    assert bool(generation_mark(source)) == changes
