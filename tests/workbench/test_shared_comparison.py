"""Several workers share out the comparison of one study's models."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mordal_optuna.alignment.machine import Machine
from mordal_optuna.config import parse_study
from mordal_optuna.driver import run_study
from mordal_optuna.joining import join_study
from mordal_optuna.progress import Silent
from mordal_optuna.study.turns import Turns
from mordal_optuna.workbench import comparison as preparation
from mordal_optuna.workbench.comparison import Comparison

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.study.result import Representation

IMAGES = ("red", "blue", "gray", "pink", "navy")
ALL = {"clip-t", "dinov2-t", "llama-t", "mistral-t"}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models whose features were computed, in order."""
    names: list[str] = []
    for function, which in (("vision_features", 0), ("warm_up", 1)):

        def counted(*arguments: Any, work: Any, which: int, **named: Any) -> Any:
            names.append(arguments[which].name)
            return work(*arguments, **named)

        work = getattr(preparation, function)
        monkeypatch.setattr(
            preparation,
            function,
            lambda *a, work=work, which=which, **n: counted(*a, work=work, which=which, **n),
        )
    return names


def compare(
    content: dict[str, Any],
    data: AlignmentSet,
    cpu: torch.device,
    folder: Path,
    address: str | None,
) -> Representation:
    """One worker's part of the comparison; alone without an address."""
    return Comparison(
        parse_study(content),
        data=data,
        images=[Image.new("RGB", (32, 32), name) for name in IMAGES],
        machine=Machine(cpu),
        folder=folder,
        progress=Silent(),
        turns=Turns(address, "tiny") if address else None,
    ).run()


@pytest.mark.slow
def test_two_workers_compute_each_model_once_and_find_what_one_finds(
    study_content: dict[str, Any],
    data: AlignmentSet,
    cpu: torch.device,
    tmp_path: Path,
    computed: list[str],
) -> None:
    """The costs of all models are in both results, each once."""
    alone = compare(study_content, data, cpu, tmp_path / "alone", None)
    assert Counter(computed) == dict.fromkeys(ALL, 1)
    computed.clear()
    address, found = f"sqlite:///{tmp_path / 'study.db'}", list[Any]()
    both = threading.Barrier(2)

    def work() -> None:
        both.wait()
        found.append(compare(study_content, data, cpu, tmp_path / "shared", address))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(computed) == dict.fromkeys(ALL, 1)
    first, second = found
    for worker in found:
        assert worker.vision_similarity == alone.vision_similarity
        assert worker.llm_similarity == alone.llm_similarity
        assert worker.tree == alone.tree
        assert worker.reused == 0.0
    for part in ("features", "warmup"):
        assert first.seconds[part] == pytest.approx(second.seconds[part])
        assert first.seconds[part] > 0


_DIES = """
import os, sys, yaml
from mordal_optuna.workbench import comparison
from mordal_optuna.config import parse_study
from mordal_optuna.joining import join_study
from mordal_optuna.progress import Silent

features, seen = comparison.vision_features, []

def dies(source, *arguments, **named):
    seen.append(source.name)
    if len(seen) == 2:
        print(*seen, flush=True)
        os._exit(9)
    return features(source, *arguments, **named)

comparison.vision_features = dies
join_study(parse_study(yaml.safe_load(sys.argv[1])), Silent())
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_models_of_a_worker_that_died_are_taken_over(
    study_content: dict[str, Any], tmp_path: Path, computed: list[str]
) -> None:
    """It dies in the second model; what it had stored before is not computed again."""
    study_content["search"] = {"method": "mordal", **study_content["search"]}
    whole = run_study(parse_study(study_content | {"workdir": str(tmp_path / "whole")}), Silent())
    computed.clear()
    settings = parse_study(study_content)
    dead = subprocess.run(
        [sys.executable, "-c", _DIES, repr(study_content)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert dead.returncode == 9, dead.stderr
    stored, left = dead.stdout.split()[-2:]
    result = join_study(settings, Silent())
    assert Counter(computed) == dict.fromkeys(ALL - {stored}, 1)
    assert left in computed
    assert result.representation
    assert whole.representation
    assert result.representation.llm_similarity == whole.representation.llm_similarity
    assert [(e.candidate, e.value) for e in result.ranking] == [
        (e.candidate, e.value) for e in whole.ranking
    ]
