"""The workbench: rank 0's calls and what they make the other ranks do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.errors import DataError
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.channel import Stop
from mordal_optuna.processes.group import Processes
from mordal_optuna.progress import Silent
from mordal_optuna.workbench.align_and_score import AlignAndScore
from mordal_optuna.workbench.commands import Compare, Measure, ScoreCheckpoint, ScoreFurther
from mordal_optuna.workbench.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import Callable

PAIR = Candidate("clip-t", "llama-t")


@pytest.fixture
def bench(study_content: dict[str, Any]) -> Workbench:
    settings = parse_study(study_content)
    settings.workdir.mkdir(parents=True)
    return open_workbench(settings, Silent())


@pytest.mark.parametrize(
    ("call", "command", "method", "result"),
    [
        (lambda b: b.measure(PAIR, 8), Measure(PAIR, 8), "measure", "m"),
        (
            lambda b: b.measure_tasks(PAIR, 8, ["gqa"]),
            Measure(PAIR, 8, ("gqa",)),
            "measure_tasks",
            "m",
        ),
        (lambda b: b.score_further(PAIR, 8), ScoreFurther(PAIR, 8), "further", []),
        (
            lambda b: b.score_checkpoint(PAIR, train=True),
            ScoreCheckpoint(PAIR, train=True),
            "checkpoint",
            "c",
        ),
    ],
)
def test_each_call_of_rank_0_is_a_command_that_the_other_ranks_perform(
    bench: Workbench,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Workbench], Any],
    command: object,
    method: str,
    result: object,
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(Processes, "send", lambda _, message: sent.append(message))
    on_rank_0 = method if method.startswith("measure") else f"score_{method}"
    follow = f"follow_{method.removesuffix('_tasks')}"
    monkeypatch.setattr(AlignAndScore, on_rank_0, lambda *_, **__: result)
    assert call(bench) == result
    bench.stop_followers()
    assert sent == [command, Stop()]
    performed: list[tuple[Any, ...]] = []
    monkeypatch.setattr(AlignAndScore, follow, lambda _, *given, **__: performed.append(given))
    messages = iter(sent)
    monkeypatch.setattr(Processes, "receive", lambda _: next(messages))
    bench.follow()
    assert [given[0] for given in performed] == [PAIR]
    if isinstance(command, Measure):
        assert performed == [(PAIR, 8, command.tasks)]


def test_the_comparison_is_run_by_all_ranks(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(Workbench, "_compare", lambda *_: ran.append("compared"))
    messages = iter([Compare(), Stop()])
    monkeypatch.setattr(Processes, "receive", lambda _: next(messages))
    bench.compare()
    bench.follow()
    assert ran == ["compared", "compared"]


def test_a_failure_of_a_command_leaves_the_other_ranks_following(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 has raised the same error, and decides what to do."""

    def fails(*_: object) -> None:
        raise DataError("a.png", "is broken")

    monkeypatch.setattr(AlignAndScore, "follow_measure", fails)
    messages = iter([Measure(PAIR, 8), Measure(PAIR, 16), Stop()])
    monkeypatch.setattr(Processes, "receive", lambda _: next(messages))
    bench.follow()
    assert next(messages, None) is None
