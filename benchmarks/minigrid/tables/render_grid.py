"""Sections of RESULTS.md about the grid itself: its truth, noise and curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.minigrid.tables.curves import MAX_RATIOS
from benchmarks.minigrid.tables.markdown import number, percent, prose, section, table

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.analysis import Analysis


def truth_section(analysis: Analysis) -> str:
    """Best pairs, noise, variance, shapes of curves, and whether one pair suits all tasks."""
    header = (
        "task", "best pair", "best", "median", "worst", "noise: documents", "noise: seeds",
        "noise: truth", "noise: lead of the best", "pairs within noise of the best",
        "one run against the others: tau", "one run against the others: regret",
    )  # fmt: skip
    rows = (
        (
            task,
            t.best,
            *(percent(v) for v in (t.best_score, t.median_score, t.worst_score)),
            *(percent(v) for v in (t.document_noise, t.seed_noise, t.truth_noise)),
            percent(t.difference_noise),
            str(t.within_noise),
            number(t.agreement.tau, 2),
            percent(t.agreement.regret),
        )
        for task, t in analysis.truths.items()
    )
    note = (
        "The truth of a pair is the mean score of its runs at r = 1, in percent; the runs differ "
        "in the random seed. Noise is given as standard deviations in points: of the truth over "
        "other documents, of a single run over random seeds, of the truth over both, and of the "
        "best pair's lead over another pair. Last columns: the scores of one run of the pairs "
        "that have several, against the mean of their other runs on all documents; regret is what "
        "the run's best pair loses, in points."
    )
    return section(
        "The truth",
        prose(note),
        table(header, rows, text=2),
        *_pairs(analysis),
        *_variance(analysis),
        *_shapes(analysis),
        _silver_bullet(analysis),
    )


def _pairs(analysis: Analysis) -> tuple[str, str]:
    """Truth and noise of every pair."""
    truths = analysis.truths.values()
    first = next(iter(truths)).pairs
    rows = (
        (
            name,
            str(first[name].runs),
            *(f"{percent(t.pairs[name].score)} ± {percent(t.pairs[name].noise)}" for t in truths),
        )
        for name in first
    )
    several = sum(pair.runs > 1 for pair in first.values())
    note = (
        f"Every pair: number of runs, and the truth ± its noise over documents and seeds. "
        f"{several} of {len(first)} pairs have several runs; the seed noise of the others is "
        "pooled over these. `results.json` gives both noises of every pair."
    )
    shown = table(("pair", "runs", *analysis.truths), rows)
    return prose(note), f"<details><summary>every pair</summary>\n\n{shown}\n\n</details>"


def _silver_bullet(analysis: Analysis) -> str:
    bullet = analysis.bullet
    regrets = ", ".join(f"{task} {percent(v)}" for task, v in bullet.regrets.items())
    pairs = ", ".join(bullet.bullets) or "no pair"
    verb = "are" if len(bullet.bullets) > 1 else "is"
    return prose(
        f"Silver bullet: {pairs} {verb} within noise of the best on all tasks; one pair is on "
        f"at most {bullet.most_tasks} of {len(bullet.regrets)} tasks. The best pair on average, "
        f"{bullet.average}, loses in points: {regrets}."
    )


def _variance(analysis: Analysis) -> tuple[str, str]:
    parts = ("encoder", "LLM", "interaction")
    header = ("task", *parts, *(f"without noise: {part}" for part in parts))
    rows = (
        (task, *(percent(v) for v in (*t.raw, *t.corrected)))
        for task, t in analysis.truths.items()
    )
    note = (
        "Two-way analysis of variance of ln error of the truth: shares in percent, as measured "
        "and with the noise removed."
    )
    return prose(note), table(header, rows)


def _shapes(analysis: Analysis) -> tuple[str, str]:
    first = next(iter(analysis.truths.values()))
    ratios = [f"1/{2**n}" for n in range(len(first.tau) - 1, 0, -1)] + ["1"]
    header = (
        "task", "log-linear: all rungs", "up to 1/8", "paper's rule",
        *(f"from {r}" for r in ratios[:-2]), *(f"tau, Spearman at {r}" for r in ratios[:-1]),
    )  # fmt: skip
    rows = (
        (
            task,
            *(percent(v, 0) for v in (t.accepted, t.accepted_to_ratio, t.accepted_paper)),
            *(percent(v, 0) for v in t.regime[:-2]),
            *(f"{number(a, 2)}, {number(b, 2)}" for a, b in zip(t.tau, t.spearman, strict=True)),
        )[: len(header)]
        for task, t in analysis.truths.items()
    )
    note = (
        "Curves of the grid's own runs. First columns: share of pairs, in percent, whose scores "
        "agree with a log-linear curve over all rungs and over the rungs up to 1/8 (chi-square "
        "test against the known noise, 5 %), and by the paper's rule (loss of the last three "
        "rungs up to 1/8 below 5e-5). Columns `from`: share of pairs whose stable window begins "
        "at that rung. Last columns: weighted tau and Spearman's correlation of a rung's scores "
        "with those of the same runs at r = 1, whose seed noise they share."
    )
    return prose(note), table(header, rows)


def curves_section(analysis: Analysis) -> str:
    """Predictions of curves by rule and, where they were run, by schedule."""
    header = ["rule"]
    for ratio in MAX_RATIOS:
        up_to = f"R 1/{round(1 / ratio)}"
        header += [f"{up_to}: tau", f"{up_to}: error", f"{up_to}: bias"]
    rows = []
    for rule in next(iter(analysis.rules.values())):
        row = [rule]
        for ratio in MAX_RATIOS:
            figures = [by_rule[rule][str(ratio)] for by_rule in analysis.rules.values()]
            row.append(number(float(np.mean([f.tau for f in figures])), 3))
            row.append(percent(float(np.mean([f.error for f in figures]))))
            row.append(percent(float(np.mean([f.bias for f in figures]))))
        rows.append(row)
    note = (
        "Predictions of the scores at r = 1 by curves through the same runs' scores up to R, for "
        "all pairs, without a search. Absolute error and bias in points; means over tasks."
    )
    schedules = _schedules(analysis) if any(analysis.schedules.values()) else ()
    return section("Curves", prose(note), table(header, rows), *schedules)


def _schedules(analysis: Analysis) -> tuple[str, str]:
    rows = []
    for name in next(iter(analysis.schedules.values())):
        figures = [by_name[name] for by_name in analysis.schedules.values()]
        mean = {k: float(np.mean([getattr(f, k) for f in figures])) for k in vars(figures[0])}
        shares = (percent(mean[key]) for key in ("error", "bias", "final"))
        rows.append((name, number(mean["tau"], 3), *shares))
    note = (
        "Our curves under other learning-rate schedules, R = 1/8, on the pairs that were trained "
        "under them."
    )
    header = ("schedule", "tau", "error", "bias", "mean score at r = 1")
    return prose(note), table(header, rows)
