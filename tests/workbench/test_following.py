"""Two processes, either of which fails anywhere: both raise the error, and neither waits."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from mordal_optuna.config import parse_study
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.workbench.workbench import open_workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

RANKS = (0, 1)


@dataclass(frozen=True)
class Ended:
    """How two processes ended.

    Attributes:
        seen: by work's number, then by rank: the result, or the error's class and text.
        codes: exit status of each rank; None if it had to be killed.
        errors: what each rank wrote to stderr.
        until: time in seconds since the epoch at which the last one ended.
    """

    seen: dict[int, dict[int, Any]]
    codes: list[int | None]
    errors: list[str]
    until: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ranks:
    """Starts two ranks at a time, which end by themselves."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        """Start them by `ranks.py`."""
        self._server = server

    def run(
        self, study: dict[str, Any], folder: Path, works: list[Any], *, sharded: bool = False
    ) -> Ended:
        """Run a study's works on two ranks, to the end of both."""
        folder.mkdir()
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(study | {"workdir": str(folder / "run"), "also_score": []}))
        assert self._server.stdin
        assert self._server.stdout
        launch = [str(path), str(folder), works, sharded, free_port()]
        self._server.stdin.write(json.dumps(launch) + "\n")
        self._server.stdin.flush()
        codes, until = json.loads(self._server.stdout.readline())
        seen: dict[int, dict[int, Any]] = {}
        for rank in RANKS:
            lines = folder / f"seen-{rank}"
            for line in lines.read_text().splitlines() if lines.exists() else ():
                number, text = json.loads(line)
                seen.setdefault(number, {})[rank] = text
        errors = [(folder / f"stderr-{rank}").read_text() for rank in RANKS]
        return Ended(seen, codes, errors, until)


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ranks.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield Ranks(server)  # it ends at the end of its input


def on_each(work: str, place: str, *errors: str) -> list[list[Any]]:
    """One work per error and rank that fails."""
    return [[work, place, rank, error] for error in errors for rank in RANKS]


def check_seen(works: list[list[Any]], ended: Ended, expected: dict[str, str]) -> None:
    """Both ranks raise each error, in the same words; the one that failed may raise its own.

    Args:
        works: all works.
        ended: what came of them.
        expected: beginning of what is raised, by place and error; that of the error otherwise.
    """
    for number, (_, place, failing, error) in enumerate(works, 1):
        if not error:
            continue
        seen = ended.seen[number]
        assert seen.keys() == set(RANKS), (works[number - 1], seen)
        sentence = expected.get(f"{place} {error}") or expected.get(error)
        if sentence:
            assert all(text.startswith(sentence) for text in seen.values()), seen
            continue
        own = {"attribute": "AttributeError: made to fail"}.get(
            error, "FileNotFoundError: [Errno 2] made to fail"
        )
        assert seen[failing] == own
        assert seen[1 - failing] == f"ProcessError: process {failing} of this launch failed: {own}"


TRAINING = "TrainingError: training after 0 samples: "
COMPARISON_FAULTS = [
    *on_each("compare", "encoder", "attribute"),
    *on_each("compare", "warm-up", "file"),
]
TRAINING_FAULTS = [
    *on_each("8", "assemble", "key"),
    *on_each("8", "gradients", "key", "attribute", "file", "disk"),
    *on_each("8", "loss", "memory"),
    *on_each("8", "optimizer", "runtime"),
    ["8", "save", 0, "attribute"],
    ["8", "", 1, "ahead"],
]
SCORING_FAULTS = [
    *on_each("8", "share", "attribute", "file"),
    *on_each("8", "answer", "key", "disk"),
    ["8", "evaluate", 0, "attribute"],
    ["8", "load", 0, "file"],
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "then"),
    [
        pytest.param(COMPARISON_FAULTS, "compare", id="comparison"),
        pytest.param(TRAINING_FAULTS, "8", id="training"),
        pytest.param(SCORING_FAULTS, "16", id="scoring"),
    ],
)
def test_an_error_of_any_class_on_either_process_is_raised_on_both(
    study_content: dict[str, Any], tmp_path: Path, ranks: Ranks, faults: list[Any], then: str
) -> None:
    """The processes go on with the next work, and the last one succeeds.

    What libraries raise about a candidate is the candidate's failure on either rank, an outage is
    an outage, and anything else ends the study.
    """
    works = [*faults, [then, "", 0, ""]]
    ended = ranks.run(study_content, tmp_path / "launch", works)
    assert ended.codes == [0, 0], ended.errors
    check_seen(
        works,
        ended,
        {
            "disk": "InfrastructureError: outage of storage, disk, network or device: OSError",
            "assemble key": "ModelError: model 'clip-t + llama-t': cannot be made ready (KeyError",
            "gradients key": f"{TRAINING}KeyError: 'made to fail'",
            "optimizer runtime": f"{TRAINING}RuntimeError: made to fail",
            "loss memory": f"{TRAINING}cpu:0 ran out of memory at 1 samples",
            "ahead": f"{TRAINING}the processes stand at different samples: [0, 8]",
            "answer key": "EvaluationError: evaluation on 'mordal_scenes': ",
            "answer disk": "InfrastructureError: outage of storage, disk, network or device: "
            "evaluation on 'mordal_scenes': documents",
        },
    )
    assert ended.seen[len(works)].keys() == {0}  # a result, on rank 0 alone


