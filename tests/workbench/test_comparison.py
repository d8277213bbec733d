"""The comparison of a pool: projectors that one task has warmed up serve other tasks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mordal_optuna.alignment.machine import Machine
from mordal_optuna.config import RepresentationSettings, parse_study
from mordal_optuna.errors import ConfigError
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.study.growing import Compared
from mordal_optuna.study.result import Representation
from mordal_optuna.study.turns import Turns
from mordal_optuna.workbench import comparison as preparation
from mordal_optuna.workbench.comparison import Comparison, least_similarity

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mordal_optuna.alignment.data import AlignmentSet


def test_the_least_likeness_is_one_of_cka() -> None:
    for measure, least in (("cka-debiased", 0.7), ("cka-biased", 0.7), ("mutual-knn", -1.0)):
        assert least_similarity(RepresentationSettings(similarity=measure)) == least  # type: ignore[arg-type]


def test_fewer_than_4_images_are_refused(
    study_content: dict[str, Any], data: AlignmentSet, cpu: torch.device, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="got 3 images of the target task; at least 4"):
        Comparison(
            parse_study(study_content),
            data=data,
            images=[Image.new("RGB", (32, 32))] * 3,
            machine=Machine(cpu),
            folder=tmp_path,
            progress=Silent(),
        )


@pytest.mark.slow
def test_projectors_are_warmed_up_once_for_all_tasks(
    study_content: dict[str, Any],
    data: AlignmentSet,
    cpu: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second task gets the same similarities and costs as without stored projectors."""
    study_content["search"]["vision_threshold"] = 1.0  # both encoders are medoids
    settings = parse_study(study_content)
    warm_up, warmed = preparation.warm_up, []

    def counted(*parts: Any, **options: Any) -> Any:
        warmed.append(parts)
        return warm_up(*parts, **options)

    monkeypatch.setattr(preparation, "warm_up", counted)

    def compared(colours: str, folder: str) -> Representation:
        return Comparison(
            settings,
            data=data,
            images=[Image.new("RGB", (32, 32), colour) for colour in colours.split()],
            machine=Machine(cpu),
            folder=tmp_path / folder,
            progress=Silent(),
        ).run()

    first = compared("red green blue white", "shared")
    assert len(warmed) == 4
    second = compared("black yellow navy pink gray", "shared")
    assert len(warmed) == 4
    alone = compared("black yellow navy pink gray", "own")
    assert len(warmed) == 8
    assert second.llm_similarity == alone.llm_similarity
    assert second.llm_similarity != first.llm_similarity
    assert second.seconds["warmup"] == pytest.approx(first.seconds["warmup"])


@pytest.mark.slow
def test_workers_share_a_comparison_out(
    study_content: dict[str, Any],
    data: AlignmentSet,
    cpu: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two begin at once: each model is compared once, and both have the same similarities.

    A third worker has died with the claim of a model, which the others take over.
    """
    study_content["search"]["vision_threshold"] = 1.0  # both encoders are medoids
    settings = parse_study(study_content)
    pool, address = settings.models(), f"sqlite:///{tmp_path / 'study.db'}"
    done, together = Counter[tuple[str, ...]](), threading.Barrier(2)
    warm_up, encode = preparation.warm_up, preparation.vision_features

    def warmed(*parts: Any, **options: Any) -> Any:
        done[parts[0].name, parts[1].name] += 1
        return warm_up(*parts, **options)

    def encoded(*parts: Any, **options: Any) -> Any:
        done[(parts[0].name,)] += 1
        return encode(*parts, **options)

    def compared(folder: str, turns: Turns | None) -> Representation:
        return Comparison(
            settings,
            data=data,
            images=[Image.new("RGB", (32, 32), name) for name in ("red", "blue", "gray", "pink")],
            machine=Machine(cpu),
            folder=tmp_path / folder,
            progress=Silent(),
            turns=turns,
        ).run()

    code = (
        "import os; from mordal_optuna.study.turns import Turns; Turns("
        f"{address!r}, 'tiny').try_for('compare {pool.encoder_names[0]}').__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    found: list[Representation] = []

    def work() -> None:
        turns = Turns(address, "tiny")
        together.wait(60)
        found.append(compared("shared", turns))

    monkeypatch.setattr(preparation, "warm_up", warmed)
    monkeypatch.setattr(preparation, "vision_features", encoded)
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    models = [(name,) for name in pool.encoder_names]
    pairs = [(c.vision_encoder, c.llm) for c in pool.candidates]
    assert done == Counter([*models, *pairs])
    alone = compared("own", None)
    assert len(found) == 2
    for one in found:
        assert one.vision_similarity == alone.vision_similarity
        # Threads draw from one random generator, so that projectors differ from a single worker's;
        # tests/test_joining.py compares those of processes.
        assert one.llm_similarity == found[0].llm_similarity
        assert one.tree == found[0].tree
        for part in ("features", "warmup"):  # the similarity alone is each worker's own
            assert one.seconds[part] == pytest.approx(found[0].seconds[part])


@pytest.mark.slow
def test_what_an_earlier_study_has_paid_for_counts_as_reused(
    study_content: dict[str, Any], data: AlignmentSet, cpu: torch.device, tmp_path: Path
) -> None:
    """As long as it is stored: what is computed again is spent again."""
    settings = parse_study(study_content)

    def compared(folder: str, before: Compared | None = None) -> Representation:
        # What the same study computed, before it was restarted, is its own cost.
        grown = settings.model_copy(update={"study": "grown"}) if before else settings
        return Comparison(
            grown,
            data=data,
            images=[Image.new("RGB", (32, 32), name) for name in ("red", "blue", "gray", "pink")],
            machine=Machine(cpu),
            folder=tmp_path / folder,
            progress=Silent(),
            before=before,
        ).run()

    first = compared("shared")
    pool = settings.models()
    before = Compared(frozenset(pool.encoder_names), frozenset(pool.candidates))
    paid = first.seconds["features"] + first.seconds["warmup"]
    again = compared("shared", before)
    assert (again.seconds["features"], again.seconds["warmup"]) == (0.0, 0.0)
    assert again.reused == pytest.approx(paid)
    assert Representation.from_json(again.to_json()) == again
    medoid = next(iter(first.llm_similarity))
    part = compared("shared", Compared(fed=frozenset([Candidate(medoid, pool.llm_names[0])])))
    assert 0 < part.reused < paid
    assert part.seconds["features"] + part.seconds["warmup"] + part.reused == pytest.approx(paid)
    assert compared("shared").reused == 0.0
    moved = compared("own", before)
    assert moved.reused == 0.0
    assert moved.seconds["features"] > 0.0


def test_an_llm_that_was_left_out_is_like_no_other() -> None:
    """The others keep their similarities, in the pool's order."""
    known = np.array([[1.0, 0.8], [0.8, 1.0]])
    everything = preparation._among_all(known, ("a", "faulty", "b"), ("faulty",))
    assert everything.tolist() == [[1.0, -1.0, 0.8], [-1.0, 1.0, -1.0], [0.8, -1.0, 1.0]]
    assert np.array_equal(preparation._among_all(known, ("a", "b"), ()), known)
