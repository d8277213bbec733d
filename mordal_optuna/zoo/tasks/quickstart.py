"""The quick start's alignment set and its two tasks.

The pixels of a scene depend on random offsets, and alignment set and tasks use different random
seeds, so no picture appears twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, Features, Image, Sequence, Value

from mordal_optuna.zoo.drawing.board import draw, random_scene
from mordal_optuna.zoo.drawing.board_questions import CHOICE_SHARE, ask, choose
from mordal_optuna.zoo.drawing.multiple_choice import LETTERS
from mordal_optuna.zoo.tasks.files import Conversation, png, write_conversations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mordal_optuna.progress import Advance

# Larger than the input of most encoders here, so that image processors have to resize.
PICTURE_SIZE = 64

_README = """---
configs:
- config_name: {config}
  data_files:
  - split: test
    path: data/test.parquet
---
"""


def write_alignment(folder: Path, *, samples: int, seed: int, advance: Advance) -> None:
    """Write an alignment set in LLaVA's conversation format.

    Args:
        folder: receives `alignment.json` and the folder `images`.
        samples: number of conversations, each about a different picture.
        seed: random seed of scenes and questions.
        advance: callback that receives the number of samples just written.
    """
    write_conversations(folder, _conversations(samples, np.random.default_rng(seed)), advance)


def _conversations(samples: int, rng: np.random.Generator) -> Iterator[Conversation]:
    for number in range(samples):
        scene = random_scene(rng)
        picture = draw(scene, PICTURE_SIZE, rng)
        if rng.random() < CHOICE_SHARE:
            choice = choose(scene, rng)
            turn = choice.prompt(), LETTERS[choice.answer]
        else:
            asked = ask(scene, rng)
            turn = asked.text, asked.answer
        yield Conversation(f"scene-{number:06d}", {f"{number:06d}.png": picture}, (turn,))


def write_scenes_task(folder: Path, *, documents: int, seed: int, advance: Advance) -> None:
    """Write the documents of the task `mordal_scenes`: id, image, question, answer.

    Args:
        folder: receives a Parquet file and a dataset card.
        documents: number of documents.
        seed: random seed of scenes and questions.
        advance: callback that receives the number of documents just written.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(documents):
        scene = random_scene(rng)
        picture = png(draw(scene, PICTURE_SIZE, rng))
        asked = ask(scene, rng)
        rows.append(
            {
                "id": f"test-{number:05d}",
                "image": picture,
                "question": asked.text,
                "answer": asked.answer,
            }
        )
        advance(1)
    features = Features(
        id=Value("string"), image=Image(), question=Value("string"), answer=Value("string")
    )
    _write(folder, rows, features, config="default")


def write_scienceqa_task(folder: Path, *, documents: int, seed: int, advance: Advance) -> None:
    """Write documents in ScienceQA-IMG's schema, for lmms-eval's task `scienceqa_img`.

    Args:
        folder: receives a Parquet file and a dataset card.
        documents: number of documents.
        seed: random seed of scenes and questions.
        advance: callback that receives the number of documents just written.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(documents):
        scene = random_scene(rng)
        picture = png(draw(scene, PICTURE_SIZE, rng))
        choice = choose(scene, rng)
        rows.append(
            {
                "image": picture,
                "question": choice.text,
                "choices": list(choice.options),
                "answer": choice.answer,
                "hint": "",
            }
        )
        advance(1)
    features = Features(
        image=Image(),
        question=Value("string"),
        choices=Sequence(Value("string")),
        answer=Value("int8"),
        hint=Value("string"),
    )
    _write(folder, rows, features, config="ScienceQA-IMG")


def _write(folder: Path, rows: list[dict[str, Any]], features: Features, *, config: str) -> None:
    (folder / "data").mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "data" / "test.parquet")
    (folder / "README.md").write_text(_README.format(config=config), encoding="utf-8")
