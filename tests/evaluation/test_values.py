"""Tasks whose aggregation is no mean: the mean of a value that each document has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from datasets import Features, Image

from mordal_optuna.config import TaskSettings
from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.tasks import build_task
from tests.evaluation.seven import TEXT, picture, save, score_answers

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task

MME = 'include: mme/mme.yaml\nmetadata: {{mordal: {{metric: "mme_{0}_score,none", value: {1}}}}}\n'


def mme(folder: Path) -> Path:
    """Three pictures with two questions each; one of them is about cognition."""
    kinds = ("color", "count", "code_reasoning")
    rows = [
        {
            "question_id": f"{kind}/{n}.png",
            "image": picture(n),
            "question": f"Is it {answer}? Please answer yes or no.",
            "answer": answer,
            "category": kind,
        }
        for n, kind in enumerate(kinds)
        for answer in ("Yes", "No")
    ]
    names = ("question_id", "question", "answer", "category")
    features = Features({"image": Image(), **dict.fromkeys(names, TEXT)})
    return save(folder / "MME", {("default", "test"): (rows, features)})


def built(
    folder: Path, kind: str = "perception", value: str = "score", documents: int | None = None
) -> Task:
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "mme.yaml").write_text(MME.format(kind, value))
    settings = TaskSettings(name="mme", data=mme(folder), documents=documents)
    return build_task(settings, [folder / "mine"], seed=0)


def test_the_score_is_the_mean_over_the_documents_that_have_the_metric(tmp_path: Path) -> None:
    for kind, count in (("perception", 4), ("cognition", 2)):
        task = built(tmp_path, kind)
        found = score_answers(task, lambda doc: doc["answer"])
        assert (found.value, found.documents) == (1.0, count)
        half = score_answers(task, lambda _: "yes")
        assert half.value == 0.5
        assert sorted(half.per_document) == [0.0] * (count // 2) + [1.0] * (count // 2)


def test_a_subset_may_hold_one_question_of_a_pair(tmp_path: Path) -> None:
    """Upstream's aggregation would fail on it."""
    assert score_answers(built(tmp_path, documents=3), lambda doc: doc["answer"]).value == 1.0


def test_a_value_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="the value 'points'; `process_results` gives question_id"):
        built(tmp_path, value="points")
