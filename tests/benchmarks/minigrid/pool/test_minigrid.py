"""The minigrid's pool: every model is built, joins the others, and reads what it is aligned on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from benchmarks.minigrid.pool.minigrid import MINIGRID
from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.alignment.sources import LlavaFile
from mordal_optuna.config import LoraSettings
from mordal_optuna.models.assemble import assemble
from mordal_optuna.pool import ModelSource
from mordal_optuna.progress import Silent
from mordal_optuna.zoo.build import build, missing
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.minigrid.pool.minigrid import MinigridRecipe


def hardly_trained(encoders: int, llms: int) -> MinigridRecipe:
    return replace(
        MINIGRID,
        encoders=tuple(
            replace(e, width=32, layers=2, steps=1, batch_size=4)
            for e in MINIGRID.encoders[:encoders]
        ),
        llms=tuple(
            replace(m, width=32, layers=2, steps=2, choosing=1, batch_size=2)
            for m in MINIGRID.llms[:llms]
        ),
        alignment=replace(MINIGRID.alignment, samples=60),
        documents=4,
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    build(hardly_trained(1, 1), folder, Silent(), workers=0)
    return folder


def joined(folder: Path, encoder: str, llm: str):  # noqa: ANN201
    return assemble(
        ModelSource(encoder, str(folder / "encoders" / encoder)),
        ModelSource(llm, str(folder / "llms" / llm)),
        lora=LoraSettings(rank=2),
        precision="fp32",
        seed=0,
        device=torch.device("cpu"),
    )


def test_the_recipe_names_seven_of_each_and_all_tasks() -> None:
    assert len({e.name for e in MINIGRID.encoders}) == len(MINIGRID.encoders) == 7
    assert len({m.name for m in MINIGRID.llms}) == len(MINIGRID.llms) == 7
    assert sum(part.path.startswith("tasks/") for part in MINIGRID.parts()) == len(TASKS)
    assert json.loads(json.dumps(MINIGRID.to_json())) == MINIGRID.to_json()


def test_a_pool_is_built_once(pool: Path) -> None:
    assert missing(hardly_trained(1, 1), pool) == ()
    assert sorted(path.name for path in (pool / "tasks").iterdir()) == sorted(TASKS)


def test_conversations_take_several_turns_and_pictures(pool: Path) -> None:
    """Every sample is encoded for a pair: a placeholder a picture, all answers trained."""
    vlm = joined(pool, MINIGRID.encoders[0].name, MINIGRID.llms[0].name)
    file = pool / "alignment" / "alignment.json"
    source = LlavaFile(file, pool / "alignment" / "images")
    reader = Conversations(vlm, max_length=512)
    records = json.loads(file.read_text())
    pictures = set()
    for number, record in enumerate(records):
        sample = source.sample(number)
        encoded = reader.encode(sample)
        pictures.add(encoded.images)
        answers = [turn["value"] for turn in record["conversations"] if turn["from"] == "gpt"]
        ends = int((encoded.ids[encoded.trained] == vlm.processor.tokenizer.eos_token_id).sum())
        assert ends == len(answers) >= 1
    assert pictures == {1, 2}


def test_pictures_of_alignment_are_not_those_of_the_tasks(pool: Path) -> None:
    """Seeds differ by part, so no document's picture was trained on."""
    seeds = {part.path: part.seed for part in MINIGRID.parts()}
    assert seeds["alignment"] not in {seeds[f"tasks/{name}"] for name in TASKS}
    trained = {Image.open(path).tobytes() for path in (pool / "alignment" / "images").iterdir()}
    from mordal_optuna.config import TaskSettings
    from mordal_optuna.evaluation.tasks import build_task

    for name in TASKS:
        task = build_task(TaskSettings(name=name, data=pool / "tasks" / name), [], seed=0)
        split = task.live.dataset[task.split]
        for number in range(len(split)):
            shown = task.live.doc_to_visual(split[number])
            assert not trained & {picture.tobytes() for picture in shown}


def test_prompts_endings_are_one_token(pool: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pool / "llms" / MINIGRID.llms[0].name)
    text = "What is the total?\nAnswer the question using a single word or phrase. ASSISTANT: 47"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) <= 14


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_all_families_are_pretrained_and_join(tmp_path: Path) -> None:
    build(hardly_trained(7, 7), tmp_path, Silent(), workers=0)
    first_encoder, first_llm = MINIGRID.encoders[0].name, MINIGRID.llms[0].name
    pairs = [(e.name, first_llm) for e in MINIGRID.encoders]
    pairs += [(first_encoder, m.name) for m in MINIGRID.llms[1:]]
    tokens = {pair: joined(tmp_path, *pair).image_tokens for pair in pairs}
    sides = {e.name: e.image_size // e.patch_size for e in MINIGRID.encoders}
    assert tokens == {pair: sides[pair[0]] ** 2 for pair in pairs}
