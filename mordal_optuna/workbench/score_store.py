"""Store of scores by checkpoint and task, shared by workers and studies of a database."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from mordal_optuna.evaluation.score import Score
from mordal_optuna.processes.patience import Patience
from mordal_optuna.progress import Silent
from mordal_optuna.study.database import Name, add, open_table, store_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.progress import Progress

_scores = sa.Table(
    "mordal_scores",
    sa.MetaData(),
    sa.Column("checkpoint", Name(128), primary_key=True),
    sa.Column("task", Name(64), primary_key=True),
    sa.Column("score", sa.Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
)


class ScoreStore:
    """Scores with the values of their documents, in the study's database.

    Keys are digests of the scored weights and of everything that shapes the scoring, so the score
    of a checkpoint or task that has changed is never returned for the new one.
    """

    def __init__(self, address: str, progress: Progress | None = None) -> None:
        """Open the table of scores; it is created on first use.

        Args:
            address: SQLAlchemy address of the database.
            progress: receives a note when a score waits for a database that is out.

        Raises:
            StoreError: if the database cannot be used.
        """
        self._engine = open_table(address, _scores)
        self._progress = progress or Silent()

    def get(self, checkpoint: str, task: str) -> Score | None:
        """Look up a score.

        Args:
            checkpoint: address of the run and digest of the scored weights.
            task: identity of the task.

        Returns:
            The score; None if it is not stored.

        Raises:
            StoreError: if the database cannot be used.
        """
        query = sa.select(_scores.c.score).where(
            _scores.c.checkpoint == checkpoint, _scores.c.task == task
        )
        with store_errors(self._engine), self._engine.connect() as connection:
            stored = connection.execute(query).scalar()
        return _from_json(json.loads(stored)) if stored is not None else None

    def put(self, checkpoint: str, task: str, score: Score) -> None:
        """Store a score, unless one is stored under the same key already.

        Args:
            checkpoint: address of the run and digest of the scored weights.
            task: identity of the task.
            score: the score. It may have taken hours, so an outage of the database is waited out.

        Raises:
            LastingOutageError: if the database cannot be used for half an hour.
        """
        row = {"checkpoint": checkpoint, "task": task, "score": json.dumps(asdict(score))}
        # A worker that stored it earlier scored the same weights on the same documents.
        insert = sa.insert(_scores).values(**row)
        Patience(time.sleep, self._progress).through(partial(add, self._engine, insert))


def _from_json(stored: Mapping[str, Any]) -> Score:
    lists = ("per_document", "clusters", "likelihoods")
    tuples = {name: tuple(values) for name in lists if (values := stored.get(name)) is not None}
    return Score(**{**stored, **tuples})
