"""Grid files of studies: what was measured stays as it is; estimates are asked for and marked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from mordal_optuna.config import parse_study, read_study
from mordal_optuna.driver import study_plan
from mordal_optuna.errors import ConfigError, GridError, SearchError
from mordal_optuna.replay.from_study import GridContent, grid_content, read_scores
from mordal_optuna.replay.grid import Grid, read_grid
from mordal_optuna.replay.run import replay
from mordal_optuna.search.attributes import CONFIG, FULL_SAMPLES, store_value
from mordal_optuna.search.clusters import cluster_pool
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler, study_history
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import Representation, read_result, store_representation
from tests.cli.calls import study_file
from tests.search.several import Several
from tests.search.synthetic import ENCODERS, LLMS, Table, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.study.result import StudyResult

# Defaults are made for many samples; the learning curves of `Table` are those of any number.
FULL = 65536
COSTS = {"features": 7.0, "similarity": 1.0, "warmup": 4.0}


def begin(settings: StudySettings, *, compared: bool = False) -> optuna.Study:
    """The study as `mordal run` begins it."""
    settings.workdir.mkdir(exist_ok=True)
    storage = study_storage(settings.storage_url())
    study = optuna.create_study(study_name=settings.study, storage=storage, direction="maximize")
    store_value(study, CONFIG, settings.fingerprint())
    study.set_user_attr(FULL_SAMPLES, FULL)
    if compared:
        pool = settings.models()
        square = tuple(
            tuple(1.0 if i == j else 0.8 for j in range(len(pool.encoder_names)))
            for i in range(len(pool.encoder_names))
        )
        tree = cluster_pool(pool.encoder_names, pool.llm_names, square, lambda _: square)
        medoids = tree.thresholds.llms if tree.thresholds else {}
        store_representation(
            study, Representation(square, dict.fromkeys(medoids, square), tree, COSTS)
        )
    return study


def searched(
    settings: StudySettings,
    measure: Callable[[Candidate, int], Measurement] | None = None,
    *,
    compared: bool = False,
    trials: int | None = None,
) -> StudyResult:
    """Run a study to its end, or for so many trials, on known curves."""
    study = begin(settings, compared=compared)
    found = read_scores(settings).representation
    plan = study_plan(settings, FULL, found)
    study.sampler, study.pruner = CkaClusterSampler(plan, seed=0), LogLinearHalvingPruner(plan)
    levels = {c: 0.2 + 0.02 * n for n, c in enumerate(reversed(settings.models().candidates))}
    study.optimize(Objective(plan, measure or Table(levels)), n_trials=trials)
    tasks = settings.task_weights or None
    return read_result(study, plan, method=settings.search.method, task="t", tasks=tasks)


def settings_of(folder: Path, method: str) -> StudySettings:
    return read_study(study_file(folder), method=method)


def as_grid(written: GridContent) -> Grid:
    """What `mordal replay` reads."""
    return Grid.model_validate(json.loads(json.dumps(written.content)))


def test_the_file_of_a_grid_gives_the_pick_of_the_study(tmp_path: Path) -> None:
    """Scores, errors, documents and costs are those that were measured."""
    settings = settings_of(tmp_path, "grid")
    result = searched(settings)
    written = grid_content(read_scores(settings), "t", fill=False)
    assert (written.pairs, written.scored, written.missing) == (4, 4, 0)
    grid = as_grid(written)
    assert (grid.full_samples, grid.test_documents, grid.estimated) == (FULL, 400, 0)
    assert {c.candidate: grid.measurements(c.candidate) for c in grid.curves} == {
        c: tuple(replace(m, time={}) for m in points) for c, points in result.curves.items()
    }
    picked = replay(grid, "grid").picked
    assert picked == (result.winner.candidate.vision_encoder, result.winner.candidate.llm)
    scored = [e.candidate for e in replay(grid, "grid").ranking]
    assert scored == [e.candidate for e in result.ranking]


def test_a_method_that_compares_models_needs_their_similarities(tmp_path: Path) -> None:
    """From the study itself, or from another one of the same models in the same database."""
    grid, search = settings_of(tmp_path, "grid"), settings_of(tmp_path, "mordal")
    grid = grid.model_copy(
        update={
            "search": grid.search.model_copy(update={"first_ratio": 0.03125, "max_ratio": 1.0})
        }
    )
    searched(grid)
    alone = as_grid(grid_content(read_scores(grid), "t", fill=False))
    with pytest.raises(GridError, match=r"the file has none .*--compared-in NAME"):
        replay(alone, "mordal")
    search = search.model_copy(update={"study": "other", "workdir": grid.workdir})
    searched(search, compared=True)
    own, lent = read_scores(search), read_scores(grid, compared_in="other")
    assert own.representation == lent.representation
    whole = as_grid(grid_content(lent, "t", fill=False))
    assert whole.vision_similarity == ((1.0, 0.8), (0.8, 1.0))
    warmed = [f"{medoid}|{llm}" for medoid in whole.llm_similarity for llm in whole.llms]
    assert whole.warmup_seconds == dict.fromkeys(warmed, COSTS["warmup"] / len(warmed))
    assert whole.feature_seconds == 8.0
    found = replay(whole, "mordal")
    assert found.cost.warmup + found.cost.features == pytest.approx(sum(COSTS.values()))
    assert found.regret == 0.0


def test_a_comparison_of_other_models_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "grid")
    searched(settings)
    with pytest.raises(ConfigError, match="got 'nobody'; it must be a study in the same"):
        read_scores(settings, compared_in="nobody")
    reversed_pool = settings.pool.model_copy(update={"llms": settings.pool.llms[::-1]})
    other = settings.model_copy(update={"study": "other", "pool": reversed_pool})
    begin(other, compared=True)
    with pytest.raises(ConfigError, match="'other' has compared other models"):
        read_scores(settings, compared_in="other")


def test_a_part_of_a_grid_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    """Nothing is made up: pairs without a score have no curve."""
    settings = settings_of(tmp_path, "grid")
    searched(settings, trials=3)
    written = grid_content(read_scores(settings), "t", fill=False)
    rungs = len(written.content["curves"][0]["samples"])
    assert (written.scored, written.missing) == (3, rungs)
    assert not read_scores(settings).ended
    path = tmp_path / "part.json"
    path.write_text(json.dumps(written.content))
    with pytest.raises(GridError, match=r"part.json.*has no curve.*every pair needs one.*--fill"):
        read_grid(path)


def test_estimates_fill_what_was_not_measured(tmp_path: Path) -> None:
    """They are those of the study's own ranking, marked, and never replace a measurement."""
    settings = settings_of(tmp_path, "joint")
    result = searched(settings, trials=3)
    scores = read_scores(settings)
    left_out = grid_content(scores, "t", fill=False)
    written = grid_content(scores, "t", fill=True)
    grid = as_grid(written)
    assert written.missing == left_out.missing == grid.estimated > 0
    measured = {c: {m.samples: m for m in points} for c, points in result.curves.items()}
    assert len(measured) < 4
    for curve in grid.curves:
        marks = curve.estimated or (False,) * len(curve.samples)
        for point, marked in zip(grid.measurements(curve.candidate), marks, strict=True):
            known = measured.get(curve.candidate, {}).get(point.samples)
            assert marked is (known is None)
            assert known is None or replace(known, time={}) == point
    estimates = {e.candidate: e.value for e in result.ranking}
    for curve in grid.curves:
        if curve.estimated and curve.estimated[-1]:
            assert grid.truth(curve.candidate) == pytest.approx(estimates[curve.candidate])
    # Every pair of `Table` trains 100 samples a second, and a score takes a second.
    assert grid.grid_seconds == pytest.approx(4 * (FULL / 100 + 1))
    assert replay(grid, "grid").rungs_run == 4


