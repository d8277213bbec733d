"""Files of the jobs: complete or absent, arrays first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.make.files import Files, Job

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "pairs", tmp_path / "features")


def test_names_tell_jobs_apart() -> None:
    jobs = (
        Job("encode", "e"),
        Job("compare", "e", "m"),
        Job("train", "e", "m"),
        Job("train", "e", "m", seed=1),
        Job("train", "e", "m", schedule="ema"),
    )
    assert [job.name for job in jobs] == [
        "encode-e",
        "compare-e+m",
        "train-e+m",
        "train-e+m-seed1",
        "train-e+m-ema",
    ]


@pytest.mark.parametrize("kind", ["compare", "train"])
def test_what_is_written_is_read_and_done(files: Files, kind: str) -> None:
    job = Job(kind, "e", "m")  # type: ignore[arg-type]
    assert not files.done(job)
    files.write(job, {"seconds": 1.5}, {"gqa": np.arange(3)})
    assert files.done(job)
    assert files.read(job) == {"seconds": 1.5}
    assert files.array(job, "gqa").tolist() == [0, 1, 2]
    arrays = files.pairs if kind == "train" else files.features
    assert (arrays / f"{job.name}.npz").is_file()
    assert not [path for path in arrays.iterdir() if path.name.startswith(".")]


def test_a_job_whose_measurements_cannot_be_written_is_not_done(files: Files) -> None:
    job = Job("train", "e", "m")
    with pytest.raises(TypeError):
        files.write(job, {"seconds": object()}, {"gqa": np.arange(3)})
    assert not files.done(job)
    assert [path.name for path in files.pairs.iterdir()] == ["train-e+m.npz"]
