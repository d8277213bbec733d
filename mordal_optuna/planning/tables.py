"""A plan as tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from mordal_optuna.planning.models import ModelFacts
    from mordal_optuna.planning.plan import FirstPage, SecondPage

_HOUR = 3600.0


def print_first(page: FirstPage, console: Console) -> None:
    """Print models, data, tasks and rungs.

    Args:
        page: what was read.
        console: console to print to; 100 columns are enough.
    """
    table = Table(
        title=f"{page.settings.study}: models", title_justify="left", box=None, pad_edge=False
    )
    for title, right in (
        *(("", False), ("where", False), ("commit", False), ("licence", False)),
        *(("weights", False), ("parameters", True), ("sizes", False)),
    ):
        table.add_column(title, justify="right" if right else "left")
    for model in page.models:
        table.add_row(*_model_row(model))
    console.print(table, highlight=False)
    grid = _lines(console)
    if page.away:
        grid.add_row("hub", f"not asked for models: {page.away}; what is known of them is shown")
    for name, text in _data_lines(page):
        grid.add_row(name, text)
    console.print(grid, highlight=False)


def print_second(page: SecondPage, console: Console) -> None:
    """Print tokens, memory, disk, device-hours, budgets and advice.

    Args:
        page: what the study takes.
        console: console to print to.
    """
    grid = _lines(console)
    for name, text in (*_token_lines(page), *_memory_lines(page)):
        grid.add_row(name, text)
    if page.missing:
        grid.add_row("cost", f"not estimated: {page.missing}")
    console.print(grid, highlight=False)
    if page.forecast:
        console.print(_rung_table(page), highlight=False)
        grid = _lines(console)
        for name, text in _cost_lines(page):
            grid.add_row(name, text)
        console.print(grid, highlight=False)
    if page.budgets and page.budgets.rows:
        console.print(_budget_table(page), highlight=False)
        console.print(
            f"regret in replays: on {page.budgets.pools} drawn pools of {page.budgets.pool}, and "
            "on the minigrid (7 x 7 tiny models, 7\ntasks); real pools may differ. A search that "
            "ends by itself spends less than its budget.",
            style="dim",
            highlight=False,
        )
    grid = _lines(console)
    for text in page.advice:
        grid.add_row("change", text, style="bold yellow")
    if page.advice:
        console.print(grid, highlight=False)


def _lines(console: Console) -> Table:  # noqa: ARG001 - all grids look alike
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", min_width=9)
    grid.add_column()
    return grid


def _model_row(model: ModelFacts) -> tuple[str, ...]:
    encoder, llm = model.encoder, model.llm
    sizes = "not known"
    if encoder:
        sizes = f"{encoder.kind}, {encoder.side} px: {encoder.image_tokens:,} tokens"
    if llm:
        sizes = f"{llm.kind}, {llm.layers} x {llm.hidden:,}, vocabulary {llm.vocabulary:,}"
    if model.problem:
        sizes = f"not usable, see below{'; ' + sizes if sizes != 'not known' else ''}"
    gated = ", gated" if model.gated else ""
    return (
        model.name,
        model.found,
        (model.commit or "")[:7] or "-",
        f"{model.licence or '-'}{gated}",
        model.weights or "-",
        _count(model.parameters),
        sizes,
    )


def _data_lines(page: FirstPage) -> list[tuple[str, str]]:
    data = page.data
    lines = []
    if data.found:
        lines.append(
            (
                "data",
                f"{data.source}: {data.available or 0:,} samples, {data.samples or 0:,} used; of "
                f"{data.read} looked at, {100 * data.text_only:.0f} % without an image, "
                f"{len(data.missing)} images missing, {len(data.broken)} records refused",
            )
        )
    else:
        used = f"{data.samples:,} samples" if data.samples else "a number of samples not known"
        lines.append(("data", f"{data.source}: not found here; {used}"))
    if page.chosen:
        lines.append(("", page.chosen))
    for task in page.tasks:
        about = "" if task.known else "about "
        lines.append(
            (
                "task",
                f"{task.settings.name}: {about}{task.documents:,} documents ({task.source})",
            )
        )
    if page.rungs:
        lines.append(("rungs", " > ".join(f"{rung:,}" for rung in page.rungs) + " samples"))
    return lines


def _token_lines(page: SecondPage) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, one in page.tokens.items():
        if not one.counted:
            text = f"{name}: {one.text.mean():.0f} tokens of text a sample, assumed"
        elif len(one.text):
            text = (
                f"{name}: {one.text.mean():.0f} tokens of text a sample, 95 % below "
                f"{np.quantile(one.text, 0.95):.0f}; {one.targets.mean():.0f} trained"
            )
        else:
            text = f"{name}: no sample can be trained on"
        lines.append(("tokens" if not lines else "", text))
    return lines


def _memory_lines(page: SecondPage) -> list[tuple[str, str]]:
    if not page.memory:
        return []
    candidate, most = max(page.memory.items(), key=lambda entry: entry[1].total)
    size = page.device.memory
    have = f" of {size / 1e9:.0f} GB of {page.device.name}" if size else ""
    text = (
        f"{candidate} takes most: {_giga(most.total)}{have}; weights {_giga(most.weights)}, "
        f"trained parts {_giga(most.trained)}, logits {_giga(most.logits)}, activations of "
        f"{most.tokens:,} tokens {_giga(most.tokens * most.each_token)}"
    )
    lines = [("memory", text)]
    if size:
        fits = sum(memory.fits(size) for memory in page.memory.values())
        lines.append(("", f"{fits} of {len(page.memory)} pairs fit as they are"))
    return lines


def _rung_table(page: SecondPage) -> Table:
    assert page.forecast
    table = Table(title="expected cost", title_justify="left", box=None, pad_edge=False)
    titles = ("samples", "pairs", "documents", "training, h", "scoring, h")
    for title in titles:
        table.add_column(title, justify="right")
    for samples, rung in sorted(page.forecast.mean.rungs.items()):
        table.add_row(
            f"{samples:,}",
            f"{rung.candidates:.1f}",
            f"{rung.documents:,.0f}",
            _hours(rung.train),
            _hours(rung.score),
        )
    return table


def _cost_lines(page: SecondPage) -> list[tuple[str, str]]:
    found, disk = page.forecast, page.disk
    assert found
    assert disk
    mean = found.mean
    compared = mean.features + mean.warmup
    return [
        (
            "cost",
            f"{_hours(mean.total)} device-hours ({_hours(found.low)} to {_hours(found.high)}"
            f"{_seconds(mean.total)}): "
            f"{found.full_runs:.1f} full runs; comparing {_hours(compared)}, training "
            f"{_hours(mean.training)}, scoring {_hours(mean.evaluation)}",
        ),
        (
            "grid",
            f"{_hours(found.grid)} device-hours to train all {found.pairs} pairs, "
            f"{found.grid / mean.total:.1f} times as much",
        ),
        ("device", f"{page.device.name}: {page.device.source}"),
        (
            "disk",
            f"{_giga(disk.total)}: downloads {_giga(disk.downloads)}, features "
            f"{_giga(disk.features)} (until the work folder is deleted), {mean.checkpoints} "
            f"checkpoints of up to {_giga(disk.checkpoint)} (until `mordal checkpoints prune`)",
        ),
    ]


def _budget_table(page: SecondPage) -> Table:
    assert page.budgets
    title = f"what a budget buys with `{page.budgets.method}` (search: device_hours)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("hours", "full runs", "regret, points", "best found, %", "minigrid, points"):
        table.add_column(column, justify="right")
    for row in page.budgets.rows:
        table.add_row(
            _hours(row.hours * _HOUR),
            f"{row.full_runs:g}",
            f"{row.regret:.1f} ± {row.half:.1f}",
            f"{100 * row.best:.0f}",
            f"{row.minigrid:.1f}",
        )
    return table


def _hours(seconds: float) -> str:
    hours = seconds / _HOUR
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _seconds(seconds: float) -> str:
    """A short time in seconds, too."""
    return f"; {seconds:,.0f} seconds" if seconds < _HOUR / 5 else ""


def _giga(size: float) -> str:
    gigabytes = size / 1e9
    return f"{gigabytes:,.0f} GB" if gigabytes >= 100 else f"{gigabytes:.2g} GB"


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "not known"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2f} B"
    return f"{parameters / 1e6:.1f} M"
