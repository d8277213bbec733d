"""Changed grids that several tests replay."""

from __future__ import annotations

from mordal_optuna.replay.grid import Grid


def without_costs(grid: Grid) -> Grid:
    """The same scores; all seconds are 0."""
    plain = grid.model_dump()
    for curve in plain["curves"]:
        zeros = [0.0] * len(curve["samples"])
        curve.update(train_seconds=zeros, eval_seconds=zeros)
    plain.update(warmup_seconds=dict.fromkeys(plain["warmup_seconds"], 0.0), feature_seconds=0.0)
    return Grid.model_validate(plain)
