"""A finished search and a finished grid that the tests of reporting show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reporting.results import grid_result, result_of_several, search_result

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


@pytest.fixture(scope="session")
def result() -> StudyResult:
    """See `search_result`."""
    return search_result()


@pytest.fixture(scope="session")
def grid() -> StudyResult:
    """See `grid_result`."""
    return grid_result()


@pytest.fixture(scope="session")
def several() -> StudyResult:
    """See `result_of_several`."""
    return result_of_several()
