"""Long values of a study: user attributes, in pieces where one attribute cannot hold them.

MySQL and MariaDB hold 64 KB an attribute; similarities of 25 x 25 models take more. Whatever fits
is one attribute, as it has always been.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.study import Study

# Characters of JSON, which Optuna writes in ASCII: an attribute has room for 65,535.
_LARGEST = 60_000
# A piece is stored as a JSON string, in which quotation marks and backslashes count twice.
_PIECE = 30_000
_PIECES = "mordal:pieces"


def store_value(study: Study, name: str, value: Any) -> None:
    """Keep a value with a study.

    Args:
        study: gets it.
        name: of the attribute; pieces have a number behind it.
        value: as JSON has it.
    """
    text = json.dumps(value)
    if len(text) <= _LARGEST:
        study.set_user_attr(name, value)
        return
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    for number, piece in enumerate(pieces, start=1):
        study.set_user_attr(f"{name}:{number}", piece)
    # Last, so that the value is there as a whole or not at all.
    study.set_user_attr(name, {_PIECES: len(pieces)})


def stored_value(attributes: Mapping[str, Any], name: str) -> Any:
    """A value that was kept; None if there is none.

    Args:
        attributes: all user attributes of the study.
        name: of the attribute.
    """
    value = attributes.get(name)
    if not isinstance(value, dict) or _PIECES not in value:
        return value
    numbers = range(1, value[_PIECES] + 1)
    return json.loads("".join(attributes[f"{name}:{number}"] for number in numbers))
