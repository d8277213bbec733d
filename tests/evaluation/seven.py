"""Seven benchmarks and SLAKE on local data in the hub's schema; answers that need no model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PilImage

from mordal_optuna.config import TaskSettings
from mordal_optuna.evaluation import score as module
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.tasks import build_task

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.evaluation.task import Task

Doc = dict[str, Any]
Answer = Callable[[Doc], str]
TEXT = Value("string")
COLORS = ("red", "green", "blue", "white")


def score_answers(task: Task, answer: Answer) -> Score:
    """Score answers that are looked up instead of generated, by lmms-eval's own task code."""
    import_lmms_eval()
    from lmms_eval.api.model import lmms

    class Oracle(lmms):
        is_simple = False
        device = torch.device("cpu")

        def generate_until(self, requests: list[Any]) -> list[str]:
            docs = [self.task_dict[r.args[4]][r.args[5]][r.args[3]] for r in requests]
            return [answer(doc) for doc in docs]

        loglikelihood = generate_until
        generate_until_multi_round = generate_until

    plain = replace(task, likelihood=False)  # there is no model that could find answers likely
    cut = dict.fromkeys(((task.name, row) for row in range(len(task.documents))), False)
    return module._score(module._evaluate(Oracle(), [task]), plain, {}, cut)


def always(text: str) -> Answer:
    """The same answer to every question."""

    def answer(doc: Doc) -> str:  # noqa: ARG001
        return text

    return answer


def picture(number: int) -> PilImage.Image:
    """One of four pictures, so that some documents share one."""
    return PilImage.new("RGB", (8, 8), COLORS[number % 4])


