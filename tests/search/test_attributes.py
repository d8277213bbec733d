"""Long values are read back on every database; short ones are stored as a single attribute."""

from __future__ import annotations

import optuna
import pytest

from mordal_optuna.search.attributes import store_value, stored_value
from mordal_optuna.study.claims import study_storage


@pytest.mark.parametrize("text", ['"', "\\", "é", "x"])
def test_any_text_of_any_length_is_read_back(database: str, text: str) -> None:
    """Also where every character counts twice as JSON."""
    study = optuna.create_study(storage=study_storage(database))
    for length in (1, 30_000, 65_000, 200_000):
        store_value(study, "v", {"text": text * length})
        assert stored_value(study.user_attrs, "v") == {"text": text * length}


def test_what_fits_is_one_attribute() -> None:
    study = optuna.create_study()
    assert stored_value(study.user_attrs, "v") is None
    store_value(study, "v", {"a": [1, 2]})
    assert study.user_attrs == {"v": {"a": [1, 2]}}


def test_a_value_that_was_cut_off_while_it_was_written_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = optuna.create_study()
    put = study.set_user_attr

    class Killed(BaseException):
        pass

    def dies(name: str, value: object) -> None:
        if name == "v:3":
            raise Killed
        put(name, value)

    monkeypatch.setattr(study, "set_user_attr", dies)
    with pytest.raises(Killed):
        store_value(study, "v", "x" * 200_000)
    assert stored_value(study.user_attrs, "v") is None
