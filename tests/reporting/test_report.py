"""What people see holds every candidate, says how it is known, and leaks nothing."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna_dashboard import get_note
from rich.console import Console
from sqlalchemy import create_engine, text

from mordal_optuna.errors import TrainingError
from mordal_optuna.pool import Candidate
from mordal_optuna.reporting import figures, words
from mordal_optuna.reporting.console import ConsoleProgress
from mordal_optuna.reporting.dashboard import _note, dashboard_command, publish
from mordal_optuna.reporting.report import write_report
from mordal_optuna.reporting.tables import print_result
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.methods import grid_plan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.standings import Standing
from mordal_optuna.search.trials import trial_handles
from mordal_optuna.study.costs import Costs
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import (
    Challenger,
    FurtherScore,
    Representation,
    StudyResult,
    read_result,
)
from tests.search.synthetic import ENCODERS, FULL, LLMS, RUNGS, Table, plan, search, table, tree

if TYPE_CHECKING:
    from pathlib import Path

SIMILARITY = ((1.0, 0.9, 0.2), (0.9, 1.0, 0.1), (0.2, 0.1, 1.0))


@pytest.fixture(scope="module")
def result() -> StudyResult:
    """A finished synthetic search with everything a real one has."""
    chosen = plan()
    found = read_result(search(chosen, table()), chosen, method="mordal", task="gqa")
    representation = Representation(
        SIMILARITY,
        {"clip": SIMILARITY, "dino": SIMILARITY},
        tree(),
        {"features": 1.0, "similarity": 0.5, "warmup": 2.0},
    )
    return replace(
        found,
        representation=representation,
        further_scores=(FurtherScore("scienceqa_img", Measurement(FULL, 0.5, 0.05, 100)),),
        failures={Candidate("dino", "mistral"): "model 'dino': too large"},
        config={"study": "synthetic", "seed": 0},
    )


@pytest.fixture(scope="module")
def grid() -> StudyResult:
    chosen = grid_plan(tree(), (*RUNGS, FULL))
    return read_result(search(chosen, table()), chosen, method="grid", task="gqa")


def printed(result: StudyResult) -> str:
    stream = io.StringIO()
    print_result(result, Console(file=stream, width=100))
    return stream.getvalue()


def test_the_table_holds_every_candidate_once_and_says_how_it_is_known(
    result: StudyResult,
) -> None:
    shown = printed(result)
    for encoder in ENCODERS:
        for llm in LLMS:
            assert len(re.findall(rf"{encoder} +{llm} ", shown)) == 1
    assert "84.0 at 8,192" in shown
    assert "67.2 at 1,024" in shown
    assert re.search(r"dino +qwen +- ", shown)  # never trained
    titles = [title for group, title in words.GROUPS.items() if result.group(group)]
    places = [shown.index(title) for title in titles]
    assert len(titles) >= 3
    assert places == sorted(places)
    assert "too large" in shown
    assert "scienceqa_img: 50.0 ± 5.0 %" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_grid_reads_well_too(grid: StudyResult) -> None:
    shown = printed(grid)
    assert shown.count(" at 8,192 ") == 9 + 1  # the rows, and the winner's sentence
    assert "clusters" not in shown
    assert "times less" not in shown


def test_the_headline_gives_what_was_measured_first(result: StudyResult) -> None:
    """Then what is believed of it, and how probable it is that no other pair is better."""
    told, winner = words.headline(result), result.winner
    score = f"{100 * result.measured.score:.1f}"
    assert told.startswith(f"{winner.candidate}: {score} ± ")
    assert told.index("measured at 8,192") < told.index("All scores together say")
    assert f"probability {winner.best:.2f}" in told
    early = replace(result, final=False)
    assert words.headline(early).startswith(f"none yet; so far {winner.candidate} leads: {score}")


def test_ties_come_with_what_settling_them_costs(result: StudyResult, grid: StudyResult) -> None:
    assert words.ties(result) == "No other measured pair is within noise of it."
    first, second = (e.candidate for e in grid.ranking[:2])
    tied = dict.fromkeys(grid.standings, Standing("worse"))
    tied |= {first: Standing("tied"), second: Standing("tied")}
    told = words.ties(replace(grid, standings=tied, settling_seconds=130.0))
    assert told.startswith(f"1 other pair is within noise of it: {second}; ")
    assert told.endswith("takes about 2 min.")
    assert "only more documents or random seeds" in words.ties(
        replace(grid, standings=tied, settling_seconds=0.0)
    )
    assert first == grid.winner.candidate


def test_a_challenger_is_told_with_its_price(result: StudyResult) -> None:
    own = result.ranking[1]
    told = words.challenger(Challenger(own, 10.2))
    assert told.startswith(f"{own.candidate} is estimated higher: ")
    assert "about 10 s more would measure it" in told
    assert told in " ".join(printed(replace(result, challengers=(Challenger(own, 10.2),))).split())


@pytest.mark.parametrize(
    ("value", "stderr", "told"),
    [
        (0.0, 0.0, "0.0 % (0.0 to 16.1)"),
        (1.0, 0.0, "100.0 % (83.9 to 100.0)"),
        (0.5, 0.112, "50.0 ± 11.2 %"),
    ],
)
def test_a_share_of_no_documents_or_all_has_an_interval(
    value: float, stderr: float, told: str
) -> None:
    """The spread of 0 of 20 is 0, and 0 is not known exactly."""
    assert words.score(value, stderr, 20) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.5, "2.0 times less"), (1.0, "about the same"), (2.0, "times more")]
)
def test_a_search_that_costs_more_than_the_grid_says_so(
    result: StudyResult, seconds: float, told: str
) -> None:
    """Of one that cost more, "0.6 times less" was said."""
    assert result.full_run_seconds
    spent = seconds * result.grid_runs * result.full_run_seconds
    costs = Costs(0.0, 0.0, 0.0, spent, 0.0)
    assert told in words.cost_sentence(replace(result, costs=costs))


def test_what_other_studies_left_is_not_counted_and_said(result: StudyResult) -> None:
    reused = replace(result, costs=replace(result.costs, reused=34.0))
    assert reused.full_runs == result.full_runs
    assert "(34 device-seconds) are not counted" in words.cost_sentence(reused)
    assert "not counted" not in words.cost_sentence(result)


def test_answers_that_had_to_be_drawn_are_reported_with_the_score(result: StudyResult) -> None:
    """For the winner on the target task, and on further tasks; nothing where none ever are."""
    assert "drawn" not in words.headline(result)
    winner = result.winner.candidate
    told = tuple(replace(m, guessed=0.25) for m in result.curves[winner])
    drawn = replace(result, curves={**result.curves, winner: told})
    assert "25 % of the answers unreadable and drawn" in words.headline(drawn)
    undrawn = result.further_scores[0]
    score = replace(undrawn, measurement=replace(undrawn.measurement, guessed=0.5))
    assert "(100 documents, 50 % of the answers unreadable and drawn)" in words.further(score)
    assert "drawn" not in words.further(result.further_scores[0])


def test_warnings_stand_above_the_winner(result: StudyResult, tmp_path: Path) -> None:
    """In the terminal, in the report (escaped) and in the dashboard; none without reason."""
    doubted = replace(result, warnings=("no score is above <chance>", "cut"))
    lines = printed(doubted).splitlines()
    starts = [line.split()[0] for line in lines if line.strip()]
    assert starts.index("warning") == starts.index("winner") - 2
    assert "warning" not in printed(result)
    pages = [
        write_report(r, tmp_path / "a.html", dashboard_command="", versions={}).read_text("utf-8")
        for r in (doubted, result)
    ]
    body = pages[0].split("<body>")[1]
    assert "no score is above &lt;chance&gt;" in body
    assert body.index("<strong>Warning</strong>") < body.index("<h2>Ranking</h2>")
    assert body.index("above &lt;chance") < body.index(words.headline(result)[:20])
    assert "<strong>Warning" not in pages[1]
    assert _note(doubted).startswith("**Warning: no score is above <chance>.**")
    assert _note(result).startswith(f"**{words.headline(result)}**")


def test_figures_hold_every_point_and_every_pair(result: StudyResult) -> None:
    curves = figures.curves_figure(result)
    points = {
        (trace.name, samples)
        for trace in curves.data
        if trace.name and trace.mode == "lines+markers"
        for samples in trace.x
    }
    expected = {(str(c), p.samples) for c, measured in result.curves.items() for p in measured}
    assert points == expected
    ranked = [name for trace in figures.ranking_figure(result).data for name in trace.y]
    pairs = [f"{encoder} + {llm}" for encoder in ENCODERS for llm in LLMS]
    assert sorted(ranked) == sorted([*pairs, *map(str, result.curves)])
    assert len(figures.similarity_figures(result)) == 3


def test_the_likelihood_is_shown_where_it_was_measured(
    result: StudyResult, tmp_path: Path
) -> None:
    """One trace a candidate that has any, its measured points alone."""
    assert figures.likelihood_figure(result) is None
    some = dict(list(result.curves.items())[:2])
    first = next(iter(some))
    some[first] = tuple(replace(m, nll=2.0, nll_stderr=0.1) for m in some[first])
    shown = figures.likelihood_figure(replace(result, curves=some))
    assert shown
    (trace,) = shown.data
    assert trace.name == str(first)
    assert list(trace.y) == [2.0] * len(some[first])
    path = write_report(
        replace(result, curves={**result.curves, **some}),
        tmp_path / "report.html",
        dashboard_command="open",
        versions={},
    )
    assert "Likelihood of the reference answers" in path.read_text()


def test_heatmaps_are_ordered_by_cluster_with_their_values(result: StudyResult) -> None:
    heatmap = figures.similarity_figures(result)[0].data[0]
    assert list(heatmap.x) == ["clip", "siglip", "dino"]
    assert heatmap.z[0][1] == 0.9


def test_the_report_needs_nothing_else_and_holds_the_ranking(
    result: StudyResult, tmp_path: Path
) -> None:
    path = write_report(
        result, tmp_path / "r.html", dashboard_command="open it", versions={"optuna": "5"}
    )
    html = path.read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", html)
    assert html.count("Plotly.newPlot") >= 6
    for estimate in result.ranking:
        assert f"<td>{estimate.candidate.vision_encoder}</td>" in html
        assert f">{words.estimated(estimate)}<" in html
    assert "open it" in html
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


@dataclass
class Free(Table):
    """Reports scores without the device-seconds they took, as a plain objective does."""

    def __call__(self, candidate: Candidate, samples: int) -> Measurement:
        """Measure, as the objective asks for it."""
        return replace(super().__call__(candidate, samples), train_seconds=0.0, eval_seconds=0.0)


def test_a_cost_that_nobody_reported_is_said_to_be_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the terminal, the HTML report and the dashboard; never as a number."""
    chosen, storage = plan(), f"sqlite:///{tmp_path / 'study.db'}"
    study = search(chosen, Free(table().levels), storage)
    found = read_result(study, chosen, method="mordal", task="gqa")
    assert found.full_runs is None
    assert found.full_run_seconds is None
    shown = " ".join(printed(found).split())
    assert "cost not known; the scores were reported without" in shown
    assert "training 0.0 s" not in shown
    trained = len(found.curves)
    assert 0 < trained < len(found.ranking)
    assert shown.count("not known") == trained + 1
    html = write_report(found, tmp_path / "r.html", dashboard_command="", versions={}).read_text()
    assert html.count(">not known<") == trained
    assert html.count("Cost: not known; the scores were reported without") == 2
    assert "full-run equivalents" not in html
    assert figures.costs_figure(found) is None
    notes = []
    monkeypatch.setattr("optuna_dashboard.save_note", lambda _, note: notes.append(note))
    assert publish(study, found)
    assert "Cost: not known; the scores were reported without" in notes[0]


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
    path = write_report(bad, tmp_path / "r.html", dashboard_command="", versions={})
    assert hostile not in path.read_text()


