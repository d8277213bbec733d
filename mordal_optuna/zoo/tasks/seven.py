"""Documents of the seven drawn benchmarks, in the schemas of the data sets on the hub.

Each benchmark has a folder with Parquet files and a dataset card, which lmms-eval's task code
reads. The benchmarks draw their pictures with different random generators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from datasets import Dataset, Features, Image, List, Value

from mordal_optuna.zoo.drawing import questions as q
from mordal_optuna.zoo.drawing.charts import random_chart
from mordal_optuna.zoo.drawing.diagrams import random_diagram
from mordal_optuna.zoo.drawing.documents import random_document
from mordal_optuna.zoo.drawing.multiple_choice import LETTERS, offer
from mordal_optuna.zoo.drawing.scenes import random_photo, random_scene
from mordal_optuna.zoo.tasks.files import png
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.drawing.multiple_choice import Question
    from mordal_optuna.zoo.drawing.pictures import Picture

Row = dict[str, Any]
# Content of a task's files: rows and schema by (configuration, split).
Tables = dict[tuple[str, str], tuple[list[Row], Features]]

P = TypeVar("P", bound="Picture")

_TEXT = Value("string")
# Questions per picture; the real benchmarks also ask several.
_GQA_QUESTIONS = 4
_PAGE_QUESTIONS = 2
_SUBJECTS = {
    "pair": "Art_Theory",
    "scene": "Art",
    "chart": "Economics",
    "document": "Accounting",
    "diagram": "Biology",
}
_MMMU_IMAGES = tuple(f"image_{n}" for n in range(1, 8))


def write_seven(folder: Path, *, documents: int, seed: int, advance: Advance) -> None:
    """Write all seven tasks, each to a subfolder named as lmms-eval names the task.

    Args:
        folder: receives the subfolders.
        documents: number of documents of each task.
        seed: random seed; it gives different pictures for each task.
        advance: callback that receives the number of documents just written.
    """
    for name in TASKS:
        write_task(name, folder / name, documents=documents, seed=seed, advance=advance)


def write_task(name: str, folder: Path, *, documents: int, seed: int, advance: Advance) -> None:
    """Write one of the seven tasks.

    Args:
        name: one of `TASKS`.
        folder: receives Parquet files and a dataset card.
        documents: number of documents.
        seed: random seed; it gives different pictures for each task.
        advance: callback that receives the number of documents just written.
    """
    rng = np.random.default_rng([seed, TASKS.index(name)])
    tables = _TABLES[name](documents, rng)
    folder.mkdir(parents=True)
    lines = ["---", "configs:"]
    for (config, split), (rows, features) in tables.items():
        file = f"{config}-{split}.parquet"
        Dataset.from_list(rows, features=features).to_parquet(folder / file)
        lines += [f"- config_name: {config}", "  data_files:", f"  - split: {split}"]
        lines += [f"    path: {file}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    advance(documents)


def _gqa(documents: int, rng: np.random.Generator) -> Tables:
    rows: list[Row] = []
    images: list[Row] = []
    for image, row in _pages(random_scene, q.ask_scene, documents, _GQA_QUESTIONS, rng):
        name = f"n{image['number']:06d}"
        if not images or images[-1]["id"] != name:
            images.append({"id": name, "image": image["image"]})
        rows.append(
            {"id": f"{len(rows):08d}", "imageId": name}
            | {"question": row.text, "answer": row.answer}
        )
    asked = Features(id=_TEXT, imageId=_TEXT, question=_TEXT, answer=_TEXT)
    return {
        ("testdev_balanced_instructions", "testdev"): (rows, asked),
        ("testdev_balanced_images", "testdev"): (images, Features(id=_TEXT, image=Image())),
    }


def _vizwiz(documents: int, rng: np.random.Generator) -> Tables:
    rows = []
    for number in range(documents):
        photo = random_photo(rng)
        asked = q.ask_photo(photo, rng)
        rows.append(
            {
                "question_id": f"VizWiz_val_{number:08d}.jpg",
                "image": png(photo.draw(rng)),
                "question": asked.text,
                "answers": q.annotate(photo, asked, rng),
            }
        )
    features = Features(question_id=_TEXT, image=Image(), question=_TEXT, answers=List(_TEXT))
    return {("default", "val"): (rows, features)}


def _chartqa(documents: int, rng: np.random.Generator) -> Tables:
    rows: list[Row] = []
    while len(rows) < documents:
        chart = random_chart(rng)
        image = png(chart.draw(rng))
        for kind, simple in (("human_test", False), ("augmented_test", True)):
            asked = q.ask_chart(chart, rng, simple=simple)
            rows.append(
                {"type": kind, "question": asked.text, "answer": asked.answer, "image": image}
            )
    features = Features(type=_TEXT, question=_TEXT, answer=_TEXT, image=Image())
    return {("default", "test"): (rows[:documents], features)}


def _docvqa(documents: int, rng: np.random.Generator) -> Tables:
    rows = [
        {
            "questionId": str(number),
            "question": asked.text,
            "answers": [asked.answer],
            "image": image["image"],
        }
        for number, (image, asked) in enumerate(
            _pages(random_document, q.ask_document, documents, _PAGE_QUESTIONS, rng)
        )
    ]
    features = Features(questionId=_TEXT, question=_TEXT, answers=List(_TEXT), image=Image())
    return {("DocVQA", "validation"): (rows, features)}


def _scienceqa(documents: int, rng: np.random.Generator) -> Tables:
    rows = []
    for _ in range(documents):
        scene = random_scene(rng)
        context, asked = q.ask_science(scene, rng)
        choice = offer(asked, rng)
        rows.append(
            {
                "image": png(scene.draw(rng)),
                "question": choice.text,
                "choices": list(choice.options),
                "answer": choice.answer,
                "hint": context,
            }
        )
    features = Features(
        image=Image(), question=_TEXT, choices=List(_TEXT), answer=Value("int8"), hint=_TEXT
    )
    return {("ScienceQA-IMG", "test"): (rows, features)}


def _ai2d(documents: int, rng: np.random.Generator) -> Tables:
    rows = []
    for image, asked in _pages(random_diagram, q.ask_diagram, documents, _PAGE_QUESTIONS, rng):
        choice = offer(asked, rng)
        rows.append(
            {
                "question": choice.text,
                "options": list(choice.options),
                "answer": str(choice.answer),
                "image": image["image"],
            }
        )
    features = Features(question=_TEXT, options=List(_TEXT), answer=_TEXT, image=Image())
    return {("default", "test"): (rows, features)}


def _mmmu(documents: int, rng: np.random.Generator) -> Tables:
    rows = []
    for number in range(documents):
        pictures, kind, asked = q.mixed_pictures(rng)
        images = {f"image_{n}": png(p.draw(rng)) for n, p in enumerate(pictures, start=1)}
        marks = " ".join(f"<image {n}>" for n in range(1, len(pictures) + 1))
        row: Row = dict.fromkeys(_MMMU_IMAGES) | images
        row |= {
            "id": f"validation_{_SUBJECTS[kind]}_{number + 1}",
            "question": f"{marks} {asked.text}",
        }
        if rng.random() < q.OPEN_SHARE:
            row |= {"options": "[]", "question_type": "open", "answer": asked.answer}
        else:
            choice = offer(asked, rng)
            row |= {"options": str(list(choice.options)), "question_type": "multiple-choice"}
            row |= {"answer": LETTERS[choice.answer]}
        rows.append(row)
    features = Features(
        id=_TEXT,
        question=_TEXT,
        options=_TEXT,
        question_type=_TEXT,
        answer=_TEXT,
        **{name: Image() for name in _MMMU_IMAGES},
    )
    return {("default", "validation"): (rows, features)}


_TABLES: dict[str, Callable[[int, np.random.Generator], Tables]] = {
    "gqa": _gqa,
    "vizwiz_vqa_val": _vizwiz,
    "chartqa": _chartqa,
    "docvqa_val": _docvqa,
    "scienceqa_img": _scienceqa,
    "ai2d": _ai2d,
    "mmmu_val": _mmmu,
}


def _pages(
    make: Callable[[np.random.Generator], P],
    ask: Callable[[P, np.random.Generator], Question],
    documents: int,
    questions: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Row, Question]]:
    """Documents with several different questions per picture.

    Yields:
        The picture with its number, and a question.
    """
    done = number = 0
    while done < documents:
        picture = make(rng)
        image = {"number": number, "image": png(picture.draw(rng))}
        asked = dict.fromkeys(ask(picture, rng) for _ in range(questions))
        for question in list(asked)[: documents - done]:
            yield image, question
            done += 1
        number += 1
