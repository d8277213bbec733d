"""Find the best vision encoder and LLM pair for a vision-language task.

The names below are the package's public interface. Each is imported when it is first used, so that
`import mordal_optuna` loads no other library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mordal_optuna.driver import load_study, run_study
    from mordal_optuna.errors import MordalError
    from mordal_optuna.pool import Candidate
    from mordal_optuna.search.clusters import ClusterTree, cluster_pool
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.methods.mordal import MordalPlan
    from mordal_optuna.search.pruner import LogLinearHalvingPruner
    from mordal_optuna.search.sampler import CkaClusterSampler
    from mordal_optuna.study.objective import Objective

    __version__: str

__all__ = [
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
]

_MODULES = {
    "Candidate": "pool",
    "CkaClusterSampler": "search.sampler",
    "ClusterTree": "search.clusters",
    "LogLinearHalvingPruner": "search.pruner",
    "Measurement": "search.curves",
    "MordalError": "errors",
    "MordalPlan": "search.methods.mordal",
    "Objective": "study.objective",
    "cluster_pool": "search.clusters",
    "load_study": "driver",
    "run_study": "driver",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("mordal-optuna")
    elif name in _MODULES:
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, for completion in a notebook."""
    return sorted({*globals(), *__all__})
