"""Errors travel between processes whole."""

from __future__ import annotations

import pickle

import pytest

from mordal_optuna.errors import (
    ConfigError,
    DataError,
    FailedSearchError,
    InputsChangedError,
    LastingOutageError,
    MordalError,
    SearchError,
    TrainingError,
)
from mordal_optuna.files.inputs import Change


def test_an_error_arrives_as_it_was_sent() -> None:
    """Its class, its sentence and its attributes, whatever its constructor takes."""
    for error in (
        TrainingError(8, "the loss is nan"),
        DataError("a.png", "is no image"),
        LastingOutageError("the disk is full", 3),
        InputsChangedError("s", [Change("data", "images")]),
        FailedSearchError("no candidate could be trained", "the loss is nan"),
    ):
        found = pickle.loads(pickle.dumps(error))
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert vars(found) == vars(error)
        assert isinstance(found, MordalError)


def test_bad_arguments_are_value_errors_too() -> None:
    """Code that calls the package as a library catches what Python raises for a bad value."""
    with pytest.raises(ValueError, match="at least 2"):
        raise SearchError("eta: got 1; it must be at least 2")
    with pytest.raises(ValueError, match="unknown key"):
        raise ConfigError(["sedd: unknown key"])
