"""Scores in a database, by checkpoint and task, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import StoreError
from mordal_optuna.evaluation.score import Score
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.workbench.score_store import ScoreStore
from tests.evaluation.seven import SEVEN

if TYPE_CHECKING:
    from pathlib import Path

FOUND = Score(
    "ai2d", 0.5, 0.1, 4, (0.0, 1.0, 1.0, 0.0), 2.5, (0, 0, 1, 1), 0.25, (0.5, 1.0, 0.1, 2.0)
)


def test_a_score_is_read_back_completely(database: str) -> None:
    store = ScoreStore(database)
    assert store.get("run:a", "t") is None
    store.put("run:a", "t", FOUND)
    assert ScoreStore(database).get("run:a", "t") == FOUND
    plain = replace(FOUND, clusters=None, guessed=None, likelihoods=None)
    store.put("run:b", "t", plain)
    assert store.get("run:b", "t") == plain
    assert store.get("run:a", "other") is None


def test_a_second_score_under_the_same_key_is_ignored(database: str) -> None:
    store = ScoreStore(database)
    store.put("run:a", "t", FOUND)
    store.put("run:a", "t", replace(FOUND, seconds=9.0))
    assert store.get("run:a", "t") == FOUND


def test_twelve_thousand_documents_fit(database: str) -> None:
    values = tuple(n / 12_578 for n in range(12_578))
    large = replace(FOUND, per_document=values, documents=len(values), clusters=None)
    store = ScoreStore(database)
    store.put("run:a", "gqa", large)
    assert store.get("run:a", "gqa") == large


def test_an_unusable_database_is_named() -> None:
    with pytest.raises(StoreError, match=r"sqlite:////nowhere/x.db.*cannot be used"):
        ScoreStore("sqlite:////nowhere/x.db")


def test_a_task_that_changed_is_another_one(tmp_path: Path) -> None:
    """Other documents or another subset give another identity."""
    data = SEVEN["ai2d"][0](tmp_path / "a")

    def identity(**options: object) -> str:
        chosen = TaskSettings(name="ai2d", **{"data": data, **options})  # type: ignore[arg-type]
        return build_task(chosen, [shipped("tasks")], seed=0).identity

    whole = identity()
    assert identity() == whole
    assert identity(documents=2) != whole
    assert identity(documents=2) != identity(documents=3)
    other = SEVEN["ai2d"][0](tmp_path / "b")
    text = (other / "README.md").read_text()
    assert identity(data=other) == whole  # the same documents elsewhere
    from datasets import Dataset

    rows = Dataset.from_parquet(str(other / "default-test.parquet"))
    changed = rows.map(lambda row: {"question": row["question"] + "!"})
    changed.to_parquet(other / "default-test.parquet")
    (other / "README.md").write_text(text)
    assert identity(data=other) != whole
