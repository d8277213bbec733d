"""Whole studies of three tasks with real models: run, killed, continued, refused, exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pytest
import yaml
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import parse_study
from mordal_optuna.driver import load_study, run_study
from mordal_optuna.errors import StudyMismatchError
from mordal_optuna.exporting import export_candidate
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import MAIN_TRIAL, RUNGS
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.joint import choice
from mordal_optuna.search.joint.choice import _Tables
from mordal_optuna.search.joint.job_costs import JobCosts
from mordal_optuna.search.sampler import study_history
from mordal_optuna.workbench.workbench import open_workbench

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings

pytestmark = pytest.mark.slow

TASKS = ("mordal_scenes", "scienceqa_img", "mordal_gqa")


@pytest.fixture
def content(study_content: dict[str, Any], zoo: Path) -> dict[str, Any]:
    """Four pairs on three tasks; a fourth task is scored for the winner only."""
    folders = ("scenes", "ScienceQA", "gqa")
    tasks = [
        {"name": name, "data": str(zoo / "tasks" / folder)}
        for name, folder in zip(TASKS, folders, strict=True)
    ]
    tasks[0] |= {"weight": 2, "early_documents": [{"below": 0.2, "documents": 6}]}
    further = {"name": "mordal_ai2d", "data": str(zoo / "tasks" / "ai2d")}
    del study_content["task"]
    return study_content | {"tasks": tasks, "also_score": [further]}


def studies(settings: StudySettings) -> dict[str, optuna.Study]:
    """The main study under the name "", and that of each task."""
    storage, name = settings.storage_url(), settings.study
    names = {"": name, **{task: f"{name} [{task}]" for task in settings.task_weights}}
    return {task: optuna.load_study(study_name=n, storage=storage) for task, n in names.items()}


def assert_whole(settings: StudySettings) -> None:
    """No rung was measured twice, and each task has every trial of the main study once."""
    found = studies(settings)
    main = found.pop("")
    ended = [t for t in main.trials if t.state.is_finished() and candidate_of(t)]
    rungs = [(candidate_of(t), samples) for t in ended for samples in t.user_attrs.get(RUNGS, {})]
    assert len(rungs) == len(set(rungs)) > 0
    for task, study in found.items():
        mirrored = {t.user_attrs[MAIN_TRIAL]: t for t in study.trials}
        assert len(mirrored) == len(study.trials)
        assert sorted(mirrored) == [t.number for t in ended]
        for trial in ended:
            own = mirrored[trial.number].intermediate_values
            assert own.keys() == trial.intermediate_values.keys()
            for samples, details in trial.user_attrs.get(RUNGS, {}).items():
                assert own[int(samples)] == details["tasks"][task]["score"]


def test_three_tasks_from_the_command_line(content: dict[str, Any], tmp_path: Path) -> None:
    """Terminal and JSON; a second run only reads; the winner is exported with all scores."""
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    shown = CliRunner().invoke(cli.app, ["run", str(file)])
    assert shown.exit_code == 0, shown.output
    assert "best pairs on each task" in shown.output
    settings = parse_study(content)
    assert_whole(settings)
    again = CliRunner().invoke(cli.app, ["run", str(file), "--json"])
    plain = json.loads(again.stdout)
    assert [task["name"] for task in plain["tasks"]] == list(TASKS)
    assert all(len(task["ranking"]) == 4 for task in plain["tasks"])
    assert [score["task"] for score in plain["further_scores"]] == ["mordal_ai2d"]
    assert "Tasks</h2>" in (settings.workdir / "tiny.html").read_text()
    result = load_study(settings)
    spent = sum(t.user_attrs[RUNGS][s]["train_spent"] for t, s in _rungs(settings))
    assert result.costs.training == pytest.approx(spent)
    exported = export_candidate(settings, tmp_path / "vlm", Silent())
    assert [line.split(" on ")[1].split(" (")[0] for line in exported.scores[:4]] == [
        *TASKS,
        "mordal_ai2d",
    ]


def _rungs(settings: StudySettings) -> list[tuple[optuna.trial.FrozenTrial, str]]:
    trials = studies(settings)[""].trials
    return [(t, samples) for t in trials for samples in t.user_attrs.get(RUNGS, {})]


@pytest.mark.long
def test_a_killed_study_goes_on_with_the_same_rankings(
    content: dict[str, Any], tmp_path: Path
) -> None:
    whole = run_study(parse_study(content), Silent())
    settings = parse_study(content | {"workdir": str(tmp_path / "interrupted")})

    class Interrupting(Silent):
        def __init__(self, notes: int) -> None:
            self.left = notes

        def note(self, text: str) -> None:  # noqa: ARG002
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    for notes in (2, 3, 2):
        with pytest.raises(KeyboardInterrupt):
            run_study(settings, Interrupting(notes))
    result = run_study(settings, Silent())
    assert_whole(settings)
    for task, expected in zip(result.tasks, whole.tasks, strict=True):
        assert [(e.candidate, e.value) for e in task.ranking] == [
            (e.candidate, e.value) for e in expected.ranking
        ]
    content["tasks"][1]["weight"] = 3
    with pytest.raises(StudyMismatchError, match=r"tasks.scienceqa_img.weight: 1.0 stored, 3.0"):
        run_study(parse_study(content), Silent())


def useful(content: dict[str, Any]) -> dict[str, Any]:
    """The study with a search that scores a rung on some tasks."""
    search = {"method": "joint", "score_tasks": "useful", "start_ratio": 0.125, "round_size": 2}
    search |= {"first_ratio": 0.125, "max_ratio": 1.0}
    return content | {"search": search | {"stop": {"expected_regret": None}, "compare": "none"}}


def test_a_study_that_scores_some_tasks_at_a_rung(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed and continued: no score is computed twice, and the answer is scored on all tasks.

    The choice depends on seconds that were measured, so that samples count here instead, and the
    second task is scored at the start and at the end alone.
    """
    chosen, learned = _Tables.useful, JobCosts.learned
    settings = parse_study(useful(content))
    whole = settings.alignment.samples

    def some(self: _Tables, falls: Any) -> Any:
        asked = chosen(self, falls)
        ends = [samples == whole for _, samples in self._options.scores]
        asked[1] &= np.array(ends, dtype=bool)
        return asked

    def by_samples(measured: Any, *given: Any) -> JobCosts:
        return learned(dict.fromkeys(measured, {}), *given)

    monkeypatch.setattr(_Tables, "useful", some)
    monkeypatch.setattr(JobCosts, "learned", staticmethod(by_samples))
    monkeypatch.setattr(choice, "_with_further", lambda *given: list(given[2]))

    class Interrupting(Silent):
        left = 6

        def note(self, text: str) -> None:  # noqa: ARG002
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(settings, Interrupting())
    result = run_study(settings, Silent())
    found = studies(settings)
    main_study = found.pop("")
    history = study_history(main_study)
    details = [r for t in main_study.trials for r in t.user_attrs.get(RUNGS, {}).values()]
    assert any(rung.get("partial") for rung in details)
    record = history.of(result.winner.candidate)
    assert record.at(record.top)
    assert result.winner.samples == record.top
    for task, study in found.items():
        own = study_history(study)
        for candidate, main in history.candidates.items():
            rungs = [m.samples for m in main.rungs if task in m.by_task]
            assert [m.samples for m in own.of(candidate).measurements] == rungs
    spent = sum(m.eval_spent for r in history.candidates.values() for m in r.rungs)
    assert 0 < result.costs.evaluation == pytest.approx(spent)
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(useful(content)))
    for command in ("run", "status"):
        shown = CliRunner().invoke(cli.app, [command, str(file), "--json"])
        assert shown.exit_code == 0, shown.output
        json.loads(shown.stdout)
    changed = useful(content)
    changed["search"]["score_tasks"] = "all"
    with pytest.raises(StudyMismatchError, match=r"search.score_tasks: useful stored"):
        run_study(parse_study(changed), Silent())