def test_publishing_twice_replaces(result: StudyResult, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=storage)
    assert publish(study, result)
    first = _stored(storage)
    assert publish(study, result)
    assert _stored(storage) == first > 0


def _stored(storage: str) -> int:
    """Rows of everything that hangs on the study."""
    with create_engine(storage).connect() as connection:
        count = connection.execute(text("select count(*) from study_system_attributes"))
        return int(count.scalar_one())


def test_a_password_is_not_shown() -> None:
    shown = dashboard_command("postgresql+psycopg://me:secret@host/db")
    assert "secret" not in shown
    assert "me:***@host/db" in shown


def test_progress_in_a_file_is_plain_lines() -> None:
    stream = io.StringIO()
    with ConsoleProgress(Console(file=stream, width=80)) as progress:
        progress.stage("first")
        with progress.track("short", 10) as advance, progress.track("inner", 5):
            advance(10)
        progress.note("a fact [with brackets]")
    lines = stream.getvalue().splitlines()
    assert [line[7:] for line in lines] == ["1. first", "   a fact [with brackets]"]
    assert "\x1b" not in stream.getvalue()


def test_a_long_task_leaves_a_line_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mordal_optuna.reporting.console._WORTH_A_LINE_SECONDS", 0.0)
    stream = io.StringIO()
    with (
        ConsoleProgress(Console(file=stream)) as progress,
        progress.track("align a + b", 10) as advance,
    ):
        advance(10)
    assert "align a + b: 10 done in" in stream.getvalue()


