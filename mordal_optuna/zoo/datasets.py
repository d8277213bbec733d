"""The alignment set and the tasks of an embedded pool.

Pretraining, alignment and each task draw their scenes from generators of their own; a scene's
pixels depend on continuous offsets, so no picture appears twice.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, Features, Image, Sequence, Value

from mordal_optuna.zoo.corpus import CHOICE_SHARE
from mordal_optuna.zoo.questions import LETTERS, ask, choose
from mordal_optuna.zoo.scenes import draw, random_scene

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image as PilImage

    from mordal_optuna.progress import Advance

# Pictures are larger than most encoders want, so that image processors have something to do.
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
        folder: gets `alignment.json` and `images/`.
        samples: how many conversations, each with a picture of its own.
        seed: of scenes and questions.
        advance: is told of samples done.
    """
    rng = np.random.default_rng(seed)
    images = folder / "images"
    images.mkdir(parents=True)
    records = []
    for number in range(samples):
        scene = random_scene(rng)
        name = f"{number:06d}.png"
        draw(scene, PICTURE_SIZE, rng).save(images / name)
        if rng.random() < CHOICE_SHARE:
            choice = choose(scene, rng)
            question, answer = choice.prompt(), LETTERS[choice.answer]
        else:
            asked = ask(scene, rng)
            question, answer = asked.text, asked.answer
        turns = [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ]
        records.append({"id": f"scene-{number:06d}", "image": name, "conversations": turns})
        advance(1)
    (folder / "alignment.json").write_text(json.dumps(records), encoding="utf-8")


def write_scenes_task(folder: Path, *, documents: int, seed: int, advance: Advance) -> None:
    """Write the documents of the task `mordal_scenes`: id, image, question, answer."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(documents):
        scene = random_scene(rng)
        picture = _png(draw(scene, PICTURE_SIZE, rng))
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
    """Write documents in ScienceQA-IMG's schema, for upstream's own task `scienceqa_img`."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(documents):
        scene = random_scene(rng)
        picture = _png(draw(scene, PICTURE_SIZE, rng))
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


def _png(image: PilImage.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _write(folder: Path, rows: list[dict[str, Any]], features: Features, *, config: str) -> None:
    (folder / "data").mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "data" / "test.parquet")
    (folder / "README.md").write_text(_README.format(config=config), encoding="utf-8")
