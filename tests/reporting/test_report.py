"""The report as files: one HTML page that needs nothing else, Markdown and JSON beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.pool import Candidate
from mordal_optuna.reporting import task_words, words
from mordal_optuna.reporting.content import report_content
from mordal_optuna.reporting.plain import to_json
from mordal_optuna.reporting.report import to_html, write_reports
from mordal_optuna.search.standings import Standing
from mordal_optuna.study.times import Times
from tests.reporting.published import shown_in_chromium
from tests.reporting.results import (
    result_with_given_up,
    result_with_long_names,
    result_without_costs,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.study.result import StudyResult


def written(result: StudyResult, notice: str | None = None) -> str:
    """The report as HTML."""
    return to_html(report_content(result, notice=notice, dashboard_command="open it"))


def body(html: str) -> str:
    return html.split("<body>")[1]


def test_warnings_stand_above_the_winner(result: StudyResult) -> None:
    """And are escaped; without a warning there is no such box."""
    warned = replace(result, warnings=("no score is above <chance>", "cut"))
    page = body(written(warned))
    assert "no score is above &lt;chance&gt;" in page
    assert page.index("<strong>Warning</strong>") < page.index(">Ranking")
    assert page.index("above &lt;chance") < page.index(words.headline(result)[:20])
    assert "<strong>Warning" not in written(result)


def test_the_report_needs_nothing_else_and_holds_the_ranking(result: StudyResult) -> None:
    html = written(result)
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", html)
    assert html.count('<script type="application/json">') >= 5
    for estimate in result.ranking:
        assert f'scope="row">{estimate.candidate}</th>' in html
        assert f">{words.estimated(estimate)}<" in html
    assert "open it" in html


def test_all_formats_say_the_same(result: StudyResult, tmp_path: Path) -> None:
    """Beside one another, by the study's name; the JSON is that of `mordal run --json`."""
    files = write_reports(result, tmp_path, dashboard_command="open it")
    assert [file.name for file in files] == ["synthetic.html", "synthetic.md", "synthetic.json"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    html, markdown, plain = (file.read_text(encoding="utf-8") for file in files)
    assert json.loads(plain) == json.loads(json.dumps(to_json(result)))
    assert words.headline(result) in html
    assert words.headline(result) in markdown
    only = write_reports(result, tmp_path / ".", formats=("md",))
    assert [file.suffix for file in only] == [".md"]


def test_an_unfinished_study_says_so_first(result: StudyResult, tmp_path: Path) -> None:
    """In every format, before the heading; a finished one says nothing of the kind."""
    notice, state = "Not finished (searching); spent 1.", {"notice": "Not finished"}
    files = write_reports(result, tmp_path, notice=notice, unfinished=state)
    html, markdown, plain = (file.read_text(encoding="utf-8") for file in files)
    shown = re.sub(r"<[^>]+>", " ", body(html)).strip()
    assert shown.startswith(notice)
    assert markdown.startswith(f"**{notice}**")
    assert json.loads(plain)["unfinished"] == state
    assert "Not finished" not in written(result)


def test_likelihoods_are_shown_where_they_were_measured(result: StudyResult) -> None:
    title = "Likelihood of the reference answers"
    assert title not in written(result)
    curves = {
        candidate: tuple(replace(m, nll=2.0, nll_stderr=0.1) for m in points)
        for candidate, points in result.curves.items()
    }
    assert title in written(replace(result, curves=curves))


def test_unknown_costs_are_said_to_be_unknown() -> None:
    """Never a number."""
    found = result_without_costs()[1]
    trained = len(found.curves)
    assert 0 < trained < len(found.ranking)
    html = written(found)
    assert html.count(">not known<") == trained
    assert html.count("Cost: not known; the scores were reported without") == 2
    assert "full-run equivalents" not in html


def test_the_report_escapes_names(result: StudyResult) -> None:
    """In the page, and in the JSON of its figures."""
    hostile = "</script><script>alert(1)</script>"
    first = result.ranking[0]
    renamed = replace(first, candidate=Candidate(hostile, "x"))
    bad = replace(
        result,
        representation=None,
        ranking=(renamed, *result.ranking[1:]),
        winner=renamed,
        standings={**result.standings, renamed.candidate: Standing("tied")},
        curves={**result.curves, renamed.candidate: result.curves[first.candidate]},
    )
    assert "<script>alert" not in written(bad)


def test_the_time_of_failed_trials_is_a_part_of_the_cost(result: StudyResult) -> None:
    lost = replace(result, costs=replace(result.costs, lost=7.25))
    assert "failed and lost" in written(lost)
    assert "failed and lost" not in written(result)


def test_several_tasks_have_a_table_before_the_ranking(
    result: StudyResult, several: StudyResult
) -> None:
    page = body(written(several))
    tasks = page[page.index(">Tasks</h2>") : page.index(">Ranking on the weighted mean")]
    for task in several.tasks:
        assert f'scope="row">{task.name}</th>' in tasks
        assert task_words.gain(task) in tasks
        for text in task_words.ranked(task).values():
            assert text in tasks
    assert tasks.count('shaded"') == len(several.unbeaten)
    assert tasks.count(">yes</td>") == len(several.unbeaten)
    assert ">Tasks</h2>" not in written(result)


def test_the_report_shows_where_the_time_went(result: StudyResult) -> None:
    """Not in studies of older versions, which stored no times."""
    assert "Where the time went" not in written(result)
    seconds = {"comparing": 1.0, "training": 6.0, "waiting": 2.0, "saving": 0.0, "judging": 1.0}
    counts = {"tokens": 9000.0, "computed": 10000.0, "operations": 3e9, "possible": 6e9}
    timed = replace(result, times=Times(seconds, counts, rungs=4, without=2))
    part = written(timed).split("Where the time went</h2>")[1].split("<h2")[0]
    rows = re.findall(r'scope="row">(.*?)</th>.*?>([\d.]+)</td>.*?>([\d.]+)</td>', part, re.DOTALL)
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


def test_a_pair_that_was_given_up_is_in_the_ranking_with_its_reason() -> None:
    found = result_with_given_up()
    ranking = written(found).split(">Ranking, and")[1].split("</table>")[0]
    last = ranking.split(words.GROUPS["failed"])[1]
    assert 'scope="row">clip + llama</th>' in last
    assert "loss is nan" in last
    assert found.ranking[-1].provenance == "none"
    assert words.percent(found.ranking[-1].value) not in last


def test_a_screen_reader_finds_its_way(result: StudyResult, several: StudyResult) -> None:
    """Language, headings in order, captions, scopes and roles of cells, figures in words."""
    for shown in (result, several):
        html = written(shown)
        assert '<html lang="en">' in html
        page = body(html)
        levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
        tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
        assert tables
        for table in tables:
            assert re.match(r'<table role="table">\s*<caption>[^<]+</caption>', table)
            assert "<th>" not in table
            assert table.count('<tr role="row"') == table.count("<tr")
            assert table.count('role="cell"') == table.count("<td")
        plots = re.findall(r'<div class="plot" role="img" aria-label="([^"]+)">', page)
        assert len(plots) == page.count('class="plot"') > 0
        assert all(len(text) > 60 for text in plots)


# Measures a page once it is drawn, with all details open, and tells the page around it.
_MEASURE = """<script>
const name = (e) => `${e.tagName}.${e.getAttribute("class") || ""} ${e.textContent.trim()}`;
const style = (e) => getComputedStyle(e);
const meets = (a, b) => a.width && a.left < b.right && a.right > b.left
  && a.top < b.bottom && a.bottom > b.top;
const isSeen = (e) => {
  if (e.id === "js-plotly-tester") return false;  // far outside, never seen
  if (e.closest("svg") && e.tagName !== "text" && e.tagName !== "svg") return false;
  const head = e.closest("thead"), box = e.getBoundingClientRect();
  return box.width && box.height && !(head && style(head).position === "absolute");
};
function measure() {
  const width = document.documentElement.clientWidth, faults = [];
  for (const e of [...document.body.querySelectorAll("*")].filter(isSeen)) {
    const box = e.getBoundingClientRect();
    if (box.right > width + 1 || box.left < -1) faults.push(`outside: ${name(e)}`);
    const hides = !["visible", "clip"].includes(style(e).overflowX) && !e.closest("svg");
    if (hides && e.scrollWidth > e.clientWidth + 1) faults.push(`cut: ${name(e)}`);
  }
  for (const plot of document.querySelectorAll(".plot")) {
    const bar = plot.querySelector(".modebar").getBoundingClientRect();
    for (const text of plot.querySelectorAll("text"))
      if (meets(text.getBoundingClientRect(), bar)) faults.push(`below buttons: ${name(text)}`);
  }
  const plots = document.querySelectorAll(".plot .main-svg").length;
  const ink = style(document.querySelector(".plot text")).fill;
  parent.postMessage({width: innerWidth, plots, ink, faults}, "*");
}
addEventListener("load", () => setTimeout(() => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  setTimeout(measure, 1500);
}, 500));
</script>"""
_AROUND = """<body><pre id="found"></pre><script>
const found = [];
addEventListener("message", (event) => {
  found.push(event.data);
  document.getElementById("found").textContent = JSON.stringify(found);
});
for (const [page, width] of FRAMES) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.src = page;
  document.body.append(frame);
}
</script>"""


def measured(folder: Path, frames: list[tuple[str, int]], *flags: str) -> list[dict[str, Any]]:
    """What pages of a folder have told, each in a frame of its width in pixels."""
    around = folder / "around.html"
    around.write_text(_AROUND.replace("FRAMES", json.dumps(frames)), encoding="utf-8")
    shown = shown_in_chromium(f"file://{around}", *flags)
    found: list[dict[str, Any]] = json.loads(shown.split('<pre id="found">')[1].split("</pre>")[0])
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("scheme", "ink"), [("1", "#1c1f23"), ("0", "#e6e9ec")])
def test_figures_are_drawn_in_the_colours_that_the_reader_prefers(
    result: StudyResult, tmp_path: Path, scheme: str, ink: str
) -> None:
    """Chromium's setting 1 is light, 0 dark."""
    page = written(result).replace("</body>", f"{_MEASURE}</body>")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    flag = f"--blink-settings=preferredColorScheme={scheme}"
    (found,) = measured(tmp_path, [("page.html", 800)], flag)
    parts = (int(ink[n : n + 2], 16) for n in (1, 3, 5))
    assert found["ink"] == f"rgb({', '.join(map(str, parts))})"
    assert found["faults"] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_cut_or_outside_at_any_width(several: StudyResult, tmp_path: Path) -> None:
    """From a phone to a desk, with long names and all details open, in Chromium."""
    notice = "Not finished (searching): 3 of 9 pairs trained; spent 1 device-hour."
    results = {"long": result_with_long_names(), "several": several}
    widths = [400, 700, 1201, 1400]
    for name, shown in results.items():
        page = written(shown, notice).replace("</body>", f"{_MEASURE}</body>")
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
    frames = [(f"{name}.html", width) for name in results for width in widths]
    found = measured(tmp_path, frames)
    assert sorted(one["width"] for one in found) == sorted([*widths, *widths])
    for one in found:
        assert one["plots"] > 0
        assert one["faults"] == [], str(one)
