"""Figures of each release side by side, from the results that its benchmarks have written.

    uv run python -m benchmarks.releases                # adds or replaces the installed version

Run it after the benchmarks, whose commands benchmarks/README.md names. The figures of a benchmark
that has no results are left out, and so are those of earlier versions on other machines: a rate is
comparable only within one machine, a ratio within one run.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version

from benchmarks.machine import machine

FOLDER = Path(__file__).parent
STORED, TABLE = FOLDER / "releases.json", FOLDER / "releases.md"


def figures(folder: Path) -> dict[str, float]:
    """Figures of the benchmarks below a folder, by what they are.

    Args:
        folder: folder of the benchmarks.
    """
    found: dict[str, float] = {}
    for name, read in (
        ("alignment_throughput", _alignment),
        ("evaluation_throughput", _scoring),
        ("evaluation_overhead", _overhead),
        ("startup", _startup),
        ("search_overhead", _search),
    ):
        path = folder / name / "results.json"
        if path.is_file():
            found |= read(json.loads(path.read_text(encoding="utf-8")))
    return found


def table(releases: dict[str, Any]) -> str:
    """All releases as Markdown: a row for each figure, a column for each version.

    Args:
        releases: content of releases.json.
    """
    names = dict.fromkeys(name for one in releases.values() for name in one["figures"])
    rows = [
        f"| figure | {' | '.join(releases)} |",
        f"|---|{'--:|' * len(releases)}",
        *(
            f"| {name} | "
            + " | ".join(_shown(one["figures"].get(name)) for one in releases.values())
            + " |"
            for name in names
        ),
        f"| processor | {' | '.join(one['machine']['processor'] for one in releases.values())} |",
    ]
    return "\n".join(rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _alignment(content: dict[str, Any]) -> dict[str, float]:
    rates = {name: loop["samples_per_second"] for name, loop in content["loops"].items()}
    return {
        "alignment, samples/s": rates["ours"],
        "alignment, times TRL": rates["ours"] / rates["trl"],
        "alignment, times transformers' Trainer": rates["ours"] / rates["transformers"],
    }


def _scoring(content: dict[str, Any]) -> dict[str, float]:
    return {
        f"scoring, {questions} question{'s' * (questions != '1')} a picture, times llava_hf": max(
            row["times"] for row in rows if row["model"].startswith("mordal_vlm")
        )
        for questions, rows in content["questions_a_picture"].items()
    }


def _overhead(content: dict[str, Any]) -> dict[str, float]:
    last = content["evaluations"][-1]
    return {f"evaluation without the model, {last['documents']:,} documents, s": last["ours"]}


def _startup(content: dict[str, Any]) -> dict[str, float]:
    rows = content["now"]["rows"]
    return {
        f"start to first step, {row['conversations']:,} conversations "
        f"({'with images' if row['images'] else 'text'}), first time, s": row["seconds"]
        for row in rows
        if row["start"] == "first" and row["rung"] == max(r["rung"] for r in rows)
    }


def _search(content: dict[str, Any]) -> dict[str, float]:
    cases = content["cases"]
    return {f"ask, {name}, ms": case["ask_ms"] for name, case in cases.items() if "mordal" in name}


def main() -> None:
    """Add the installed version, and write both files."""
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.is_file() else {}
    release = Version(version("mordal-optuna")).base_version  # without the part of a commit
    stored[release] = {"machine": machine("torch"), "figures": figures(FOLDER)}
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(stored) + "\n", encoding="utf-8")
    print(table(stored))


if __name__ == "__main__":
    main()
