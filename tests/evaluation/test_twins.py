"""The shipped twins of the seven benchmarks: upstream's code on other data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.evaluation.tasks import build_task
from tests.evaluation.seven import SEVEN, built, score_answers
from tests.evaluation.test_upstream import shown

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task

TWINS = {
    "gqa": "mordal_gqa",
    "vizwiz_vqa_val": "mordal_vizwiz",
    "chartqa": "mordal_chartqa",
    "docvqa_val": "mordal_docvqa",
    "scienceqa_img": "mordal_scienceqa",
    "ai2d": "mordal_ai2d",
    "mmmu_val": "mordal_mmmu",
}


def twin_of(name: str, data: Path) -> Task:
    return build_task(TaskSettings(name=TWINS[name], data=data), [shipped("tasks")], seed=0)


def test_each_of_the_seven_has_a_twin() -> None:
    assert set(TWINS) | {"slake_en"} == set(SEVEN)
    names = {path.stem for path in (shipped("tasks") / "mordal_seven").glob("*.yaml")}
    assert names == set(TWINS.values())


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_asks_and_scores_as_upstream_does(tmp_path: Path, name: str) -> None:
    """Prompts, images, generation options, metric, references and scores."""
    theirs = built(name, tmp_path)
    ours = twin_of(name, tmp_path / name)
    assert ours.spec == theirs.spec
    assert ours.split == theirs.split
    assert ours.live.config.generation_kwargs == theirs.live.config.generation_kwargs
    for number in range(len(theirs.documents)):
        (their_pictures, their_text), (pictures, text) = shown(theirs, number), shown(ours, number)
        assert text == their_text
        assert [p.tobytes() for p in pictures] == [p.tobytes() for p in their_pictures]
        assert ours.reference(number) == theirs.reference(number)
    _, gold, wrong = SEVEN[name]
    for answer in (gold, wrong, lambda doc: gold(doc).lower() + ".", lambda _: "a red dog"):
        assert (
            score_answers(ours, answer).per_document == score_answers(theirs, answer).per_document
        )
