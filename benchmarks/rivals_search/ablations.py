"""What each part of `joint` is worth: rows with one thing changed from the package's defaults."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rivals_search.joint_methods import (
    changed,
    variance,
    without_drift,
    without_growth,
    without_interaction,
)
from benchmarks.rivals_search.methods import METHODS, Method
from mordal_optuna.search.joint.effects import PRIOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.joint.effects import Hyperprior


def without_likelihoods(grid: Grid) -> Grid:
    """A grid whose curves have no likelihood of the reference answers."""
    gone = dict.fromkeys(("nll", "nll_stderr", "p_correct", "p_correct_stderr"))
    curves = tuple(curve.model_copy(update=gone) for curve in grid.curves)
    fields = {name: getattr(grid, name) for name in type(grid).model_fields}
    return type(grid).model_validate({**fields, "curves": curves})


def _prior(name: str, summary: str, change: Callable[[Hyperprior], Hyperprior]) -> Method:
    return Method(name, summary, partial(changed, prior=change(PRIOR)))


def _options(name: str, summary: str, **options: float) -> Method:
    return Method(name, summary, partial(changed, options=options))


_ROWS = (
    Method("as-it-is", "`joint` with the package's defaults", changed),
    _prior("no-interaction", "encoder plus LLM, no term of the pair", without_interaction),
    _prior("no-drift", "effects are the same at all rungs but for their growth", without_drift),
    _prior("no-growth", "the spread of effects is the same at all rungs", without_growth),
    Method(
        "no-cka",
        "models are not compared, which saves its cost; effects are independent",
        partial(changed, compared="nothing"),
    ),
    Method(
        "cka-of-encoders",
        "encoders alone are compared, which saves the warm-ups",
        partial(changed, compared="encoders"),
    ),
    Method("variance", "jobs by the fall of the weighted variance per cost", variance),
    Method(
        "score-alone",
        "without the mean likelihood of the reference answers (synthetic grids have none)",
        changed,
        sees=without_likelihoods,
    ),
    _options("start-1", "a start of one pair a model", start_pairs=1),
    _options("start-3", "a start of three pairs a model", start_pairs=3),
    _options("start-at-1/16", "a start at 1/16 of the samples", start_ratio=1 / 16),
    _options("start-3-at-1/16", "three pairs a model at 1/16", start_pairs=3, start_ratio=1 / 16),
    _options("start-at-1/4", "a start at 1/4 of the samples", start_ratio=1 / 4),
    _options("start-1-at-1/4", "one pair a model at 1/4", start_pairs=1, start_ratio=1 / 4),
    _options("rounds-of-1", "rounds of one job", round_size=1),
    _options("rounds-of-8", "rounds of 8 jobs", round_size=8),
    _options("rounds-of-16", "rounds of 16 jobs", round_size=16),
    _options("no-lag", "a round waits for all earlier scores", round_lag=0),
    _options("rounds-of-1-no-lag", "one job at a time", round_size=1, round_lag=0),
)
# The row that the others are compared with.
UNCHANGED = _ROWS[0].name
ABLATIONS: dict[str, Method] = {method.name: method for method in _ROWS}
ALL: dict[str, Method] = {**METHODS, **ABLATIONS}
