"""The public names: each is there, and importing the package loads no other library."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import mordal_optuna


def test_every_public_name_can_be_imported() -> None:
    """Those of the documentation, no more and no fewer."""
    assert set(mordal_optuna.__all__) == {
        "Candidate",
        "CkaClusterSampler",
        "ClusterTree",
        "LogLinearHalvingPruner",
        "Measurement",
        "MordalError",
        "MordalPlan",
        "Objective",
        "__version__",
        "cluster_pool",
        "load_study",
        "run_study",
    }
    for name in mordal_optuna.__all__:
        assert getattr(mordal_optuna, name)
        assert name in dir(mordal_optuna)
    assert mordal_optuna.__version__ == version("mordal-optuna")


def test_an_unknown_name_is_refused() -> None:
    """As any module refuses it."""
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        _ = mordal_optuna.Sampler
    with pytest.raises(ImportError, match="Sampler"):
        from mordal_optuna import Sampler  # noqa: F401


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import mordal_optuna", ""),
        (f"from mordal_optuna import {', '.join(sorted(mordal_optuna.__all__))}", "optuna"),
    ],
)
def test_heavy_libraries_are_not_loaded(code: str, loaded: str) -> None:
    """The package alone loads none; its public names load Optuna, and neither torch nor others."""
    heavy = ("torch", "transformers", "peft", "accelerate", "lmms_eval", "datasets", "optuna")
    report = f"{code}; import sys; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == loaded
