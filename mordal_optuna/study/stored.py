"""A study read from Optuna's tables in a few queries, for commands that only look at it.

Optuna reads a trial with everything that was stored with it, which takes many seconds for 10,000
trials, most of them for the values of single documents. Here these are left out. Nothing is
written, and no table is created. Tests compare the trials with those that Optuna reads.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from mordal_optuna.search.attributes import (
    CARRIED,
    CONTINUES,
    DIED,
    FAILURE,
    INTERRUPTED,
    JOB,
    LOST_SECONDS,
    PAIR,
    RETRY,
    RUNGS,
    STOOD_BACK,
)
from mordal_optuna.study.database import engine_options, store_errors
from mordal_optuna.study.opening import check_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from optuna.distributions import BaseDistribution

# What a history is made of, see `search.merging`; the values of single documents are not.
_USER = (
    CARRIED,
    CONTINUES,
    DIED,
    FAILURE,
    INTERRUPTED,
    LOST_SECONDS,
    PAIR,
    RETRY,
    RUNGS,
    STOOD_BACK,
)
_SPECIAL = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


def _table(name: str, *columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns))


_STUDIES = _table("studies", "study_id", "study_name")
_DIRECTIONS = _table("study_directions", "study_id", "direction")
_ATTRIBUTES = _table("study_user_attributes", "study_id", "key", "value_json")
_TRIALS = sa.table(
    "trials",
    *(sa.column(name) for name in ("trial_id", "number", "study_id", "state")),
    sa.column("datetime_start", sa.DateTime),
    sa.column("datetime_complete", sa.DateTime),
)
_PARAMS = _table("trial_params", "trial_id", "param_name", "param_value", "distribution_json")
_REPORTS = _table(
    "trial_intermediate_values",
    *("trial_id", "step", "intermediate_value", "intermediate_value_type"),
)
_TRIAL_USER = _table("trial_user_attributes", "trial_id", "key", "value_json")
_TRIAL_SYSTEM = _table("trial_system_attributes", "trial_id", "key", "value_json")


@dataclass(frozen=True)
class StoredStudy:
    """A study as it is stored.

    Attributes:
        study_name: name of the study.
        user_attrs: its user attributes.
        minimize: whether it reports errors, 1 - score, instead of scores.
        trials: its trials by number, with those attributes alone that a history is made of.
    """

    study_name: str
    user_attrs: Mapping[str, Any]
    minimize: bool
    trials: Sequence[FrozenTrial]

    def get_trials(self, *, deepcopy: bool = False) -> Sequence[FrozenTrial]:  # noqa: ARG002
        """The trials, as of an Optuna study."""
        return self.trials


@contextmanager
def connected(address: str, *, key: str) -> Iterator[sa.Connection | None]:
    """A connection to a study's database, for a command that only looks at it.

    Args:
        address: SQLAlchemy address of the database.
        key: where the address was given, for messages.

    Yields:
        The connection; None for a file of SQLite that does not exist, which connecting would make.

    Raises:
        ConfigError: if the address is none.
        StoreError: if the database cannot be used; hides the password.
    """
    check_address(address, key=key)
    url = sa.make_url(address)
    if url.get_backend_name() == "sqlite" and not _exists(url):
        yield None
        return
    engine = sa.create_engine(address, **engine_options(address))
    try:
        with store_errors(engine), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _exists(url: sa.URL) -> bool:
    return not url.database or url.database == ":memory:" or Path(url.database).is_file()


def read_study(connection: sa.Connection, name: str) -> StoredStudy | None:
    """Read a study; None if it does not exist.

    Args:
        connection: connection to the study's database.
        name: name of the study.
    """
    if not sa.inspect(connection).has_table(_STUDIES.name):
        return None
    found = connection.execute(
        sa.select(_STUDIES.c.study_id, _STUDIES.c.study_name).where(_STUDIES.c.study_name == name)
    ).all()
    # MySQL and MariaDB may ignore case.
    number = next((row.study_id for row in found if row.study_name == name), None)
    if number is None:
        return None
    direction = connection.execute(
        sa.select(_DIRECTIONS.c.direction).where(_DIRECTIONS.c.study_id == number)
    ).scalar_one()
    stored = connection.execute(
        sa.select(_ATTRIBUTES.c.key, _ATTRIBUTES.c.value_json).where(
            _ATTRIBUTES.c.study_id == number
        )
    )
    attributes = {row.key: json.loads(row.value_json) for row in stored}
    trials = _read_trials(connection, number)
    return StoredStudy(name, attributes, direction == "MINIMIZE", trials)


def _read_trials(connection: sa.Connection, study: int) -> list[FrozenTrial]:
    # One query a table; a trial that begins in between has no rows in the later ones.
    query = sa.select(_TRIALS).where(_TRIALS.c.study_id == study).order_by(_TRIALS.c.number)
    rows = connection.execute(query).all()
    ids = sa.select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study)

    def belonging(table: sa.TableClause, *keys: str) -> Iterable[Any]:
        query = sa.select(table).where(table.c.trial_id.in_(ids))
        # All at once: fetching row by row takes twice as long.
        return connection.execute(query.where(table.c.key.in_(keys)) if keys else query).all()

    params: dict[int, dict[str, tuple[Any, BaseDistribution]]] = {}
    for trial, name, value, kind in belonging(_PARAMS):
        distribution = _distribution(kind)
        chosen = distribution.to_external_repr(value)
        params.setdefault(trial, {})[name] = (chosen, distribution)
    reports: dict[int, dict[int, float]] = {}
    for trial, step, value, kind in belonging(_REPORTS):
        reports.setdefault(trial, {})[step] = _SPECIAL.get(kind, value)
    user: dict[int, dict[str, Any]] = {}
    for trial, key, content in belonging(_TRIAL_USER, *_USER):
        user.setdefault(trial, {})[key] = json.loads(content)
    system: dict[int, dict[str, Any]] = {}
    for trial, key, content in belonging(_TRIAL_SYSTEM, JOB):
        system.setdefault(trial, {})[key] = json.loads(content)
    return [
        _trial(row, params.get(row.trial_id, {}), reports, user, system)
        for row in rows  # numbers have no gaps
    ]


def _trial(
    row: sa.Row[Any],
    params: Mapping[str, tuple[Any, BaseDistribution]],
    reports: Mapping[int, dict[int, float]],
    user: Mapping[int, dict[str, Any]],
    system: Mapping[int, dict[str, Any]],
) -> FrozenTrial:
    return FrozenTrial(
        number=row.number,
        state=TrialState[row.state],
        value=None,
        datetime_start=row.datetime_start,
        datetime_complete=row.datetime_complete,
        params={name: value for name, (value, _) in params.items()},
        distributions={name: distribution for name, (_, distribution) in params.items()},
        user_attrs=user.get(row.trial_id, {}),
        system_attrs=system.get(row.trial_id, {}),
        intermediate_values=reports.get(row.trial_id, {}),
        trial_id=row.trial_id,
    )


@lru_cache(maxsize=64)
def _distribution(stored: str) -> BaseDistribution:
    return json_to_distribution(stored)