def save(folder: Path, parts: dict[tuple[str, str], tuple[list[Doc], Features]]) -> Path:
    """Parquet files by (configuration, split), with the card that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["---", "configs:"]
    for (name, split), (rows, features) in parts.items():
        file = f"{name}-{split}.parquet"
        Dataset.from_list(rows, features=features).to_parquet(folder / file)
        lines += [f"- config_name: {name}", "  data_files:", f"  - split: {split}"]
        lines += [f"    path: {file}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def gqa(folder: Path) -> Path:
    questions = [
        {"id": str(n), "imageId": f"n{n % 4}", "question": f"What {n}?", "answer": COLORS[n % 4]}
        for n in range(8)
    ]
    images = [{"id": f"n{n}", "image": picture(n)} for n in range(4)]
    asked = Features(id=TEXT, imageId=TEXT, question=TEXT, answer=TEXT)
    return save(
        folder,
        {
            ("testdev_balanced_instructions", "testdev"): (questions, asked),
            ("testdev_balanced_images", "testdev"): (images, Features(id=TEXT, image=Image())),
        },
    )


def vizwiz(folder: Path) -> Path:
    rows = [
        {
            "question_id": str(n),
            "image": picture(n),
            "question": "what is this?",
            "answers": ["dog"] * 10 if n else ["dog"] * 2 + [f"other {k}" for k in range(8)],
        }
        for n in range(4)
    ]
    features = Features(question_id=TEXT, image=Image(), question=TEXT, answers=List(TEXT))
    return save(folder, {("default", "val"): (rows, features)})


def chartqa(folder: Path) -> Path:
    kinds = ("human_test", "augmented_test")
    answers = ("100", "red", "0.14", "2015")
    rows = [
        {"type": kinds[n % 2], "question": f"How {n}?", "answer": a, "image": picture(n // 2)}
        for n, a in enumerate(answers)
    ]
    features = Features(type=TEXT, question=TEXT, answer=TEXT, image=Image())
    return save(folder, {("default", "test"): (rows, features)})


def docvqa(folder: Path) -> Path:
    rows = [
        {"questionId": str(n), "question": "Who?", "answers": ["John Smith", "J. Smith"]}
        | {"image": picture(n)}
        for n in range(4)
    ]
    features = Features(questionId=TEXT, question=TEXT, answers=List(TEXT), image=Image())
    return save(folder, {("DocVQA", "validation"): (rows, features)})


def scienceqa(folder: Path) -> Path:
    rows = [
        {"image": picture(n), "question": f"Which {n}?", "choices": list(COLORS), "answer": n % 4}
        | {"hint": "A hint." if n % 2 else ""}
        for n in range(4)
    ]
    features = Features(
        image=Image(), question=TEXT, choices=List(TEXT), answer=Value("int8"), hint=TEXT
    )
    return save(folder, {("ScienceQA-IMG", "test"): (rows, features)})


def ai2d(folder: Path) -> Path:
    rows = [
        {"question": f"Which {n}?", "options": list(COLORS), "answer": str(n)}
        | {"image": picture(n)}
        for n in range(4)
    ]
    features = Features(question=TEXT, options=List(TEXT), answer=TEXT, image=Image())
    return save(folder, {("default", "test"): (rows, features)})


def mmmu(folder: Path) -> Path:
    images = [f"image_{n}" for n in range(1, 8)]
    rows = []
    for n in range(4):
        choice = n < 3
        shown = {"image_1": picture(n), "image_2": picture(n + 1) if n == 1 else None}
        rows.append(
            dict.fromkeys(images)
            | shown
            | {
                "id": f"validation_{('Art', 'Physics', 'Art', 'Finance')[n]}_{n}",
                "question": "Look at <image 1> and <image 2>." if n == 1 else "See <image 1>.",
                "options": str(list(COLORS)) if choice else "[]",
                "question_type": "multiple-choice" if choice else "open",
                "answer": "ABCD"[n] if choice else "12.5",
            }
        )
    features = Features(
        id=TEXT,
        question=TEXT,
        options=TEXT,
        question_type=TEXT,
        answer=TEXT,
        **{name: Image() for name in images},
    )
    return save(folder, {("default", "validation"): (rows, features)})


def slake(folder: Path) -> Path:
    """Questions in two languages, with pictures, which the hub has in an archive."""
    rows = [
        {"qid": n, "question": f"What {n}?", "answer": COLORS[n % 4], "img_name": f"{n // 2}.jpg"}
        | {"q_lang": "zh" if n == 5 else "en", "answer_type": "OPEN", "modality": "MRI"}
        | {"content_type": "Color", "image": picture(n // 2)}
        for n in range(6)
    ]
    features = Features(
        qid=Value("int32"),
        **dict.fromkeys(("question", "answer", "img_name", "q_lang"), TEXT),
        **dict.fromkeys(("answer_type", "modality", "content_type"), TEXT),
        image=Image(),
    )
    return save(folder, {("default", "test"): (rows, features)})


# Writes the data; a right answer; a wrong one.
SEVEN: dict[str, tuple[Callable[[Path], Path], Answer, Answer]] = {
    "gqa": (gqa, lambda d: d["answer"].upper() + ".", lambda d: "a " + d["answer"]),
    "vizwiz_vqa_val": (vizwiz, lambda d: d["answers"][-1], always("cat")),
    "chartqa": (chartqa, lambda d: d["answer"], always("nothing")),
    "docvqa_val": (docvqa, lambda d: d["answers"][1], always("John")),
    "scienceqa_img": (
        scienceqa,
        lambda d: "ABCD"[d["answer"]],
        lambda d: "ABCD"[d["answer"] - 1],
    ),
    "ai2d": (ai2d, lambda d: "ABCD"[int(d["answer"])], lambda d: "ABCD"[int(d["answer"]) - 1]),
    "mmmu_val": (
        mmmu,
        lambda d: d["answer"],
        lambda d: {"A": "B", "B": "C", "C": "D"}.get(d["answer"], "7"),
    ),
    "slake_en": (slake, lambda d: d["answer"].upper() + ".", always("nothing")),
}


def built(name: str, folder: Path, **options: Any) -> Task:  # noqa: ANN401
    """One of the seven on local data."""
    data = SEVEN[name][0](folder / name)
    return build_task(TaskSettings(name=name, data=data, **options), [], seed=0)
