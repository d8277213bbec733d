"""Grid files: read whole, or refused in one sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.errors import GridError, NoGridError
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.grid import Grid, read_grid, read_grids
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def content() -> dict[str, Any]:
    """Two encoders, two LLMs, two rungs."""
    square = [[1.0, 0.5], [0.5, 1.0]]
    return {
        "task": "t",
        "full_samples": 200,
        "test_documents": 100,
        "encoders": ["a", "b"],
        "llms": ["x", "y"],
        "vision_similarity": square,
        "llm_similarity": {"a": square, "b": square},
        "warmup_seconds": {"a|x": 1.0, "a|y": 1.0, "b|x": 1.0, "b|y": 1.0},
        "curves": [
            {
                "encoder": encoder,
                "llm": llm,
                "samples": [100, 200],
                "score": [0.3, 0.5],
                "train_seconds": [10.0, 20.0],
                "eval_seconds": [1.0, 3.0],
            }
            for encoder in "ab"
            for llm in "xy"
        ],
    }


def written(folder: Path, grid: dict[str, Any]) -> Path:
    path = folder / "grid.json"
    path.write_text(json.dumps(grid), encoding="utf-8")
    return path


def test_a_whole_file_gives_measurements_and_costs(tmp_path: Path) -> None:
    grid = read_grid(written(tmp_path, content()))
    found = grid.measurement(Candidate("a", "y"), 100)
    assert (found.score, found.train_seconds, found.eval_seconds) == (0.3, 10.0, 1.0)
    assert found.documents == 100
    assert found.stderr == pytest.approx((0.3 * 0.7 / 100) ** 0.5)
    assert grid.truth(Candidate("b", "x")) == 0.5
    assert grid.grid_seconds == 4 * (20 + 3)
    assert grid.full_run_seconds == 23
    assert grid.seconds_per_sample(Candidate("a", "x")) == 0.1


def test_measured_standard_errors_are_used_where_the_file_has_them(tmp_path: Path) -> None:
    changed = content()
    changed["curves"][0]["stderr"] = [0.01, 0.02]
    grid = read_grid(written(tmp_path, changed))
    assert grid.measurement(Candidate("a", "x"), 200).stderr == 0.02


def test_a_curve_gives_the_measurements_of_all_its_rungs(tmp_path: Path) -> None:
    """All columns of the file are read, also those that few files have."""
    changed = content()
    changed["curves"][0] |= {"stderr": [0.01, 0.02], "nll": [2.0, 1.0], "nll_stderr": [0.2, 0.1]}
    changed["curves"][0] |= {"p_correct": [0.2, 0.4], "p_correct_stderr": [0.05, 0.04]}
    grid = read_grid(written(tmp_path, changed))
    assert grid.measurements(Candidate("a", "x")) == (
        Measurement(
            100, 0.3, 0.01, 100, 10.0, 1.0, 2.0, 0.2, p_correct=0.2, p_correct_stderr=0.05
        ),
        Measurement(
            200, 0.5, 0.02, 100, 20.0, 3.0, 1.0, 0.1, p_correct=0.4, p_correct_stderr=0.04
        ),
    )
    plain = grid.measurements(Candidate("a", "y"))
    assert [point.nll for point in plain] == [None, None]
    assert [point.p_correct for point in plain] == [None, None]
    assert plain[0] == grid.measurement(Candidate("a", "y"), 100)


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    assert read_grid(written(tmp_path, {**content(), "made_by": "us"})).task == "t"


def drop_rung(grid: dict[str, Any]) -> None:
    curve = grid["curves"][1]
    for key in ("samples", "score", "train_seconds", "eval_seconds"):
        curve[key] = curve[key][1:]


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Sets a value at a place such as `curves.0.score`."""

    def apply(grid: dict[str, Any]) -> None:
        at: Any = grid
        *parents, last = path.split(".")
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        at[last] = value

    return apply


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (drop_rung, r"the curve of a \+ y has no score at 100 samples"),
        (change("curves.0.score", [0.3]), r"a \+ x has 2 samples and 1 score"),
        (change("curves.0.eval_seconds", [1.0]), "2 samples and 1 eval_seconds"),
        (
            change("curves.0.score", [0.3, 1.5]),
            r"curves.0.score.1 \(a \+ x\): got 1.5; .* less than",
        ),
        (change("curves.1.score", [0.3, float("nan")]), r"score.1 \(a \+ y\): got nan; .*finite"),
        (change("curves.2.score", [0.3, float("inf")]), r"score.1 \(b \+ x\): got inf; .*finite"),
        (change("curves.3.stderr", [0.1, float("nan")]), r"stderr.1 \(b \+ y\): got nan"),
        (change("vision_similarity", [[1.0, float("nan")]] * 2), "similarity.0.1: got nan"),
        (change("curves.0.estimated", [True]), "2 samples and 1 estimated"),
        (change("curves.0.documents", [0, 1]), r"documents.0 \(a \+ x\): got 0"),
        (change("curves.0.score", [0.3, -0.1]), r"got -0.1; .*greater than"),
        (change("curves.0.encoder", "clip"), "a curve names the encoder 'clip'; .* a, b"),
        (change("curves.0.llm", "gpt"), "names the llm 'gpt'; the file lists x, y"),
        (change("llm_similarity", {"c": []}), "llm_similarity names the encoder 'c'"),
        (change("warmup_seconds", {"a|z": 1.0}), "warmup_seconds names the llm 'z'"),
        (change("warmup_seconds", {"ax": 1.0}), "keys are 'encoder|llm'"),
        (change("vision_similarity", [[1.0]]), "vision_similarity .* must be 2 x 2"),
        (change("curves.0.samples", [200, 100]), "must ascend"),
        (change("curves.0.samples", [100, 300]), "must end at full_samples, 200"),
        (change("curves.0.train_seconds", [20.0, 10.0]), "train_seconds that fall"),
        (change("encoders", ["a", "a"]), "encoders lists 'a' twice"),
        (
            lambda grid: grid["curves"].pop(),
            r"b \+ y has no curve, like 0 others of the 4 pairs; .*--fill",
        ),
        (lambda grid: grid["curves"].append(grid["curves"][0]), r"a \+ x has two curves"),
        (lambda grid: grid.pop("task"), "task is missing"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(
    tmp_path: Path, break_it: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    grid = content()
    break_it(grid)
    with pytest.raises(GridError, match=sentence) as caught:
        read_grid(written(tmp_path, grid))
    assert "\n" not in str(caught.value)
    assert "grid.json" in str(caught.value)


def test_a_missing_file_and_invalid_json_are_reported(tmp_path: Path) -> None:
    with pytest.raises(GridError, match="does not exist"):
        read_grid(tmp_path / "none.json")
    path = tmp_path / "broken.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(GridError, match="not valid JSON"):
        read_grid(path)


def test_files_that_hold_no_grid_are_skipped_by_name(tmp_path: Path) -> None:
    """A broken grid is no reason to go on with the others, nor is a missing file."""
    grid = written(tmp_path, content())
    others = {
        "rows.json": "[1, 2]",
        "seeds.json": "{}",
        "ai2d.npz": "PK\x03",
        "b.npz": b"\xff\x80",
    }
    for name, text in others.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    paths = [tmp_path / name for name in others]
    grids, reasons = read_grids([*paths, grid])
    assert [g.task for g in grids] == ["t"]
    assert all(name in said for name, said in zip(others, reasons, strict=True))
    with pytest.raises(GridError, match="none of the 4 files is a grid file; first: .*rows.json"):
        read_grids(paths)
    with pytest.raises(NoGridError, match="rows.json.* is no grid file: it has no `curves`"):
        read_grids(paths[:1])
    broken = content()
    broken["curves"].pop()
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    for bad in ("broken.json", "none.json"):
        with pytest.raises(GridError, match=bad):
            read_grids([grid, tmp_path / bad])


def test_a_file_may_lack_similarities_and_say_what_was_estimated() -> None:
    """Such files are read as before; what needs a similarity says which is missing."""
    changed = content()
    for key in ("vision_similarity", "llm_similarity", "warmup_seconds"):
        del changed[key]
    changed["curves"][0] |= {"estimated": [False, True], "documents": [10, 100]}
    changed["curves"][0] |= {"nll": [0.5, None], "nll_stderr": [0.1, None]}
    grid = Grid.model_validate(changed)
    assert (grid.scores, grid.estimated) == (8, 1)
    first, last = grid.measurements(Candidate("a", "x"))
    assert (first.documents, last.documents) == (10, 100)
    assert (first.nll, last.nll) == (0.5, None)
    assert first.stderr == pytest.approx((0.3 * 0.7 / 10) ** 0.5)
    with pytest.raises(GridError, match=r"the similarity of the encoders .* the file has none"):
        grid.similarity_of_encoders()


def test_a_missing_score_similarity_or_cost_is_an_error() -> None:
    changed = content()
    changed["llm_similarity"].pop("b")
    changed["warmup_seconds"].pop("b|y")
    grid = Grid.model_validate(changed)
    with pytest.raises(GridError, match=r"a \+ x at 50 samples was asked for; .* 100, 200"):
        grid.measurement(Candidate("a", "x"), 50)
    with pytest.raises(GridError, match="fed by 'b' was asked for; the file has a"):
        grid.similarity_of_llms("b")
    with pytest.raises(GridError, match=r"no 'b\|y'"):
        grid.warmup(Candidate("b", "y"))