def test_several_tasks_make_a_file_each(tmp_path: Path) -> None:
    """The best pair of each is another one."""
    content = several_tasks(tmp_path)
    settings = parse_study(content)
    searched(settings, Several())
    scores = read_scores(settings)
    assert scores.tasks == ("gqa", "chartqa")
    picked = {}
    for task in scores.tasks:
        grid = as_grid(grid_content(scores, task, fill=False))
        assert (grid.task, grid.test_documents) == (task, 400)
        picked[task] = replay(grid, "grid").picked
    assert picked == {"gqa": ("siglip", "qwen"), "chartqa": ("clip", "llama")}


POOL = {"vision_encoders": ENCODERS, "llms": LLMS}


def several_tasks(folder: Path) -> dict[str, Any]:
    """A study file of the pool of `Several`, as a grid on two tasks."""
    models = {key: [{"name": n, "location": n} for n in names] for key, names in POOL.items()}
    (folder / "a.json").write_text("[]")
    return {
        "study": "s",
        "workdir": str(folder / "run"),
        "tasks": [{"name": "gqa", "weight": 2.0}, {"name": "chartqa"}],
        "pool": models,
        "alignment": {"conversations": str(folder / "a.json"), "images": str(folder)},
        "search": {"method": "grid", "first_ratio": 1.0, "max_ratio": 1.0},
    }


def test_documents_that_differ_by_rung_are_written(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "grid")
    known = table()

    def fewer(candidate: Candidate, samples: int) -> Measurement:
        known.levels.setdefault(candidate, 0.2)
        return replace(known(candidate, samples), documents=400 if samples == FULL else 50)

    searched(settings, fewer)
    grid = as_grid(grid_content(read_scores(settings), "t", fill=False))
    assert grid.test_documents == 400
    points = grid.measurements(grid.candidates[0])
    assert [m.documents for m in points] == [50] * (len(points) - 1) + [400]


def test_a_study_that_has_not_begun_has_no_grid(tmp_path: Path) -> None:
    """And no database is created for it."""
    settings = settings_of(tmp_path, "grid")
    with pytest.raises(SearchError, match="study 's-grid' has no score yet; run it first"):
        read_scores(settings)
    assert not (settings.workdir / "study.db").exists()
    begin(settings)
    with pytest.raises(GridError, match="has no score on 't'"):
        grid_content(read_scores(settings), "t", fill=True)
    assert not study_history(begin(settings.model_copy(update={"study": "b"}))).candidates