def test_a_rung_is_scored_on_further_tasks_without_training(content: dict[str, Any]) -> None:
    """The scores are those of a rung that is scored on all tasks at once."""
    settings = parse_study(content)
    settings.workdir.mkdir(parents=True)
    bench, pair = open_workbench(settings, Silent()), Candidate("clip-t", "llama-t")
    first = bench.measure_tasks(pair, 16, [TASKS[2]])
    assert first.by_task.keys() == {TASKS[2]}
    rest = bench.measure_tasks(pair, 16, TASKS[:2])
    assert rest.by_task.keys() == set(TASKS[:2])
    assert rest.train_spent == 0.0
    assert first.train_seconds == rest.train_seconds > 0
    whole = bench.measure(pair, 16)
    assert {t: m.score for t, m in whole.by_task.items()} == {
        t: m.score for t, m in {**first.by_task, **rest.by_task}.items()
    }
    assert whole.eval_spent == 0.0


def test_a_later_study_of_one_task_scores_nothing_again(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All scores of the grid are in the database, by checkpoint and task."""
    content["tasks"][0].pop("early_documents")
    grid = content | {"search": {"method": "grid", "first_ratio": 0.5, "max_ratio": 1.0}}
    several = run_study(parse_study(grid), Silent())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr("mordal_optuna.workbench.align_and_score.score", refuse)
    task = {k: v for k, v in content["tasks"][2].items() if k != "weight"}
    alone = {k: v for k, v in grid.items() if k != "tasks"}
    single = parse_study(alone | {"study": "alone", "task": task, "also_score": []})
    result = run_study(single, Silent())
    assert result.costs.evaluation == 0.0
    (found,) = (t for t in several.tasks if t.name == "mordal_gqa")
    assert {c: [m.score for m in curve] for c, curve in result.curves.items()} == {
        c: [m.score for m in curve] for c, curve in found.curves.items()
    }


@pytest.mark.long
def test_two_processes_find_the_scores_of_one(content: dict[str, Any], tmp_path: Path) -> None:
    content["pool"]["vision_encoders"].pop()
    content["search"] = {"method": "grid", "first_ratio": 0.5, "max_ratio": 1.0}
    alone = run_study(parse_study(content), Silent())
    changed = content | {"workdir": str(tmp_path / "launched")}
    file = tmp_path / "launched.yaml"
    file.write_text(yaml.safe_dump(changed))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
        *("--master_port", "29713", "-m", "mordal_optuna", "run", str(file), "--json"),
    ]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert_whole(parse_study(changed))
    plain = json.loads(done.stdout)
    for task, expected in zip(plain["tasks"], alone.tasks, strict=True):
        winner = expected.curves[alone.winner.candidate][-1]
        pair = next(p for p in task["ranking"] if _is(p, alone.winner.candidate))
        assert pair["measured"]["documents"] == winner.documents


def _is(pair: dict[str, Any], candidate: Any) -> bool:
    return (pair["vision_encoder"], pair["llm"]) == tuple(candidate)