@pytest.mark.slow
def test_a_sharded_llm_is_trained_scored_and_compared_as_a_whole_one(
    study_content: dict[str, Any], tmp_path: Path, ranks: Ranks
) -> None:
    """A rung, its score, the next rung; and after errors while the other waits for weights."""
    works = [
        *on_each("compare", "layer", "memory"),
        ["compare", "", 0, ""],
        *on_each("8", "layer", "memory"),
        *on_each("8", "loss", "key"),
        ["8", "evaluate", 0, "attribute"],
        *on_each("8", "layer", "memory"),  # the checkpoint is there: in scoring
        ["8", "", 0, ""],
        ["16", "", 0, ""],
    ]
    ended = ranks.run(study_content, tmp_path / "launch", works, sharded=True)
    assert ended.codes == [0, 0], ended.errors
    no_memory = f"{TRAINING}cpu:0 ran out of memory"
    check_seen(works[:8], ended, {"memory": no_memory, "loss key": TRAINING})
    for number in (9, 10):
        for text in ended.seen[number].values():
            assert text.startswith("EvaluationError: evaluation on 'mordal_scenes': "), text
            assert "documents at once do not fit the memory of process" in text
    settings = parse_study(study_content | {"also_score": []})
    settings.workdir.mkdir(parents=True, exist_ok=True)
    alone = open_workbench(settings, Silent())
    compared = alone.compare()
    vision, llms = ended.seen[3][0]
    assert np.allclose(vision, compared.vision_similarity, atol=1e-6)
    assert llms.keys() == compared.llm_similarity.keys()
    for medoid, rows in compared.llm_similarity.items():
        assert np.allclose(llms[medoid], rows, atol=1e-4)
    for number, samples in ((11, 8), (12, 16)):
        measured = alone.measure(Candidate("clip-t", "llama-t"), samples)
        assert ended.seen[number][0] == pytest.approx([measured.score, measured.nll], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "how", "reasons"),
    [
        (1, "ctrl-c", ["process 1 of this launch has ended: it was interrupted", "Interrupt"]),
        (0, "ctrl-c", ["Interrupt", "process 0 of this launch has ended: it was interrupted"]),
        (1, "sigterm", ["another process of this launch has ended or cannot be reached", ""]),
    ],
)
def test_an_interrupted_process_ends_the_other_within_a_minute(
    study_content: dict[str, Any],
    tmp_path: Path,
    ranks: Ranks,
    rank: int,
    how: str,
    reasons: list[str],
) -> None:
    """Each with its reason; a process that is killed cannot tell one."""
    ended = ranks.run(study_content, tmp_path / "launch", [["8", "gradients", rank, how]])
    assert all(ended.codes)
    assert ended.codes[rank] == (-signal.SIGTERM if how == "sigterm" else ended.codes[rank])
    assert all(reason in text for reason, text in zip(reasons, ended.errors, strict=True))
    begun = (tmp_path / "launch" / "fault").stat().st_mtime
    assert ended.until - begun < 60
