"""A study read from the tables is the one that Optuna reads."""

from __future__ import annotations

import optuna
import sqlalchemy as sa
from optuna.trial import TrialState, create_trial

from mordal_optuna.search.attributes import FAILURE, INTERRUPTED, PAIR, RETRY
from mordal_optuna.search.history import HistoryReader
from mordal_optuna.search.sampler import study_history
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.stored import StoredStudy, read_study
from tests.search.synthetic import plan, search, table


def stored(database: str, name: str) -> StoredStudy | None:
    engine = sa.create_engine(database)
    with engine.connect() as connection:
        found = read_study(connection, name)
    engine.dispose()
    return found


def test_history_and_attributes_are_those_that_optuna_reads(database: str) -> None:
    """After a whole search with failures, an interruption and values that are no scores."""
    assert stored(database, "synthetic") is None
    chosen = plan()
    study = search(chosen, table(), study_storage(database))
    study.set_user_attr("note", {"a": [1, "ü"]})
    for attributes in (
        {PAIR: ["clip", "qwen"], FAILURE: "the loss is nan"},
        {PAIR: ["dino", "qwen"], INTERRUPTED: "SIGTERM"},
        {RETRY: "all"},
    ):
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    wrong = create_trial(
        state=TrialState.FAIL,
        user_attrs={PAIR: ["clip", "llama"]},
        intermediate_values={256: float("nan"), 512: float("inf"), 1024: 0.25},
    )
    study.add_trial(wrong)
    found = stored(database, "synthetic")
    assert found is not None
    assert found.user_attrs == study.user_attrs
    assert not found.minimize
    expected = study.get_trials(deepcopy=False)
    assert [t.number for t in found.trials] == [t.number for t in expected]
    for mine, theirs in zip(found.trials, expected, strict=True):
        assert (mine.state, mine.params, mine.distributions) == (
            *(theirs.state, theirs.params),
            theirs.distributions,
        )
        assert mine.datetime_start == theirs.datetime_start
        assert mine.datetime_complete == theirs.datetime_complete
        assert repr(mine.intermediate_values) == repr(theirs.intermediate_values)
    assert HistoryReader(chosen).read(found.trials) == study_history(study)


def test_names_are_told_apart_by_case_and_directions_read(database: str) -> None:
    storage = study_storage(database)
    optuna.create_study(study_name="s", storage=storage, direction="minimize")
    assert stored(database, "S") is None
    found = stored(database, "s")
    assert found is not None
    assert (found.minimize, list(found.trials)) == (True, [])
