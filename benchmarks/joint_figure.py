"""Draw the figure of docs/how-it-ranks.md: estimated curves of four pairs of a synthetic grid.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.joint_figure

Runs the method `joint` for four full runs on synthetic grid 0 and draws the posterior of all its
scores: for the pair trained farthest, for pairs with one score, and for one that was never
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.replay.synthetic import synthetic_grid
from mordal_optuna.search.joint.posterior import JointModel

if TYPE_CHECKING:
    from mordal_optuna.pool import Candidate
    from mordal_optuna.replay.grid import Grid
    from mordal_optuna.search.history import History

PATH = Path(__file__).parents[1] / "docs" / "figures" / "joint-model.svg"
_RUNS = 4.0
# Size of a panel and its margins, in pixels; range of the error.
_WIDTH, _HEIGHT, _LEFT, _TOP = 210, 190, 44, 40
_LOW, _HIGH = 0.1, 1.0
_DOUBLINGS = 5


def drawn(seed: int = 0) -> str:
    """The figure as SVG.

    Args:
        seed: seed of the synthetic grid.
    """
    grid = synthetic_grid(seed)
    settings = method_settings("joint")
    history = run_light(set_up(grid, "joint", settings, 0, _RUNS).plan, grid).history
    scores = [(c, m) for c, record in history.candidates.items() for m in record.measurements]
    similarities = pool_tree(grid, settings).similarities
    model = JointModel(scores, grid.candidates, grid.full_samples, similarities=similarities)
    panels = [
        _panel(n, title, candidate, model, grid, history)
        for n, (title, candidate) in enumerate(chosen(grid, history))
    ]
    width, height = 4 * (_WIDTH + _LEFT) + 16, _TOP + _HEIGHT + 62
    note = (
        "error at the share of the samples: dots are scores, the line and band the posterior "
        "with 95 %, rings the scores that the search never saw"
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *panels,
            f'<text x="{_LEFT}" y="{height - 10}">{note}</text>',
            "</svg>\n",
        )
    )


def chosen(grid: Grid, history: History) -> list[tuple[str, Candidate]]:
    """Titles and pairs of the four panels: most scores first, the last one never trained."""
    order = sorted(grid.candidates, key=lambda c: (-len(history.of(c).measurements), c))
    trained = [c for c in order if history.of(c).measurements]
    never = [c for c in order if not history.of(c).measurements]
    once = [c for c in trained if len(history.of(c).measurements) == 1]
    farthest = max(trained, key=lambda c: history.of(c).top)
    alike = next(
        (c for c in once if c != farthest and farthest.vision_encoder == c.vision_encoder), once[0]
    )
    other = next(c for c in once if c not in (farthest, alike))
    return [
        ("trained farthest", farthest),
        ("one score, the same encoder", alike),
        ("one score, another pair", other),
        ("never trained", never[0]),
    ]


def _panel(
    number: int,
    title: str,
    candidate: Candidate,
    model: JointModel,
    grid: Grid,
    history: History,
) -> str:
    left = _LEFT + number * (_WIDTH + _LEFT)
    rungs = [grid.full_samples >> k for k in range(_DOUBLINGS, -1, -1)]
    fine = [round(grid.full_samples * 2**x) for x in np.linspace(-_DOUBLINGS, 0, 41)]
    mean, covariance = model.at([candidate] * len(fine), fine)
    reach = 1.96 * np.sqrt(covariance.diagonal())

    def point(samples: int, error: float) -> str:
        x = left + _WIDTH * (1 + np.log2(samples / grid.full_samples) / _DOUBLINGS)
        clipped = min(max(error, _LOW), _HIGH)
        y = _TOP + _HEIGHT * np.log(_HIGH / clipped) / np.log(_HIGH / _LOW)
        return f"{x:.1f},{y:.1f}"

    def line(logs: np.ndarray) -> list[str]:
        return [point(n, float(e)) for n, e in zip(fine, np.exp(logs), strict=True)]

    seen = {m.samples: m.error for m in history.of(candidate).measurements}
    parts = [
        f'<text x="{left}" y="{_TOP - 22}" font-weight="bold">{title}</text>',
        f'<text x="{left}" y="{_TOP - 7}">{candidate}</text>',
        f'<polygon points="{" ".join(line(mean + reach) + line(mean - reach)[::-1])}" '
        'fill="#9ecae1" fill-opacity="0.5"/>',
        f'<polyline points="{" ".join(line(mean))}" fill="none" stroke="#08519c"/>',
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#888"/>',
    ]
    for samples in rungs:
        error = 1 - grid.measurement(candidate, samples).score
        x, y = point(samples, seen.get(samples, error)).split(",")
        fill = "#08519c" if samples in seen else "none"
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{fill}" stroke="#d94801"/>')
        share = "1" if samples == rungs[-1] else f"1/{grid.full_samples // samples}"
        below = _TOP + _HEIGHT + 16
        parts.append(f'<text x="{x}" y="{below}" text-anchor="middle">{share}</text>')
    for error in (0.1, 0.2, 0.5, 1.0):
        y = point(rungs[0], error).split(",")[1]
        parts.append(f'<text x="{left - 5}" y="{y}" text-anchor="end">{error:g}</text>')
    return "\n".join(parts)


def main() -> None:
    """Write the figure."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(drawn(), encoding="utf-8")


if __name__ == "__main__":
    main()
