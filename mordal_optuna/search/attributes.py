"""Every name under which a study keeps something in its database, and how long values are kept.

The names are part of what users have stored: a new version reads and continues a study of an older
one, so no name here ever changes. MySQL and MariaDB hold 64 KB an attribute, and similarities of
25 x 25 models take more: a longer value is kept in pieces, one attribute each.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.study import Study

# User attributes of a study: its configuration; D, the samples of a full alignment; digests of its
# inputs; what it is called in its database's claims; the comparison of the models; facts that
# warnings are based on; the winner's scores on further tasks; why the search has ended.
CONFIG = "mordal:config"
FULL_SAMPLES = "mordal:full_samples"
INPUTS = "mordal:inputs"
IDENTITY = "mordal:identity"
REPRESENTATION = "mordal:representation"
FACTS = "mordal:facts"
FURTHER_SCORES = "mordal:further_scores"
STOPPED_BECAUSE = "mordal:stopped_because"
# Trials with lower numbers have their note in the dashboard.
NOTED = "mordal:noted"

# User attributes of a trial: its pair; the pair's name as the dashboard shows it; details of the
# score at each rung; the trial whose checkpoint it goes on from.
PAIR = "mordal:pair"
NAME = "mordal:candidate"
RUNGS = "mordal:rungs"
CONTINUES = "mordal:continues_trial"
# Why the pair could not be trained or scored; counts against it.
FAILURE = "mordal:failure"
# What ended the trial and is not the pair's fault: a signal, a dead worker, an outage.
INTERRUPTED = "mordal:interrupted"
# The trial ended without training, since another worker was training its pair.
STOOD_BACK = "mordal:stood_back"
# Device-seconds that a trial spent without a score.
LOST_SECONDS = "mordal:lost_seconds"
# On a trial of its own: failures of earlier trials no longer count, of these pairs or of "all".
RETRY = "mordal:retry"

# System attributes of a trial: the job it was given; when its worker last gave a sign of life;
# with the rung behind it, the values of the documents of a score.
JOB = "mordal:job"
ALIVE = "mordal:alive"
ANSWERS = "mordal:answers"

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
