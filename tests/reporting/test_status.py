"""A status in the terminal, at 80 columns, and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.status import (
    notice,
    status_json,
    status_view,
    unfinished_json,
)
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.ranking import Estimate
from mordal_optuna.study.costs import Costs
from mordal_optuna.study.presence import LiveWorker
from mordal_optuna.study.status import Failed, Leader, Rung, Status

NOW = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
PAIR = Candidate("siglip-so400m-patch14-384", "qwen2.5-7b-instruct")
STATUS = Status(
    study="my-study",
    task="ai2d",
    method="mordal",
    state="searching",
    workers=(
        LiveWorker(
            "m/4711/a", "node-017.cluster", 2, 7300.0, f"training {PAIR} to 4,096 samples", 61.0
        ),
        LiveWorker("m/4712/b", "node-018.cluster", 1, 7200.0, "waiting", 3.0),
    ),
    pairs=16,
    trained=5,
    trials={"running": 1, "pruned": 6},
    full_samples=65536,
    stage="inter-cluster",
    rungs=(Rung(2048, 5, 0), Rung(4096, 1, 1)),
    leader=Leader(
        PAIR,
        Measurement(4096, 0.5, 0.01, 400),
        Estimate(PAIR, 0.6, 0.55, 0.65, "inferred", 4096, 100.0),
        final=False,
        basis="pool",
    ),
    ranking=(
        Estimate(PAIR, 0.6, 0.55, 0.65, "inferred", 4096, 100.0),
        Estimate(Candidate("a", "c"), 0.5, 0.2, 0.7, "inferred", 0, 0.0),
    ),
    costs=Costs(training=7200.0, evaluation=3600.0),
    budget=36000.0,
    left=10800.0,
    left_by="budget",
    failures={Candidate("a", "b"): Failed(2, True, "the loss is nan")},
    interruptions=((Candidate("a", "c"), "SIGTERM"),),
    warnings=("scores are at chance",),
)


def shown(status: Status, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(status_view(status, NOW), highlight=False)
    return stream.getvalue()


def test_everything_is_shown_at_80_columns() -> None:
    text = shown(STATUS)
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for part in (
        "my-study: ai2d",
        "searching",
        "6 rungs scored, 5 of 16 pairs trained, 7 trials",
        "50.0 ± 1.0 % on ai2d",
        "60.0 % (55.0 to 65.0)",
        "3 device-hours",
        "at most 3 device-hours of a budget of 10",
        "expected end 2026-11-27 11:00 with 3 devices at work",
        "a + b: the loss is nan (2 attempts, given up)",
        "a + c: SIGTERM",
        "scores are at chance",
        "node-017.cluster:4711 x2",
        "waiting",
    ):
        assert part in flat, part


def test_the_json_holds_plain_values() -> None:
    """`docs/status.md` names its keys; the expected end has a time zone."""
    found = json.loads(json.dumps(status_json(STATUS, NOW)))
    assert found["expected_end"] == "2026-11-27T11:00:00+00:00"
    assert found["spent"]["total"] == 10800.0
    assert found["leader"]["estimate"] == {"value": 0.6, "low": 0.55, "high": 0.65}
    assert found["workers"][0]["process"] == 4711
    assert found["failures"] == {
        "a + b": {"attempts": 2, "given_up": True, "reason": "the loss is nan"}
    }


def test_a_study_that_has_not_begun() -> None:
    text = shown(Status("s", "t", "mordal", "not begun", pairs=4))
    assert "not begun" in text
    assert "device-hours" not in text


def test_the_ranking_so_far_is_shown() -> None:
    """Ten pairs in the terminal, all in the JSON."""
    flat = " ".join(shown(STATUS).split())
    assert f"1 {PAIR} 4,096 60.0 (55.0 to 65.0)" in " ".join(shown(STATUS, 100).split())
    assert "2 a + c - 50.0 (20.0 to 70.0)" in flat
    many = replace(STATUS, ranking=STATUS.ranking[1:] * 12)
    assert "first 10 of 12 pairs" in shown(many)
    assert shown(many).count("a + c ") == 10
    ranking = status_json(many, NOW)["ranking"]
    assert len(ranking) == 12
    assert ranking[0] == {
        "vision_encoder": "a",
        "llm": "c",
        "samples": 0,
        "estimate": {"value": 0.5, "low": 0.2, "high": 0.7},
        "known": "inferred",
        "seconds": 0.0,
    }


def test_an_unfinished_study_is_told_in_one_line() -> None:
    """Phase, what is done, spent and left, the expected end, and whether anybody works on it."""
    text = notice(STATUS, NOW)
    assert text == (
        "Not finished (searching); 6 rungs scored, 5 of 16 pairs trained, 7 trials; stage "
        "inter-cluster; spent 3 device-hours (training 2.0 h, evaluation 60 min); left at most 3 "
        "device-hours of a budget of 10; expected end 2026-11-27 11:00 with 3 devices at work."
    )
    stopped = notice(replace(STATUS, workers=()), NOW)
    assert stopped
    assert stopped.endswith("no worker is alive: `mordal run` continues it.")
    assert "expected end" not in stopped
    failed = notice(replace(STATUS, state="failed", reason="all fail"), NOW)
    assert failed
    assert failed.startswith("Not finished (failed; it needs you: all fail); ")
    assert "left" not in failed
    plain = json.loads(json.dumps(unfinished_json(STATUS, NOW)))
    assert plain["notice"] == text
    assert plain["expected_end"] == "2026-11-27T11:00:00+00:00"
    ended = replace(STATUS, state="ended", reason="race won")
    assert notice(ended, NOW) is None
    assert unfinished_json(ended, NOW) is None
