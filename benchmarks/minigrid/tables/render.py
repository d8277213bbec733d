"""RESULTS.md: the analysis as Markdown."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.minigrid.tables.analysis import against_default, common, over_tasks
from benchmarks.minigrid.tables.ceilings import AT_HALF, CEILINGS, SECOND_RUN
from benchmarks.minigrid.tables.markdown import (
    NOT_APPLICABLE,
    cell,
    full,
    number,
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
    "tau", "tau, ties at random", "tau, top 10", "regret, points", "best rejected, %",
    "tau, same run", "full data: tau", "full data: regret",
    "full runs", *(f"full runs: {_TITLES.get(p, p)}" for p in PARTS),
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


def _row(interval: Callable[[str], Interval | None]) -> list[str]:
    parts = [interval(f"cost_{part}") for part in PARTS]
    return [
        *(cell(interval(f), f) for f in ("tau", "tau_random_ties", "tau_top10")),
        *(cell(interval(f), f) for f in ("regret", "rejected", "tau_same_run")),
        *(full(interval(f), f) for f in ("tau", "regret")),
        cell(interval("cost"), "cost"),
        *(full(part, "cost") for part in parts),
        *(cell(interval(f), f) for f in ("gain", "gain_projected")),
    ]


def _overview(analysis: Analysis, effort: Effort) -> str:
    rows = (
        (name, *_row(partial(over_tasks, analysis.methods, name)))
        for name in common(analysis.methods)
    )
    note = (
        f"Means over {len(analysis.methods)} tasks and {effort.methods} bootstraps of documents "
        f"and seeds ({effort.stock} for stock Optuna), with 95 % intervals over bootstraps. A "
        "search sees one run of each pair. Tau and `best rejected` are computed against the truth "
        "on the bootstrap's documents, which is the mean over each pair's runs at r = 1; regret "
        "against the truth on all documents. `tau, same run` is computed against the very run "
        "that the search saw, at r = 1, whose seed noise it shares. `full data` is one search on "
        "the grid's own run, which is one of the runs in the truth, and for pairs with a single "
        "run the truth itself. `bootstrap.py` explains what is compared with what. Costs are in "
        "full runs as measured, with intervals centred on those of the full data; `projected` "
        "weights every unit by its cost at 7B. Random and stock methods get the budget that "
        f"`mordal` spends; on the full data their figures are means over {effort.seeds} seeds."
    )
    blocks = prose(note), prose(_reach(analysis))
    return section("Every method", *blocks, table(("method", *_COLUMNS), rows))


def _reach(analysis: Analysis) -> str:
    """What any ranking can reach, as measured."""
    tau, same, regret = (
        {name: cell(over_tasks(analysis.methods, name, f), f) for name in CEILINGS}
        for f in ("tau", "tau_same_run", "regret")
    )
    return (
        f"What any ranking can reach (first rows): a second run of the whole grid has a tau of "
        f"{tau[SECOND_RUN]} with the truth and of {same[SECOND_RUN]} with the first run, and its "
        f"best pair loses {regret[SECOND_RUN]} points; all pairs trained on half of the samples "
        f"reach a tau of {tau[AT_HALF]} and lose {regret[AT_HALF]} points. A tau of .9 against "
        "one noisy run of a grid is beyond any method. What a user loses by the pick (regret), "
        "and whether the short list holds the best pair, are the figures that count."
    )


def _beside_paper(analysis: Analysis) -> str:
    rivals = [
        name
        for name in common(analysis.methods)
        if name.split("@")[0].lower() in {rival.lower() for rival in RIVALS}
    ]
    header = (
        "task", "gain, projected", "tau", "regret, points", "full data: regret",
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
                cell(ours.interval("regret"), "regret"),
                full(ours.interval("regret"), "regret"),
                *(_mean(methods[name].interval("tau")) for name in rivals),
                number(quoted.gain, 1),
                *(number(v, 3) for v in (quoted.tau, *quoted.rivals)),
            )
        )
    best_found = sum(m["mordal"].figures["regret"] == 0 for m in analysis.methods.values())
    note = (
        "`mordal` and the rivals beside the paper's figures, which are quoted and belong to other "
        "models, data and hardware. On the full data the best pair was found in "
        f"{best_found} of {len(rows)} tasks; in the paper in {FOUND[0]} of {FOUND[1]}."
    )
    return section("Beside the paper", prose(note), table(header, rows))


def _mean(interval: Interval | None) -> str:
    return number(interval.mean, 3) if interval else NOT_APPLICABLE


def _aims(analysis: Analysis) -> str:
    def mean(method: str, figure: str) -> Interval:
        interval = over_tasks(analysis.methods, method, figure)
        assert interval is not None
        return interval

    store = analysis.shared["mordal"]
    rows = [
        ("mean projected gain", "at least 12", cell(mean("mordal", "gain_projected"), "gain")),
        ("mean weighted tau", "at least .87", _with_ceiling(mean, "tau")),
        ("mean regret, points", "at most 0.5", _with_ceiling(mean, "regret")),
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


def _with_ceiling(mean: Callable[[str, str], Interval], figure: str) -> str:
    ours, ceiling = (cell(mean(name, figure), figure) for name in ("mordal", SECOND_RUN))
    return f"{ours}; {SECOND_RUN}: {ceiling}; full data: {full(mean('mordal', figure), figure)}"


def _by_task(analysis: Analysis) -> str:
    blocks = ["The same figures for each task."]
    for task, methods in analysis.methods.items():
        rows = (
            (name, "+".join(r.picked) if r.picked else NOT_APPLICABLE, *_row(r.interval))
            for name, r in methods.items()
        )
        shown = table(("method", "picked pair", *_COLUMNS), rows, text=2)
        blocks.append(f"<details><summary>{task}</summary>\n\n{shown}\n\n</details>")
    return section("Task by task", *blocks)


def _ablations(analysis: Analysis, effort: Effort) -> str:
    header = (
        "variant", "tau", "tau less the default's", "regret, points", "best rejected, %",
        "full data: tau", "full data: regret", "full runs", "gain", "gain, projected",
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
                *(cell(interval(f), f) for f in ("regret", "rejected")),
                *(full(interval(f), f) for f in ("tau", "regret")),
                *(cell(interval(f), f) for f in ("cost", "gain", "gain_projected")),
            )
        )
    note = (
        "`mordal` with one change each, below the two ceilings; means over tasks and "
        f"{effort.ablations} bootstraps, differences paired by bootstrap. `ablations.py` explains "
        "which p, windows and eta these rungs allow."
    )
    return section("Ablations", prose(note), table(header, rows))
