"""The check of a bound that a docstring promises, with one wording for every argument."""

from __future__ import annotations

from mordal_optuna.errors import SearchError


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Refuse an argument outside its bounds.

    Args:
        condition: whether the value is allowed.
        name: name of the argument, or of the study-file key it comes from.
        value: the value that was given.
        allowed: the allowed values in words, such as "at least 2".

    Raises:
        SearchError: if the condition is false.
    """
    if not condition:
        raise SearchError(f"{name}: got {value!r}; it must be {allowed}")
