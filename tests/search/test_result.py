"""The result of a study: the same from every database, however large the pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage

from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.result import (
    REPRESENTATION,
    Representation,
    read_result,
    store_representation,
    stored_representation,
)
from mordal_optuna.store import study_storage
from tests.search.synthetic import plan, search, table, tree

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from mordal_optuna.search.result import StudyResult


def similarities(size: int) -> tuple[tuple[float, ...], ...]:
    """Of so many models, all digits used."""
    found = np.random.default_rng(size).uniform(0.5, 0.9, (size, size))
    found = (found + found.T) / 2
    np.fill_diagonal(found, 1.0)
    return tuple(tuple(row) for row in found.tolist())


def representation(size: int) -> Representation:
    """Of size x size models."""
    names = tuple(f"encoder-{number}" for number in range(size))
    llms = tuple(f"llm-{number}" for number in range(size))
    vision = similarities(size)
    return Representation(
        vision,
        dict.fromkeys(names[: max(1, size // 2)], vision),
        ClusterTree.flat(names, llms),
        {"features": 1.0, "similarity": 2.0, "warmup": 3.0},
    )


def found(storage: BaseStorage) -> StudyResult:
    """What a whole search gives, its pool compared before."""
    study = optuna.create_study(study_name="synthetic", storage=storage, direction="maximize")
    store_representation(study, replace(representation(25), tree=tree()))
    study = search(plan(), table(), storage)
    return read_result(study, plan(), method="mordal", task="t")


@pytest.mark.slow
def test_a_whole_study_gives_the_same_result_on_every_database(database: str) -> None:
    result = found(study_storage(database))
    assert result == found(InMemoryStorage())
    assert result.representation == replace(representation(25), tree=tree())


@pytest.mark.parametrize("size", [2, 25])
def test_similarities_are_found_again_whole(database: str, size: int) -> None:
    """Of 25 x 25 models they take more than MariaDB's 64 KB an attribute."""
    study = optuna.create_study(storage=study_storage(database))
    assert stored_representation(study) is None
    store_representation(study, representation(size))
    assert stored_representation(study) == representation(size)


def test_similarities_stored_by_older_versions_are_found() -> None:
    study = optuna.create_study()
    study.set_user_attr(REPRESENTATION, representation(25).to_json())
    assert stored_representation(study) == representation(25)
