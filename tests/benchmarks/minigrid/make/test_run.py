"""The command that makes the grid: files that the tables read, resumable, on a tiny pool."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from benchmarks.minigrid.make import jobs
from benchmarks.minigrid.make.run import SCHEDULES, main
from benchmarks.minigrid.pool.minigrid import MINIGRID
from benchmarks.minigrid.tables.data import read_tasks
from mordal_optuna.progress import Silent
from mordal_optuna.rivals.inputs import RIVALS
from mordal_optuna.zoo.build import build
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.minigrid.make.files import Job

ENCODERS, LLMS = MINIGRID.encoders[:2], MINIGRID.llms[:1]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study over 2 x 1 hardly trained models of the drawn world."""
    folder = tmp_path_factory.mktemp("minigrid")
    small = {"width": 32, "layers": 2}
    recipe = replace(
        MINIGRID,
        encoders=tuple(replace(e, batch_size=4, steps=2, **small) for e in ENCODERS),
        # Long enough to learn where an answer ends, or all would be as long as allowed.
        llms=tuple(replace(m, batch_size=8, steps=80, choosing=2, **small) for m in LLMS),
        alignment=replace(MINIGRID.alignment, samples=64),
        documents=24,
    )
    build(recipe, folder / "zoo", Silent(), workers=0)
    tasks = [{"name": t, "data": str(folder / "zoo/tasks" / t), "batch_size": 24} for t in TASKS]
    content = {
        "study": "tiny",
        "workdir": str(folder / "work"),
        "pool": {
            "vision_encoders": [
                {"name": e.name, "location": str(folder / "zoo/encoders" / e.name)}
                for e in ENCODERS
            ],
            "llms": [
                {"name": m.name, "location": str(folder / "zoo/llms" / m.name)} for m in LLMS
            ],
        },
        "alignment": {
            "conversations": str(folder / "zoo/alignment/alignment.json"),
            "images": str(folder / "zoo/alignment/images"),
            "batch_size": 2,
            "precision": "fp32",
            "max_length": 512,
            "lora": {"rank": 2, "alpha": 4},
        },
        "task": tasks[0],
        "also_score": tasks[1:],
        "representation": {"images": 16, "warmup_samples": 4},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_tables_read_what_the_command_makes(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a part, then the rest without doing it again; scores, values, rivals agree.

    As soon as every pair has its own run, grid files are written with the further runs there are.
    """
    monkeypatch.setattr("benchmarks.minigrid.make.run.SEEDS", (1,))  # one seed less, for speed
    main(["--study", str(study), "--out", str(tmp_path), "--processes", "0", "--only", "3"])
    assert len(list((tmp_path / "pairs").glob("train-*.json"))) == 3
    assert read_tasks(tmp_path / "grids")[0].run_counts.tolist() == [2, 1]
    done: list[str] = []
    run = jobs.run

    def noted(job: Job, *given: object) -> float:
        done.append(job.name)
        return run(job, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("benchmarks.minigrid.make.run.run", noted)
    main(["--study", str(study), "--out", str(tmp_path), "--processes", "0"])
    assert len(done) == 1 + 3  # the other further run; three schedules
    assert all(name.startswith("train-") for name in done)
    stored = (tmp_path / "grids" / "seeds.json").read_text()
    (tmp_path / "grids" / "seeds.json").unlink()
    main(["--out", str(tmp_path), "--collect-seeds"])
    assert (tmp_path / "grids" / "seeds.json").read_text() == stored
    found = read_tasks(tmp_path / "grids")
    assert [data.task for data in found] == list(TASKS)
    for data in found:
        assert data.samples == (2, 4, 8, 16, 32, 64)
        assert data.values.shape == (2, 6, 24)
        assert data.run_counts.tolist() == [2, 2]
        assert data.further_values.shape == (2, 6, 24)
        assert data.schedules
        assert data.schedules.names == ("linear", "cooldown", "ema")
        assert data.schedules.scores.shape == (1, 3, 6)
        assert data.rivals
        at_budget = {f"{rival}@budget" for rival in RIVALS if rival != "gromov-wasserstein"}
        assert set(data.rivals.scores) == {*RIVALS, *at_budget}
        assert all(np.isfinite(row).all() for row in data.rivals.scores.values())
        assert data.rivals.seconds["logme@budget"] > data.rivals.seconds["logme"]
        curve = data.grid.curves[0]
        assert curve.nll
        assert all(value > 0 for value in curve.nll)
        assert data.grid.feature_seconds > 0
        for candidate, seconds in data.warmups.items():
            assert 0 < seconds < data.grid.warmup(candidate)
        assert set(data.grid.llm_similarity) == {e.name for e in ENCODERS}
        assert data.biased.vision_similarity != data.grid.vision_similarity
    for path in (tmp_path / "pairs").glob("train-*.json"):
        measured = json.loads(path.read_text())
        name = path.stem.rsplit("-", 1)[-1]
        assert measured["schedule"] == (name if name in SCHEDULES else "constant")
        with np.load(path.with_suffix(".npz")) as arrays:
            nll = arrays["gqa/nll"].astype(float)
        assert nll.mean(1) == pytest.approx(measured["tasks"]["gqa"]["nll"], rel=2e-3)
    again = json.loads((tmp_path / "grids" / "rivals.json").read_text())
    assert set(again) == {"seconds", *TASKS}
