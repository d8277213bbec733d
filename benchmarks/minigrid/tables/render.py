"""RESULTS.md: the analysis as Markdown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.analysis import against_default, common, over_tasks
from benchmarks.minigrid.tables.markdown import (
    NOT_APPLICABLE,
    cell,
    number,
    percent,
    prose,
    section,
    table,
)
from benchmarks.minigrid.tables.methods import PARTS
from benchmarks.minigrid.tables.paper import FOUND, PAPER, RIVALS
from benchmarks.minigrid.tables.render_answers import (
    intervals_section,
    post_mortems_section,
    store_section,
    ties_section,
)
from benchmarks.minigrid.tables.render_grid import curves_section, truth_section

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.minigrid.tables.analysis import Analysis, Effort
    from benchmarks.minigrid.tables.bootstrap import Interval

_HEAD = """<!-- Written by `python -m benchmarks.minigrid.tables`; do not edit. -->

# Results on the minigrid"""
_TITLES = {"warmup": "warm-up"}
_COLUMNS = (
    "tau", "tau, ties at random", "tau, top 10", "regret, points", "regret over bootstraps",
    "best rejected, %", "full runs", *(f"full runs: {_TITLES.get(p, p)}" for p in PARTS),
    "gain", "gain, projected",
)  # fmt: skip


def render(analysis: Analysis, effort: Effort) -> str:
    """The whole file."""
    parts = (
        _HEAD,
        truth_section(analysis),
        _overview(analysis, effort),
        _beside_paper(analysis),
        _aims(analysis),
        _by_task(analysis),
        _ablations(analysis, effort),
        curves_section(analysis),
        ties_section(analysis),
        intervals_section(analysis),
        store_section(analysis),
        post_mortems_section(analysis),
    )
    return "\n\n".join(parts) + "\n"


def _regret(interval: Interval | None) -> tuple[str, str]:
    """Regret on the full data, and over bootstraps."""
    full = percent(interval.value, 2) if interval else NOT_APPLICABLE
    return full, cell(interval, "regret")


def _row(interval: Callable[[str], Interval | None]) -> list[str]:
    parts = [interval(f"cost_{part}") for part in PARTS]
    return [
        *(cell(interval(f), f) for f in ("tau", "tau_random_ties", "tau_top10")),
        *_regret(interval("regret")),
        cell(interval("rejected"), "rejected"),
        cell(interval("cost"), "cost"),
        *(number(part.value, 2) if part else NOT_APPLICABLE for part in parts),
        *(cell(interval(f), f) for f in ("gain", "gain_projected")),
    ]


def _overview(analysis: Analysis, effort: Effort) -> str:
    rows = (
        (name, *_row(partial(over_tasks, analysis.methods, name)))
        for name in common(analysis.methods)
    )
    note = (
        f"Means over {len(analysis.methods)} tasks with 95 % intervals over {effort.methods} "
        f"bootstraps of documents and seeds ({effort.stock} for stock Optuna). Tau and `best "
        "rejected` are computed against the bootstrap's scores at r = 1, regret against the "
        "scores of the full data. Intervals are centred on the value; that of regret belongs to "
        "its mean over bootstraps (`bootstrap.py` explains why). Costs are in full runs as "
        "measured; `projected` weights every unit by its cost at 7B. Random and stock methods "
        f"get the budget that `mordal` spends; their figures are means over {effort.seeds} seeds."
    )
    return section("Every method", prose(note), table(("method", *_COLUMNS), rows))


