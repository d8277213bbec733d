"""The names of all attributes that a study stores in its database, and storage of long values.

The names are part of what users have stored: a new version continues studies of older versions, so
a name here never changes. MySQL and MariaDB limit an attribute to 64 KB, and the similarities of
25 x 25 models are larger, so a longer value is split over several attributes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.study import Study

# User attributes of a study: its configuration; samples of a full alignment; input digests;
# its unique name among the claims in its database; the comparison of the models; facts that
# warnings are based on; the winner's scores on further tasks; the reason why the search ended.
CONFIG = "mordal:config"
FULL_SAMPLES = "mordal:full_samples"
INPUTS = "mordal:inputs"
# Commits of the models on the hub at which the study loads them, by part.
COMMITS = "mordal:commits"
IDENTITY = "mordal:identity"
REPRESENTATION = "mordal:representation"
FACTS = "mordal:facts"
FURTHER_SCORES = "mordal:further_scores"
STOPPED_BECAUSE = "mordal:stopped_because"
# End of the study that a worker has reported: its reason, and the number of trials.
REPORTED = "mordal:reported"
# End of the study, in the same form, for which the command of `on_finish` was started.
FINISHED = "mordal:finished"
# What the study was made with, beside commits and digests: versions of packages, prompts.
ORIGIN = "mordal:origin"
# Number below which all trials have their note in the dashboard.
NOTED = "mordal:noted"
# Digests of what the dashboard shows of the study, by figure and note; what has not changed is not
# written again. Identifier of the HTML report among the artifacts of the study.
SHOWN = "mordal:shown"
REPORT = "mordal:report"
# What the dashboard lists of the study's result in plain words: state; winner, its measured score,
# its estimate after all samples and its probability of being the best; cost of the search.
STATE = "state"
WINNER = "winner"
BEST = "best pair with probability, %"
FULL_RUNS = "cost, full runs"
# Pairs that were given up, with the reasons.
GIVEN_UP = "given up"
# Identity of the study that a study of one of its tasks is filled from.
FILLED_FROM = "mordal:filled_from"
# Date that chat templates take for today, YYYY-MM-DD; absent if an older version began the study.
TEMPLATE_DATE = "mordal:template_date"
# Name of the study whose scores were carried over, and whether all of them have been.
EXTENDS = "mordal:extends"

# User attributes of a trial: its pair; the pair's name as the dashboard shows it; details of the
# score at each rung; number of the trial whose checkpoint it continues from.
PAIR = "mordal:pair"
NAME = "mordal:candidate"
RUNGS = "mordal:rungs"
CONTINUES = "mordal:continues_trial"
# Reason why the pair could not be trained or scored; counts as a failure of the pair.
FAILURE = "mordal:failure"
# Reason of an interruption that does not count as a failure: a signal, a dead worker, an outage.
INTERRUPTED = "mordal:interrupted"
# True if the trial was interrupted by the end of its worker, which may be the pair's fault.
DIED = "mordal:died"
# True if the trial ended without training because another worker was training its pair.
STOOD_BACK = "mordal:stood_back"
# Device-seconds that a trial spent without obtaining a score.
LOST_SECONDS = "mordal:lost_seconds"
# Pairs, or "all", whose failures in earlier trials no longer count; on a trial that does no work.
RETRY = "mordal:retry"
# In a study of one task: number of the trial of the main study that a trial was filled from.
MAIN_TRIAL = "mordal:main_trial"
# Number of the trial, in the study that this one extends, whose scores were carried over.
CARRIED = "mordal:carried"

# What the dashboard lists of a trial in plain words, as of the trial's end: pair; score at the
# pair's highest rung and the samples there; estimate after all samples, its interval and its
# provenance; device-seconds spent on the pair; why the trial ended.
SHOWN_PAIR = "pair"
MEASURED = "measured, %"
SAMPLES = "samples"
ESTIMATE = "estimate, %"
INTERVAL = "interval, %"
PROVENANCE = "provenance"
COST = "cost of the pair, s"
REASON = "reason"

# System attributes of a trial: the job it was assigned; time of its worker's last heartbeat; the
# prefix of the names under which the values of a score's documents are stored.
JOB = "mordal:job"
ALIVE = "mordal:alive"
ANSWERS = "mordal:answers"

# Characters of JSON, which Optuna writes in ASCII; an attribute holds at most 65,535.
_LARGEST = 60_000
# A piece is stored as a JSON string, in which quotation marks and backslashes take two characters.
_PIECE = 30_000
_PIECES = "mordal:pieces"


def answers_attribute(samples: int, task: str = "") -> str:
    """Name of the system attribute with the values of the documents of a rung's score.

    Args:
        samples: number of alignment samples at the rung.
        task: name of the task, in a study with several target tasks.
    """
    return f"{ANSWERS}:{samples}:{task}" if task else f"{ANSWERS}:{samples}"


def store_value(study: Study, name: str, value: Any) -> None:
    """Store a value of any length as a user attribute of a study.

    Args:
        study: study to store the value with.
        name: name of the attribute; pieces are stored under this name with a number appended.
        value: any JSON value.
    """
    text = json.dumps(value)
    if len(text) <= _LARGEST:
        study.set_user_attr(name, value)
        return
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    for number, piece in enumerate(pieces, start=1):
        study.set_user_attr(f"{name}:{number}", piece)
    # Stored last, so that an incomplete value is never read.
    study.set_user_attr(name, {_PIECES: len(pieces)})


def stored_value(attributes: Mapping[str, Any], name: str) -> Any:
    """A value stored by `store_value`; None if there is none.

    Args:
        attributes: all user attributes of the study.
        name: name of the attribute.
    """
    value = attributes.get(name)
    if not isinstance(value, dict) or _PIECES not in value:
        return value
    numbers = range(1, value[_PIECES] + 1)
    return json.loads("".join(attributes[f"{name}:{number}"] for number in numbers))
