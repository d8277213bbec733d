"""Recipes: published values, which the study file's own take precedence over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import AlignmentSettings, LoraSettings, adapted, parse_study
from mordal_optuna.config.alignment import ProjectorStage
from mordal_optuna.errors import ConfigError
from mordal_optuna.models.loading import load_tokenizer
from mordal_optuna.models.template import DEFAULT_TEMPLATE, chat_template
from tests.families.vicuna import VICUNA

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings


def study(search: str = "mordal", **alignment: Any) -> StudySettings:  # noqa: ANN401
    """A study with these options of its `alignment` section."""
    return parse_study(
        {
            "study": "mine",
            "workdir": "runs/mine",
            "pool": {
                "vision_encoders": [{"name": "clip", "location": "openai/clip"}],
                "llms": [{"name": "vicuna", "location": "lmsys/vicuna"}],
            },
            "alignment": {"dataset": {"path": "owner/data"}, **alignment},
            "search": {"method": search},
            "task": {"name": "gqa"},
        }
    )


def test_llavas_recipe_has_the_published_values() -> None:
    """Those of scripts/v1_5/finetune_lora.sh and pretrain.sh."""
    settings, _ = adapted(study(recipe="llava-1.5"), 665_088)
    recipe = settings.alignment
    assert (recipe.learning_rate, recipe.projector_learning_rate) == (2e-4, 2e-5)
    assert recipe.projector_stage == ProjectorStage(share=0.015, learning_rate=1e-3)
    assert recipe.lora == LoraSettings(rank=128, alpha=256, dropout=0.05)
    assert (recipe.schedule, recipe.batch_size, recipe.weight_decay) == ("cosine", 128, 0.0)
    assert (recipe.max_length, recipe.too_long) == (2048, "cut")
    stage = round(0.015 * 665_088 / 128) * 128
    assert recipe.warmup_samples == int(0.03 * (665_088 - stage)) // 128 * 128


def test_an_llm_without_a_template_gets_llavas_system_prompt(tmp_path: Path) -> None:
    """As LLaVA writes it, before the first turn; others keep their own template."""
    (source,) = study(recipe="llava-1.5").models().llms
    tokenizer = load_tokenizer(VICUNA.save(tmp_path))
    template = chat_template(tokenizer, source.template)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi?"}]}]
    shown = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    assert shown == (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: <image>\nHi?"
    )
    (plain,) = study().models().llms
    assert chat_template(tokenizer, plain.template) == DEFAULT_TEMPLATE
    tokenizer.chat_template = "{{ messages }}"
    assert "curious" not in chat_template(tokenizer, source.template)


def test_values_of_the_study_file_take_precedence() -> None:
    recipe = study(
        recipe="llava-1.5",
        batch_size=64,
        warmup_samples=128,
        lora=None,
        **{
            "projector_stage": None,
        },
    ).alignment
    assert (recipe.batch_size, recipe.warmup_samples, recipe.warmup_share) == (64, 128, None)
    assert (recipe.lora, recipe.projector_stage, recipe.schedule) == (None, None, "cosine")


def test_the_papers_recipe_is_that_of_mordal_faithful() -> None:
    papers = study(recipe="mordal").alignment
    assert (papers.learning_rate, papers.schedule, papers.batch_size) == (1e-4, "linear", 4)
    assert study("mordal-faithful").alignment == papers
    assert study("mordal-faithful", recipe="llava-1.5").alignment.schedule == "cosine"


def test_the_stored_settings_show_the_name_and_the_values() -> None:
    """Studies that name no recipe store what older versions stored."""
    stored = study(recipe="llava-1.5").fingerprint()["alignment"]
    assert (stored["recipe"], stored["projector_learning_rate"]) == ("llava-1.5", 2e-5)
    later = {*AlignmentSettings.LATER}
    for plain in (study(), study("mordal-faithful")):
        assert not later & plain.fingerprint()["alignment"].keys()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"recipe": "llava"}, r"alignment.recipe: got 'llava'; input should be 'llava-1.5' or"),
        ({"recipe": ["mordal"]}, "alignment.recipe: got"),
        ({"recipe": "llava-1.5", "lora": None}, "projector_stage: given without `lora`"),
        ({"warmup_share": 0.1, "warmup_samples": 8}, "warmup_share: given beside"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        study(**options)
