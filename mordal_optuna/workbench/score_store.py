"""Scores that workers and studies share, by checkpoint and task: nothing is scored twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from mordal_optuna.evaluation.score import Score
from mordal_optuna.study.database import Name, add, open_table, store_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

_scores = sa.Table(
    "mordal_scores",
    sa.MetaData(),
    sa.Column("checkpoint", Name(128), primary_key=True),
    sa.Column("task", Name(64), primary_key=True),
    sa.Column("score", sa.Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
)


class ScoreStore:
    """Scores with their documents' values, in the study's database.

    They are addressed by the numbers that were scored and by all that shapes the scoring, so a
    checkpoint or a task that changed is never taken for the old one.
    """

    def __init__(self, address: str) -> None:
        """Open the scores of a database; the table is created on first use.

        Args:
            address: SQLAlchemy address.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._engine = open_table(address, _scores)

    def get(self, checkpoint: str, task: str) -> Score | None:
        """A score; None where it is not known.

        Args:
            checkpoint: address of the run and digest of the scored weights.
            task: identity of the task.

        Raises:
            StoreError: if the database cannot be used.
        """
        query = sa.select(_scores.c.score).where(
            _scores.c.checkpoint == checkpoint, _scores.c.task == task
        )
        with store_errors(self._engine), self._engine.connect() as connection:
            found = connection.execute(query).scalar()
        return _read(json.loads(found)) if found is not None else None

    def put(self, checkpoint: str, task: str, score: Score) -> None:
        """Keep a score; one that is there already stays.

        Raises:
            StoreError: if the database cannot be used.
        """
        row = {"checkpoint": checkpoint, "task": task, "score": json.dumps(asdict(score))}
        # Where another worker was first, it had the same numbers.
        add(self._engine, sa.insert(_scores).values(**row))


def _read(stored: Mapping[str, Any]) -> Score:
    lists = ("per_document", "clusters", "likelihoods")
    tuples = {name: tuple(found) for name in lists if (found := stored.get(name)) is not None}
    return Score(**{**stored, **tuples})
