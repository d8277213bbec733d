"""Errors keep class, message and attributes between processes."""

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


def test_a_pickled_error_is_rebuilt_whole() -> None:
    """Class, message and attributes, whatever arguments the constructor takes."""
    for error in (
        TrainingError(8, "the loss is nan"),
        DataError("a.png", "is no image"),
        LastingOutageError("the disk is full", 3),
        InputsChangedError("s", [Change("data", "images")]),
        FailedSearchError("no candidate could be trained", "the loss is nan"),
    ):
        rebuilt = pickle.loads(pickle.dumps(error))
        assert type(rebuilt) is type(error)
        assert str(rebuilt) == str(error)
        assert vars(rebuilt) == vars(error)
        assert isinstance(rebuilt, MordalError)


def test_bad_arguments_are_value_errors_too() -> None:
    """Library users catch them as they catch Python's own errors for bad values."""
    with pytest.raises(ValueError, match="at least 2"):
        raise SearchError("eta: got 1; it must be at least 2")
    with pytest.raises(ValueError, match="unknown key"):
        raise ConfigError(["sedd: unknown key"])
