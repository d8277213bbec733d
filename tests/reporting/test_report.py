"""The HTML report is one file, holds the whole ranking and escapes all names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.report import write_report
from mordal_optuna.search.standings import Standing
from mordal_optuna.study.times import Times
from tests.reporting.results import result_with_given_up, result_without_costs

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


def written(result: StudyResult, folder: Path) -> str:
    """The report as text."""
    path = write_report(
        result, folder / "r.html", dashboard_command="open it", versions={"optuna": "5"}
    )
    return path.read_text(encoding="utf-8")


def test_warnings_stand_above_the_winner(result: StudyResult, tmp_path: Path) -> None:
    """And are escaped; without a warning there is no such box."""
    warned = replace(result, warnings=("no score is above <chance>", "cut"))
    body = written(warned, tmp_path).split("<body>")[1]
    assert "no score is above &lt;chance&gt;" in body
    assert body.index("<strong>Warning</strong>") < body.index("<h2>Ranking</h2>")
    assert body.index("above &lt;chance") < body.index(words.headline(result)[:20])
    assert "<strong>Warning" not in written(result, tmp_path)


def test_the_report_needs_nothing_else_and_holds_the_ranking(
    result: StudyResult, tmp_path: Path
) -> None:
    html = written(result, tmp_path)
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", html)
    assert html.count("Plotly.newPlot") >= 6
    for estimate in result.ranking:
        assert f"<td>{estimate.candidate.vision_encoder}</td>" in html
        assert f">{words.estimated(estimate)}<" in html
    assert "open it" in html
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_likelihoods_are_shown_where_they_were_measured(
    result: StudyResult, tmp_path: Path
) -> None:
    title = "Likelihood of the reference answers"
    assert title not in written(result, tmp_path)
    curves = {
        candidate: tuple(replace(m, nll=2.0, nll_stderr=0.1) for m in points)
        for candidate, points in result.curves.items()
    }
    assert title in written(replace(result, curves=curves), tmp_path)


def test_unknown_costs_are_said_to_be_unknown(tmp_path: Path) -> None:
    """Never a number."""
    found = result_without_costs()[1]
    trained = len(found.curves)
    assert 0 < trained < len(found.ranking)
    html = written(found, tmp_path)
    assert html.count(">not known<") == trained
    assert html.count("Cost: not known; the scores were reported without") == 2
    assert "full-run equivalents" not in html


def test_the_report_escapes_names(result: StudyResult, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    first = result.ranking[0]
    renamed = replace(first, candidate=Candidate(hostile, "x"))
    bad = replace(
        result,
        ranking=(renamed, *result.ranking[1:]),
        winner=renamed,
        standings={**result.standings, renamed.candidate: Standing("tied")},
        curves={**result.curves, renamed.candidate: result.curves[first.candidate]},
    )
    assert hostile not in written(bad, tmp_path)


def test_the_time_of_failed_trials_is_a_part_of_the_cost(
    result: StudyResult, tmp_path: Path
) -> None:
    lost = replace(result, costs=replace(result.costs, lost=7.25))
    assert "failed and lost" in written(lost, tmp_path)
    assert "failed and lost" not in written(result, tmp_path)


def test_several_tasks_have_a_table_before_the_ranking(
    result: StudyResult, several: StudyResult, tmp_path: Path
) -> None:
    body = written(several, tmp_path).split("<body>")[1]
    tasks = body[body.index("<h2>Tasks</h2>") : body.index("<h2>Ranking on the weighted mean")]
    for task in several.tasks:
        assert f"<td>{task.name}</td>" in tasks
        assert task_words.gain(task) in tasks
        for text in task_words.ranked(task).values():
            assert text in tasks
    assert tasks.count('tie">') == len(several.unbeaten)
    assert "<h2>Tasks</h2>" not in written(result, tmp_path)


def test_the_report_shows_where_the_time_went(result: StudyResult, tmp_path: Path) -> None:
    """Not in studies of older versions, which stored no times."""
    assert "Where the time went" not in written(result, tmp_path)
    seconds = {"comparing": 1.0, "training": 6.0, "waiting": 2.0, "saving": 0.0, "judging": 1.0}
    counts = {"tokens": 9000.0, "computed": 10000.0, "operations": 3e9, "possible": 6e9}
    timed = replace(result, times=Times(seconds, counts, rungs=4, without=2))
    html = written(timed, tmp_path)
    part = html.split("<h2>Where the time went</h2>")[1].split("<h2>")[0]
    rows = re.findall(r"<tr[^>]*><td>(.*?)</td><td class=.n.>(.*?)</td>.*?>([\d.]+)</td>", part)
    assert rows == [
        ("comparing models", "1.0", "10.0"),
        ("training steps", "6.0", "60.0"),
        ("waiting for training data", "2.0", "20.0"),
        ("scoring: judging answers", "1.0", "10.0"),
        ("total", "10.0", "100.0"),
    ]
    speed = (
        "Training: 1,500 tokens a device-second, 50.0 % of the device&#39;s peak, 10.0 % padding"
    )
    assert f"{speed}, 25.0 % of the time waiting for data." in part
    assert "2 of 6 rungs were measured without times." in part


def test_a_pair_that_was_given_up_is_in_the_ranking_with_its_reason(tmp_path: Path) -> None:
    found = result_with_given_up()
    ranking = written(found, tmp_path).split("<h2>Ranking</h2>")[1].split("</table>")[0]
    last = ranking.split(words.GROUPS["failed"])[1]
    assert "<td>clip</td><td>llama</td>" in last
    assert "loss is nan" in last
    assert found.ranking[-1].provenance == "none"
    assert words.percent(found.ranking[-1].value) not in last