def _beside_paper(analysis: Analysis) -> str:
    rivals = [
        name
        for name in common(analysis.methods)
        if name.split("@")[0].lower() in {rival.lower() for rival in RIVALS}
    ]
    header = (
        "task", "gain, projected", "tau", "regret, points", "regret over bootstraps",
        *(f"tau of {name}" for name in rivals),
        "paper: gain", "paper: tau", *(f"paper: tau of {name}" for name in RIVALS),
    )  # fmt: skip
    rows = []
    for task, methods in analysis.methods.items():
        ours, quoted = methods["mordal"], PAPER[task]
        rows.append(
            (
                task,
                *(cell(ours.interval(f), f) for f in ("gain_projected", "tau")),
                *_regret(ours.interval("regret")),
                *(number(methods[name].figures["tau"] or 0.0, 3) for name in rivals),
                number(quoted.gain, 1),
                *(number(v, 3) for v in (quoted.tau, *quoted.rivals)),
            )
        )
    best_found = sum(m["mordal"].figures["regret"] == 0 for m in analysis.methods.values())
    note = (
        "`mordal` and the rivals beside the paper's figures, which are quoted and belong to other "
        f"models, data and hardware. The best pair was found in {best_found} of {len(rows)} "
        f"tasks; in the paper in {FOUND[0]} of {FOUND[1]}."
    )
    return section("Beside the paper", prose(note), table(header, rows))


def _aims(analysis: Analysis) -> str:
    def mean(method: str, figure: str) -> Interval:
        interval = over_tasks(analysis.methods, method, figure)
        assert interval is not None
        return interval

    store, regret = analysis.shared["mordal"], mean("mordal", "regret")
    rows = [
        ("mean projected gain", "at least 12", cell(mean("mordal", "gain_projected"), "gain")),
        ("mean weighted tau", "at least .87", cell(mean("mordal", "tau"), "tau")),
        (
            "mean regret, points",
            "at most 0.5",
            f"{percent(regret.value, 2)}; over bootstraps {cell(regret, 'regret')}",
        ),
        ("best rejected, %", "at most 5", cell(mean("mordal", "rejected"), "rejected")),
        (
            "seven tasks from one store, times cheaper than one grid",
            "at least 5",
            f"{cell(store.measured['gain_over_grid'], 'gain')}; projected "
            f"{cell(store.projected['gain_over_grid'], 'gain')}",
        ),
    ]
    for other in ("all-at-ratio", "cross"):
        ours, theirs = (
            f"{cell(mean(method, 'tau'), 'tau')} at {cell(mean(method, 'gain_projected'), 'gain')}"
            for method in ("mordal", other)
        )
        aim = f"`mordal` against `{other}`: tau at projected gain"
        rows.append((aim, "cheaper at equal tau", f"{ours}; {theirs}"))
    return section("Aims", table(("aim", "target", "result"), rows, text=3))


def _by_task(analysis: Analysis) -> str:
    blocks = ["The same figures for each task."]
    for task, methods in analysis.methods.items():
        rows = ((name, "+".join(r.picked), *_row(r.interval)) for name, r in methods.items())
        shown = table(("method", "picked pair", *_COLUMNS), rows, text=2)
        blocks.append(f"<details><summary>{task}</summary>\n\n{shown}\n\n</details>")
    return section("Task by task", *blocks)


def _ablations(analysis: Analysis, effort: Effort) -> str:
    header = (
        "variant", "tau", "tau less the default's", "regret, points", "regret over bootstraps",
        "best rejected, %", "full runs", "gain", "gain, projected",
    )  # fmt: skip
    rows = []
    for name in common(analysis.ablations):
        interval = partial(over_tasks, analysis.ablations, name)
        difference = against_default(analysis.ablations, name, "tau")
        rows.append(
            (
                name,
                cell(interval("tau"), "tau"),
                cell(difference, "tau"),
                *_regret(interval("regret")),
                *(cell(interval(f), f) for f in ("rejected", "cost", "gain")),
                cell(interval("gain_projected"), "gain_projected"),
            )
        )
    note = (
        f"`mordal` with one change each; means over tasks, intervals over {effort.ablations} "
        "bootstraps, differences paired by bootstrap. `ablations.py` explains which p, windows "
        "and eta these rungs allow."
    )
    return section("Ablations", prose(note), table(header, rows))
