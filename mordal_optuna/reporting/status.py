"""The status of a study in the terminal and as JSON; readable at 80 columns."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from mordal_optuna.reporting import words

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mordal_optuna.search.ranking import Estimate
    from mordal_optuna.study.status import Failed, Leader, Status

# What each state means to a reader.
STATES = {
    "not begun": "not begun",
    "comparing": "comparing models",
    "searching": "searching",
    "scoring": "search ended; scoring the winner on further tasks",
    "ended": "ended",
    "failed": "failed; it needs you",
}
# Workers, failures and pairs of the ranking that are listed.
_WORKERS, _FAILURES, _PAIRS = 16, 8, 10


def status_view(status: Status, now: datetime) -> RenderableType:
    """Tables and lines that show a status.

    Args:
        status: status of a study.
        now: present time, with its time zone, from which the expected end is counted.
    """
    parts: list[RenderableType] = [
        Text.assemble((f"{status.study}: {status.task}", "bold"), f"  (method {status.method})"),
        _facts(status, now),
    ]
    if status.workers:
        parts.append(_workers(status))
    if any(rung.scored or rung.running for rung in status.rungs):
        parts.append(_rungs(status))
    if status.ranking:
        parts.append(_ranking(status))
    return Group(*parts)


def notice(status: Status, now: datetime) -> str | None:
    """The first line of the report of a study that is not finished; None for one that is.

    Args:
        status: status of a study.
        now: present time, with its time zone, from which the expected end is counted.
    """
    if status.state == "ended":
        return None
    state = STATES[status.state]
    if status.reason:
        state += f": {status.reason}"
    parts = [f"Not finished ({state})", _done(status), f"spent {_spent(status)}"]
    if not status.is_over:
        parts.append(f"left {_left(status, now)}")
        if not status.workers:
            parts.append("no worker is alive: `mordal run` continues it")
    return "; ".join(parts) + "."


def unfinished_json(status: Status, now: datetime) -> dict[str, Any] | None:
    """The same as JSON values: what `mordal status --json` says of the same keys.

    Args:
        status: status of a study.
        now: present time, with its time zone, from which the expected end is counted.
    """
    text = notice(status, now)
    if text is None:
        return None
    whole = status_json(status, now)
    keys = ("state", "reason", "stage", "trained", "pairs", "spent", "budget", "left", "left_by")
    return {"notice": text, **{key: whole[key] for key in (*keys, "expected_end")}}


def status_json(status: Status, now: datetime) -> dict[str, Any]:
    """A status as JSON values; `docs/status.md` describes the keys.

    Scores and estimates are on 0..1, times in seconds, costs in device-seconds.

    Args:
        status: status of a study.
        now: present time, with its time zone, from which the expected end is counted.
    """
    end = _expected(status, now)
    return {
        "study": status.study,
        "task": status.task,
        "method": status.method,
        "state": status.state,
        "reason": status.reason,
        "workers": [{**asdict(worker), "process": worker.process} for worker in status.workers],
        "pairs": status.pairs,
        "trained": status.trained,
        "trials": dict(status.trials),
        "full_samples": status.full_samples,
        "stage": status.stage,
        "rounds": status.rounds,
        "rungs": [asdict(rung) for rung in status.rungs],
        "leader": _leader(status.leader) if status.leader else None,
        "ranking": [_ranked(estimate) for estimate in status.ranking],
        "spent": {**asdict(status.costs), "total": status.costs.total},
        "budget": status.budget,
        "left": status.left,
        "left_by": status.left_by,
        "expected_end": end.isoformat(timespec="seconds") if end else None,
        "failures": {str(pair): asdict(failed) for pair, failed in status.failures.items()},
        "interruptions": [
            {"pair": str(pair), "reason": reason} for pair, reason in status.interruptions
        ],
        "warnings": list(status.warnings),
    }


def _ranked(estimate: Estimate) -> dict[str, Any]:
    return {
        "vision_encoder": estimate.candidate.vision_encoder,
        "llm": estimate.candidate.llm,
        "samples": estimate.samples,
        "estimate": {"value": estimate.value, "low": estimate.low, "high": estimate.high},
        "known": estimate.provenance,
        "seconds": estimate.seconds,
    }


def _leader(leader: Leader) -> dict[str, Any]:
    estimate, measured = leader.estimate, leader.measured
    return {
        "vision_encoder": leader.candidate.vision_encoder,
        "llm": leader.candidate.llm,
        "final": leader.final,
        "measured": {
            "samples": measured.samples,
            "score": measured.score,
            "stderr": measured.stderr,
            "documents": measured.documents,
        },
        "estimate": {"value": estimate.value, "low": estimate.low, "high": estimate.high},
        "estimated_from": leader.basis,
    }


def _facts(status: Status, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", min_width=9)
    grid.add_column()
    for text in status.warnings:
        grid.add_row("warning", Text(text, style="bold yellow"))
    state = STATES[status.state]
    grid.add_row("state", Text(f"{state}: {status.reason}" if status.reason else state))
    if status.full_samples is not None:
        grid.add_row("done", Text(_done(status)))
    if status.leader:
        grid.add_row("winner" if status.leader.final else "leader", Text(_leads(status)))
    if status.full_samples is not None:
        grid.add_row("spent", Text(_spent(status)))
    if not status.is_over and status.full_samples is not None:
        grid.add_row("left", Text(_left(status, now)))
    failures = list(status.failures.items())
    for pair, failed in failures[:_FAILURES]:
        grid.add_row("failed", Text(f"{pair}: {_failed(failed)}"))
    if len(failures) > _FAILURES:
        grid.add_row("", Text(f"and {len(failures) - _FAILURES} more; `--json` lists them"))
    for pair, reason in status.interruptions:
        grid.add_row("stopped", Text(f"{pair}: {reason}"))
    return grid


def _done(status: Status) -> str:
    rungs = sum(rung.scored for rung in status.rungs)
    text = f"{rungs:,} rung{'' if rungs == 1 else 's'} scored"
    text += f", {status.trained:,} of {status.pairs:,} pairs trained"
    text += f", {sum(status.trials.values()):,} trials"
    if status.rounds is not None:
        text += f"; round {status.rounds}"
    if status.stage not in (None, "joint") and not status.is_over:
        text += f"; stage {status.stage}"
    return text


def _leads(status: Status) -> str:
    leader = status.leader
    assert leader is not None
    return (
        f"{leader.candidate}: {words.measured(leader.measured, status.task)}. "
        f"Estimate for all {status.full_samples:,} samples, from "
        f"{'all scores of the pool' if leader.basis == 'pool' else 'its own scores'}: "
        f"{words.percent(leader.estimate.value)} % ({words.interval(leader.estimate)})."
    )


def _spent(status: Status) -> str:
    parts = ", ".join(
        f"{label} {words.duration(seconds)}"
        for label, seconds in words.cost_parts(status.costs)
        if seconds
    )
    total = f"{_hours(status.costs.total)} device-hours"
    return f"{total} ({parts})" if parts else total


def _left(status: Status, now: datetime) -> str:
    if status.left is None:
        return "not known" + (
            ": the method ends by what it learns"
            if status.method == "joint" and status.state == "searching"
            else " yet"
        )
    budget = "" if status.budget is None else f" of a budget of {_hours(status.budget)}"
    text = f"{'at most' if status.left_by == 'budget' else 'about'} {_hours(status.left)} "
    text += f"device-hours{budget}"
    end = _expected(status, now)
    if end is None:
        return text
    devices = sum(worker.devices for worker in status.workers)
    return (
        f"{text}; expected end {end:%Y-%m-%d %H:%M} with {devices} "
        f"device{'' if devices == 1 else 's'} at work"
    )


def _expected(status: Status, now: datetime) -> datetime | None:
    seconds = status.seconds_to_end
    return None if seconds is None else now + timedelta(seconds=seconds)


def _failed(failed: Failed) -> str:
    again = "given up" if failed.given_up else "to be tried again"
    return f"{failed.reason} ({failed.attempts} attempt{'s'[: failed.attempts > 1]}, {again})"


def _workers(status: Status) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("worker", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("up", justify="right", no_wrap=True)
    table.add_column("does", overflow="fold")
    table.add_column("for", justify="right", no_wrap=True)
    for worker in status.workers[:_WORKERS]:
        devices = f" x{worker.devices}" if worker.devices > 1 else ""
        table.add_row(
            Text(f"{worker.host}:{worker.process}{devices}"),
            words.duration(worker.seconds),
            Text(worker.doing),
            words.duration(worker.doing_seconds),
        )
    more = status.workers[_WORKERS:]
    if more:
        table.add_row(f"and {len(more)} more", "", "`--json` lists them", "")
    return table


def _rungs(status: Status) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    for title in ("samples", "pairs scored", "running"):
        table.add_column(title, justify="right")
    for rung in status.rungs:
        table.add_row(f"{rung.samples:,}", f"{rung.scored:,}", str(rung.running or ""))
    return table


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"  # noqa: PLR2004 - three digits


def _ranking(status: Status) -> Table:
    """The first pairs by their estimates; those of `mordal run` as long as all are estimated."""
    count = len(status.ranking)
    title = f"first {_PAIRS} of {count:,} pairs by estimate, %" if count > _PAIRS else None
    table = Table(
        box=None,
        padding=(0, 1),
        header_style="dim",
        pad_edge=False,
        caption=title,
        caption_justify="left",
    )
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("pair", overflow="fold")
    table.add_column("samples", justify="right", no_wrap=True)
    table.add_column("estimate, %", justify="right", no_wrap=True)
    leader = status.leader.candidate if status.leader else None
    for rank, estimate in enumerate(status.ranking[:_PAIRS], start=1):
        table.add_row(
            str(rank),
            Text(str(estimate.candidate)),
            f"{estimate.samples:,}" if estimate.samples else "-",
            words.estimated(estimate),
            style="bold" if estimate.candidate == leader else None,
        )
    return table
