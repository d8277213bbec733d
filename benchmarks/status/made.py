"""A study of many trials in a database, written row by row into Optuna's tables.

Optuna's own interface adds about ten trials a second on PostgreSQL. One trial is added by it, and
its rows are then repeated with the values of the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from mordal_optuna.search.attributes import ALIVE, JOB, NAME, PAIR, RUNGS
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.space import LLM, VISION_ENCODER
from mordal_optuna.study.claims import study_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Rows that are inserted at once.
_ROWS = 5000
DOCUMENTS = 400
# Share of the error that is left after twice as many samples.
_FALL = 0.93


@dataclass(frozen=True)
class Pool:
    """Names of the made study's models.

    Attributes:
        side: number of encoders, and of LLMs.
    """

    side: int

    @property
    def encoders(self) -> list[str]:
        """Names of the vision encoders."""
        return [f"encoder-{n:03d}" for n in range(self.side)]

    @property
    def llms(self) -> list[str]:
        """Names of the LLMs."""
        return [f"llm-{n:03d}" for n in range(self.side)]


def fill(address: str, name: str, pool: Pool, rungs: Sequence[int], seed: int = 0) -> int:
    """Fill a study with a trial for each pair and rung, as a search leaves them.

    Args:
        address: SQLAlchemy address of the database.
        name: name of the study, which must exist and have no trial.
        pool: the pool.
        rungs: number of samples of each rung, ascending; every pair is trained up to the last.
        seed: random seed of the scores.

    Returns:
        The number of trials.
    """
    study = optuna.load_study(study_name=name, storage=study_storage(address))
    trials = list(_trials(pool, rungs, seed))
    study.add_trial(trials[0])
    engine = sa.create_engine(address)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        first = connection.execute(sa.select(sa.func.max(tables.tables["trials"].c.trial_id)))
        start = int(first.scalar_one())
        rows = _rows(connection, tables, trials, start)
        for table, content in rows.items():
            for begin in range(0, len(content), _ROWS):
                insert = sa.insert(tables.tables[table])
                connection.execute(insert, content[begin : begin + _ROWS])
    engine.dispose()
    return len(trials)


def _trials(pool: Pool, rungs: Sequence[int], seed: int) -> Iterator[FrozenTrial]:
    draw = np.random.default_rng(seed)
    parts = draw.normal(0, 0.2, (2, pool.side))
    choices = (CategoricalDistribution(pool.encoders), CategoricalDistribution(pool.llms))
    spaces: dict[str, BaseDistribution] = dict(zip((VISION_ENCODER, LLM), choices, strict=True))
    pairs = list(product(range(pool.side), repeat=2))
    errors = {(i, j): float(np.exp(parts[0, i] + parts[1, j] - 1.0)) for i, j in pairs}
    for count, (i, j) in product(range(1, len(rungs) + 1), pairs):
        pair = [pool.encoders[i], pool.llms[j]]
        scores = {
            rung: float(np.clip(1 - errors[i, j] * _FALL**n, 0.01, 0.99))
            for n, rung in enumerate(rungs[:count])
        }
        top = rungs[count - 1]
        noise = (scores[top] * (1 - scores[top]) / DOCUMENTS) ** 0.5
        measured = Measurement(top, scores[top], noise, DOCUMENTS, top / 100, 3.0)
        yield create_trial(
            state=TrialState.PRUNED,
            params=dict(zip(spaces, pair, strict=True)),
            distributions=spaces,
            intermediate_values=scores,
            user_attrs={
                **{NAME: " + ".join(pair), PAIR: pair},
                RUNGS: {str(top): measured.to_json()},
            },
            system_attrs={
                JOB: {"pair": pair, "samples": top, "owner": "elsewhere/1/0", "begun": 1.0},
                ALIVE: 1.0,
            },
        )


def _rows(
    connection: sa.Connection, tables: sa.MetaData, trials: Sequence[FrozenTrial], start: int
) -> dict[str, list[dict[str, Any]]]:
    """Rows of all trials but the first, whose rows are taken for a pattern, by table."""

    def pattern(table: str, **where: object) -> dict[str, Any]:
        chosen = tables.tables[table]
        query = sa.select(chosen).where(*(chosen.c[key] == value for key, value in where.items()))
        row = dict(connection.execute(query.limit(1)).one()._mapping)
        key = next(iter(chosen.primary_key)).name
        return {name: value for name, value in row.items() if name != key}

    trial = pattern("trials", trial_id=start)
    params = {name: pattern("trial_params", param_name=name) for name in (VISION_ENCODER, LLM)}
    value = pattern("trial_intermediate_values")
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(table: str, **row: object) -> None:
        rows.setdefault(table, []).append(row)

    for number, made in enumerate(trials[1:], start=1):
        owner = {"trial_id": start + number}
        add("trials", **{**trial, **owner, "number": number})
        for name, model in made.params.items():
            at = made.distributions[name].to_internal_repr(model)
            add("trial_params", **{**params[name], **owner, "param_value": at})
        for step, score in made.intermediate_values.items():
            new = {"step": step, "intermediate_value": score}
            add("trial_intermediate_values", **{**value, **owner, **new})
        for table, stored in (
            ("trial_user_attributes", made.user_attrs),
            ("trial_system_attributes", made.system_attrs),
        ):
            for key, content in stored.items():
                add(table, **owner, key=key, value_json=json.dumps(content))
    return rows
