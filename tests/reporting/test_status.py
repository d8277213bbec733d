"""A status in the terminal, at 80 columns, and as JSON."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

from rich.console import Console

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting.status import status_json, status_view
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
