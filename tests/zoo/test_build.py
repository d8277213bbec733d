"""Building a pool: ordinary folders, whole or not at all, the same from the same recipe."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoTokenizer

from mordal_optuna.errors import ZooError
from mordal_optuna.progress import Silent
from mordal_optuna.zoo.build import build, missing
from mordal_optuna.zoo.quickstart import TINY, recipe_named
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from pathlib import Path

SMALL = replace(
    TINY,
    name="small",
    encoders=TINY.encoders[1:],
    llms=TINY.llms[1:],
    alignment_samples=4,
    test_documents=4,
    scienceqa_documents=4,
    seven_documents=2,
)


def test_models_are_ordinary_hugging_face_folders(zoo: Path) -> None:
    for encoder in TINY.encoders:
        folder = zoo / "encoders" / encoder.name
        AutoModel.from_pretrained(folder)
        AutoImageProcessor.from_pretrained(folder)
        assert (folder / "model.safetensors").is_file()
    for llm in TINY.llms:
        folder = zoo / "llms" / llm.name
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.eos_token_id is not None
        assert AutoModelForCausalLM.from_pretrained(folder).config.model_type == llm.family


def test_only_what_is_missing_is_built(zoo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    shutil.copytree(zoo, folder)
    assert missing(TINY, folder) == ()
    shutil.rmtree(folder / "llms" / "llama-t")
    assert missing(TINY, folder) == ("llms/llama-t",)
    kept = (folder / "encoders" / "clip-t" / "model.safetensors").stat().st_mtime_ns
    built: list[str] = []

    class Watching(Silent):
        def track(self, title: str, total: int):  # noqa: ANN202
            built.append(title)
            return super().track(title, total)

    build(TINY, folder, Watching(), workers=0)
    assert built == ["llms/llama-t"]
    assert (folder / "encoders" / "clip-t" / "model.safetensors").stat().st_mtime_ns == kept
    again = (folder / "llms" / "llama-t" / "model.safetensors").read_bytes()
    assert again == (zoo / "llms" / "llama-t" / "model.safetensors").read_bytes()


def test_an_interrupted_part_does_not_count(tmp_path: Path) -> None:
    class Interrupting(Silent):
        def track(self, title: str, total: int):  # noqa: ANN202
            if title.startswith("encoders"):
                raise KeyboardInterrupt
            return super().track(title, total)

    with pytest.raises(KeyboardInterrupt):
        build(SMALL, tmp_path, Interrupting(), workers=0)
    assert missing(SMALL, tmp_path) == (
        "encoders/dinov2-t",
        "alignment",
        "tasks/scenes",
        "tasks/ScienceQA",
        *(f"tasks/{name}" for name in TASKS),
    )
    (tmp_path / "encoders" / ".dinov2-t-0").mkdir(parents=True)  # left behind by a kill
    build(SMALL, tmp_path, Silent(), workers=0)
    assert missing(SMALL, tmp_path) == ()


def test_the_random_state_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    build(SMALL, tmp_path, Silent(), workers=0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_processes_build_the_same(tmp_path: Path) -> None:
    build(SMALL, tmp_path / "two", Silent(), workers=2)
    build(SMALL, tmp_path / "none", Silent(), workers=0)
    for path in ("llms/mistral-t/model.safetensors", "encoders/dinov2-t/model.safetensors"):
        assert (tmp_path / "two" / path).read_bytes() == (tmp_path / "none" / path).read_bytes()


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe_named("quickstart").to_json()))
    with pytest.raises(ZooError, match="another recipe than 'tiny'"):
        missing(TINY, tmp_path)