def test_the_terminal_is_restored_after_an_error() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with (
        pytest.raises(KeyboardInterrupt),
        ConsoleProgress(console) as progress,
        progress.track("t", 2),
    ):
        raise KeyboardInterrupt
    assert stream.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in stream.getvalue()


def test_what_failed_trials_took_is_part_of_the_cost_and_shown(
    result: StudyResult, tmp_path: Path
) -> None:
    """In terminal and report where there is any; nowhere else."""
    lost = replace(result, costs=replace(result.costs, lost=7.25))
    assert lost.costs.total == pytest.approx(result.costs.total + 7.25)
    assert lost.full_runs is not None
    assert result.full_runs is not None
    assert lost.full_runs > result.full_runs
    assert "failed and lost 7.2 s" in " ".join(printed(lost).split())
    page = write_report(lost, tmp_path / "a.html", dashboard_command="", versions={})
    assert "failed and lost" in page.read_text(encoding="utf-8")
    assert "failed and lost" not in printed(result)


def test_a_study_counts_what_its_failed_trials_took() -> None:
    """As stored with the trial, where a measurement failed."""
    chosen, measure, clock = plan(), table(), iter(range(0, 10_000, 5))

    def broken(candidate: Candidate, samples: int) -> Measurement:
        if candidate == Candidate("clip", "llama"):
            raise TrainingError(samples, "loss is nan")
        return measure(candidate, samples)

    study = optuna.create_study(
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    objective = Objective(chosen, broken, clock=lambda: float(next(clock)))
    study.optimize(objective, catch=(TrainingError,))
    found = read_result(study, chosen, method="mordal", task="gqa")
    assert found.costs.lost == pytest.approx(10.0)  # two trials, five seconds each


def test_a_complete_trials_note_follows_the_answer() -> None:
    """Trials are noted once; whether a complete one is the answer can change."""
    chosen = plan(finalists=3)
    study = search(chosen, table())
    found = read_result(study, chosen, method="mordal", task="gqa")
    assert publish(study, found)
    (handle,) = trial_handles(study, [study.best_trial])
    assert "This is the study's answer." in get_note(handle)
    assert publish(study, replace(found, winner=found.ranking[-1]))
    assert "This is the study's answer." not in get_note(handle)
