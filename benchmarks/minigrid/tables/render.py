"""The analysis as Markdown: tables first, words as few as they need."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.analysis import BILLED, against_default, common, over_tasks
from benchmarks.minigrid.tables.coverage import COMPARED, KINDS
from benchmarks.minigrid.tables.curves import MAX_RATIOS
from benchmarks.minigrid.tables.methods import PARTS
from benchmarks.minigrid.tables.paper import FOUND, PAPER, RIVALS
from benchmarks.minigrid.tables.ties import Ties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.minigrid.tables.analysis import Analysis, Effort
    from benchmarks.minigrid.tables.bootstrap import Interval

# Digits and factor of every figure as it is printed.
_PRINTED = {
    "tau": (3, 1.0),
    "tau_random_ties": (3, 1.0),
    "tau_top10": (3, 1.0),
    "regret": (2, 100.0),
    "rejected": (0, 100.0),
    "gain": (1, 1.0),
    "gain_projected": (1, 1.0),
    "cost": (2, 1.0),
}
_NOT = "–"
_TITLES = {"warmup": "warm-up"}


def render(analysis: Analysis, effort: Effort) -> str:
    """The whole section."""
    parts = (
        _truth(analysis),
        _overview(analysis, effort),
        _beside_paper(analysis),
        _aims(analysis),
        _by_task(analysis),
        _ablations(analysis, effort),
        _curves(analysis),
        _ties(analysis),
        _intervals(analysis),
        _store(analysis),
        _deaths(analysis),
    )
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> str:
    """A Markdown table; all columns but the first few are numbers, set to the right."""
    rule = ["---"] * text + ["--:"] * (len(header) - text)
    lines = [list(header), rule, *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, digits: int) -> str:
    """A number without a minus before zero."""
    shown = f"{value:.{digits}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def cell(interval: Interval | None, figure: str) -> str:
    """A figure with its interval; a dash where it does not apply.

    Of a regret the interval belongs to its mean over bootstraps, which is printed with it.
    """
    if interval is None:
        return _NOT
    digits, factor = _PRINTED.get(figure, (2, 1.0))
    value, low, high = (
        number(factor * v, digits)
        for v in (_middle(interval, figure), interval.low, interval.high)
    )
    return value if low == high == value else f"{value} ({low} to {high})"


def _middle(interval: Interval, figure: str) -> float:
    return interval.mean if figure == "regret" else interval.value


def _percent(value: float, digits: int = 1) -> str:
    return number(100 * value, digits)


def _truth(analysis: Analysis) -> str:
    header = (
        "task", "best pair", "best", "median", "worst", "noise: documents", "seeds",
        "lead of the best", "pairs within noise", "tau of two seeds",
    )  # fmt: skip
    looks = table(
        header,
        (
            (
                task,
                t.best,
                *(_percent(v) for v in (t.best_score, t.median_score, t.worst_score)),
                *(_percent(v) for v in (t.document_noise, t.seed_noise, t.difference_noise)),
                str(t.within_noise),
                number(t.seed_tau, 2),
            )
            for task, t in analysis.truths.items()
        ),
        text=2,
    )
    bullet = analysis.bullet
    regrets = ", ".join(f"{task} {_percent(v)}" for task, v in bullet.regrets.items())
    found = f"{', '.join(bullet.bullets)} is" if bullet.bullets else "No pair is"
    return "\n\n".join(
        (
            "### What the truth looks like",
            "Scores at r = 1 in points, %; noise as standard deviations: of a score over other "
            "documents and over seeds, and of the best pair's lead over another pair.",
            looks,
            _variance(analysis),
            _shapes(analysis),
            f"Silver bullet: {found} within noise of the best on all tasks; the most for one pair "
            f"is {bullet.most_tasks} of {len(bullet.regrets)}. The best on average, "
            f"{bullet.average}, loses, in points: {regrets}.",
        )
    )


def _variance(analysis: Analysis) -> str:
    header = ("task", "encoder", "LLM", "interaction", *("without noise: " + n for n in "EL"), "I")
    rows = (
        (task, *(_percent(v) for v in (*t.raw, *t.corrected)))
        for task, t in analysis.truths.items()
    )
    note = "Two-way analysis of variance of ln error at r = 1, shares in %."
    return f"{note}\n\n{table(header, rows)}"


def _shapes(analysis: Analysis) -> str:
    first = next(iter(analysis.truths.values()))
    ratios = [f"1/{2**n}" for n in range(len(first.tau) - 1, 0, -1)] + ["1"]
    header = (
        "task", "all rungs", "up to 1/8", "paper's rule",
        *(f"from {r}" for r in ratios[:-2]), *(f"tau, Spearman at {r}" for r in ratios[:-1]),
    )  # fmt: skip
    rows = (
        (
            task,
            *(_percent(v, 0) for v in (t.accepted, t.accepted_to_ratio, t.accepted_paper)),
            *(_percent(v, 0) for v in t.regime[:-2]),
            *(f"{number(a, 2)}, {number(b, 2)}" for a, b in zip(t.tau, t.spearman, strict=True)),
        )[: len(header)]
        for task, t in analysis.truths.items()
    )
    note = (
        "Curves: share of pairs, %, that are log-linear over all rungs and up to 1/8 (chi-square "
        "against the known noise, 5 %), and by the paper's rule (loss of the last three rungs up "
        "to 1/8 below 5e-5); share whose stable window begins at a rung; rank correlation of a "
        "rung's scores with those at r = 1."
    )
    return f"{note}\n\n{table(header, rows)}"


_COLUMNS = (
    "tau", "ties at random", "top 10", "regret, points", "regret over bootstraps",
    "best rejected, %", "full runs", *(f"of it {_TITLES.get(part, part)}" for part in PARTS),
    "gain", "projected",
)  # fmt: skip


def _regret(interval: Interval | None) -> tuple[str, str]:
    """What was lost on the full data, and over bootstraps."""
    return (_percent(interval.value, 2) if interval else _NOT, cell(interval, "regret"))


def _row(interval: Callable[[str], Interval | None]) -> list[str]:
    shares = [interval(f"cost_{part}") for part in PARTS]
    return [
        *(cell(interval(f), f) for f in ("tau", "tau_random_ties", "tau_top10")),
        *_regret(interval("regret")),
        cell(interval("rejected"), "rejected"),
        cell(interval("cost"), "cost"),
        *(number(s.value, 2) if s else _NOT for s in shares),
        *(cell(interval(f), f) for f in ("gain", "gain_projected")),
    ]


def _overview(analysis: Analysis, effort: Effort) -> str:
    rows = (
        (name, *_row(partial(over_tasks, analysis.methods, name)))
        for name in common(analysis.methods)
    )
    note = (
        f"Means over {len(analysis.methods)} tasks, 95 % intervals over {effort.methods} "
        f"bootstraps of documents and seeds ({effort.stock} for stock Optuna). Tau and best "
        "rejected are judged against each bootstrap's own scores at r = 1, regret against those "
        "of the full data; intervals are centred on the value, but regret's, which belongs to its "
        "mean over bootstraps (why: `bootstrap.py`). Costs in full runs as measured; `projected` "
        "weighs every unit as at 7B. Random and stock methods spend what `mordal` spends; their "
        f"figures are means over {effort.seeds} seeds."
    )
    return f"### Every method\n\n{note}\n\n{table(('method', *_COLUMNS), rows)}"


def _beside_paper(analysis: Analysis) -> str:
    rivals = [
        name
        for name in common(analysis.methods)
        if name.split("@")[0].lower() in {r.lower() for r in RIVALS}
    ]
    header = (
        "task", "gain, projected", "tau", "regret, points", "over bootstraps",
        *(f"tau of {name}" for name in rivals),
        "paper: gain", "tau", *(f"tau of {name}" for name in RIVALS),
    )  # fmt: skip
    rows = []
    for task, own in analysis.methods.items():
        ours = own["mordal"]
        quoted = PAPER[task]
        rows.append(
            (
                task,
                *(cell(ours.interval(f), f) for f in ("gain_projected", "tau")),
                *_regret(ours.interval("regret")),
                *(number(own[name].figures["tau"] or 0.0, 3) for name in rivals),
                number(quoted.gain, 1),
                *(number(v, 3) for v in (quoted.tau, *quoted.rivals)),
            )
        )
    found = sum(own["mordal"].figures["regret"] == 0 for own in analysis.methods.values())
    note = (
        "`mordal` and the rivals beside the paper's figures (quoted; other models, data and "
        f"hardware). True best found: {found} of {len(rows)} tasks; "
        f"paper {FOUND[0]} of {FOUND[1]}."
    )
    return f"### Beside the paper\n\n{note}\n\n{table(header, rows)}"


def _aims(analysis: Analysis) -> str:
    def of(method: str, figure: str) -> Interval:
        found = over_tasks(analysis.methods, method, figure)
        assert found is not None
        return found

    store, regret = analysis.shared["mordal"], of("mordal", "regret")
    rows = [
        ("mean projected gain", "at least 12", cell(of("mordal", "gain_projected"), "gain")),
        ("mean weighted tau", "at least .87", cell(of("mordal", "tau"), "tau")),
        (
            "mean regret, points",
            "at most 0.5",
            f"{_percent(regret.value, 2)}; over bootstraps {cell(regret, 'regret')}",
        ),
        ("best rejected, %", "at most 5", cell(of("mordal", "rejected"), "rejected")),
        (
            "seven tasks from one store, times cheaper than one grid",
            "at least 5",
            f"{cell(store.measured['gain_over_grid'], 'gain')}; projected "
            f"{cell(store.projected['gain_over_grid'], 'gain')}",
        ),
    ]
    for other in ("all-at-ratio", "cross"):
        tau, cost = (
            f"{cell(of(method, 'tau'), 'tau')} at {cell(of(method, 'gain_projected'), 'gain')}"
            for method in ("mordal", other)
        )
        aim = f"`mordal` against `{other}`: tau at projected gain"
        rows.append((aim, "cheaper at equal tau", f"{tau}; {cost}"))
    return "### Aims\n\n" + table(("aim", "wanted", "reached"), rows, text=3)


def _by_task(analysis: Analysis) -> str:
    blocks = ["### Task by task", "As above, for one task each."]
    for task, own in analysis.methods.items():
        rows = ((name, "+".join(r.picked), *_row(r.interval)) for name, r in own.items())
        shown = table(("method", "picked", *_COLUMNS), rows, text=2)
        blocks.append(f"<details><summary>{task}</summary>\n\n{shown}\n\n</details>")
    return "\n\n".join(blocks)


def _ablations(analysis: Analysis, effort: Effort) -> str:
    header = (
        "variant", "tau", "less the default's", "regret, points", "over bootstraps",
        "best rejected, %",
        "full runs", "gain", "projected",
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
        f"`mordal` with one thing changed; means over tasks, intervals over {effort.ablations} "
        "bootstraps, differences paired on each. What p, windows and eta can be on these rungs: "
        "`ablations.py`."
    )
    return f"### Ablations\n\n{note}\n\n{table(header, rows)}"


def _curves(analysis: Analysis) -> str:
    header = ["rule"]
    for ratio in MAX_RATIOS:
        header += [f"R 1/{round(1 / ratio)}: tau", "error", "bias"]
    rules = next(iter(analysis.rules.values()))
    rows = []
    for rule in rules:
        row = [rule]
        for ratio in MAX_RATIOS:
            own = [by_rule[rule][str(ratio)] for by_rule in analysis.rules.values()]
            row.append(number(float(np.mean([f.tau for f in own])), 3))
            row.append(_percent(float(np.mean([f.error for f in own]))))
            row.append(_percent(float(np.mean([f.bias for f in own]))))
        rows.append(row)
    note = (
        "What curves through the scores up to R predict of r = 1, all pairs, no search; absolute "
        "error and bias in points; means over tasks."
    )
    shown = f"### Curves\n\n{note}\n\n{table(header, rows)}"
    return f"{shown}\n\n{_schedules(analysis)}" if any(analysis.schedules.values()) else shown


def _schedules(analysis: Analysis) -> str:
    rows = []
    for name in next(iter(analysis.schedules.values())):
        own = [by_name[name] for by_name in analysis.schedules.values()]
        mean = {k: float(np.mean([getattr(f, k) for f in own])) for k in vars(own[0])}
        rows.append(
            (
                name,
                number(mean["tau"], 3),
                *(_percent(mean[k]) for k in ("error", "bias", "final")),
            )
        )
    note = "The product's curves under other schedules, R = 1/8, on the pairs that were run."
    header = ("schedule", "tau", "error", "bias", "mean score at r = 1")
    return f"{note}\n\n{table(header, rows)}"


def _ties(analysis: Analysis) -> str:
    header = (
        "task", "best pair in the first two groups, %", "first group", "second", "third", "worse",
        "said to be best, %", "is best, %", "paired error", "unpaired", "winner's signed error",
        "against the full data", "measured less full data", "challengers, %",
    )  # fmt: skip
    rows = [(task, *_tie_row(t)) for task, t in analysis.ties.items()]
    mean = {
        f.name: float(np.mean([getattr(t, f.name) for t in analysis.ties.values()]))
        for f in fields(Ties)
    }
    rows.append(("mean", *_tie_row(Ties(**mean))))
    note = (
        "The three groups that people are shown, over the bootstraps: how often the first two "
        "(measured and within noise of the winner; estimated, and may be the best) hold the pair "
        "that is best at r = 1; the median number of pairs in each group; the probability of "
        "being best that is said of the winner, and how often it is; the standard error of its "
        "lead over pairs measured beside it, by documents compared one by one and by two scores, "
        "in points; what its estimate is off by, signed, in points, against the same run trained "
        "fully and against the full data, and how far its measured score lies above the full "
        "data's at the same rung, for having been chosen; and in how many searches a pair is "
        "estimated above it."
    )
    return f"### Ties and the winner\n\n{note}\n\n{table(header, rows)}"


def _tie_row(ties: Ties) -> list[str]:
    return [
        _percent(ties.held),
        *(number(value, 0) for value in (ties.tied, ties.open, ties.untested, ties.worse)),
        _percent(ties.said, 0),
        _percent(ties.found, 0),
        *(_percent(value) for value in (ties.paired, ties.unpaired, ties.error, ties.full_error)),
        _percent(ties.luck),
        _percent(ties.challenged, 0),
    ]


def _intervals(analysis: Analysis) -> str:
    rows = []
    for kind in KINDS:
        row = [kind]
        for variant in COMPARED:
            own = [f[variant][kind] for f in analysis.intervals.values() if kind in f[variant]]
            if not own:
                row += [_NOT] * 5
                continue
            row += [_percent(sum(f.share for f in own) / len(analysis.intervals), 0)]
            held, half, error, bias = (
                float(np.mean([getattr(f, name) for f in own]))
                for name in ("covered", "half_width", "error", "bias")
            )
            row += [_percent(held, 0), _percent(half), _percent(error), _percent(bias)]
        rows.append(row)
    header = ["estimates"]
    for variant in COMPARED:
        header += [f"{variant}: share, %", "interval holds the truth, %", "half width", "error"]
        header += ["signed bias"]
    note = (
        "How often a pair's score at r = 1 lies in the 95 % interval that the search gives, on "
        "the full data and over bootstraps, by how the estimate is known; half width, absolute "
        "error and signed bias (estimate less truth) in points; means over tasks. People are "
        "shown the estimates from all scores together; the search decides by each pair's own "
        "curve."
    )
    return f"### Intervals\n\n{note}\n\n{table(header, rows)}"


def _store(analysis: Analysis) -> str:
    rows = []
    for method, shared in analysis.shared.items():
        for kind, bill in (("measured", shared.measured), ("projected", shared.projected)):
            rows.append(
                (
                    method,
                    kind,
                    *(number(bill[n].value / 3600, 2) for n in BILLED),
                    *(
                        cell(bill[n], "gain")
                        for n in ("gain_over_grid", "separate_over_grid", "gain_over_separate")
                    ),
                )
            )
    header = (
        "method", "costs", "one store, h", "separate searches, h", "shared grid, h",
        "separate grids, h", "store: x cheaper than the shared grid", "separate: the same",
        "store: x cheaper than separate",
    )  # fmt: skip
    note = (
        f"A search for each of {len(analysis.methods)} tasks; in one store a rung of a pair is "
        "trained once. Device-hours."
    )
    return f"### All tasks from one store\n\n{note}\n\n{table(header, rows, text=2)}"


def _deaths(analysis: Analysis) -> str:
    header = (
        "task", "best pair", "picked", "lost by", "points lost", "halving", "curves", "finish",
        "noise of the lead", "within noise",
    )  # fmt: skip
    rows = (
        (
            task,
            d.best,
            d.picked,
            d.decision or "found",
            *(_percent(v, 2) for v in (d.regret, d.halving, d.curves, d.finish, d.noise)),
            "yes" if d.within_noise else "no",
        )
        for task, d in analysis.deaths.items()
    )
    note = "Which decision of `mordal` lost the best pair, and the points lost at each stage."
    return f"### Post-mortems\n\n{note}\n\n{table(header, rows, text=4)}"
