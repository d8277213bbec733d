"""Both pages of a plan: all shipped studies, JSON, tables, a measured device; no torch."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from mordal_optuna.config.shipped import shipped
from mordal_optuna.planning import measuring
from mordal_optuna.planning.devices import device_named
from mordal_optuna.planning.plain import plan_json
from mordal_optuna.planning.plan import first_page
from mordal_optuna.planning.tables import print_first, print_second
from tests.planning.studies import planned, shipped_settings

if TYPE_CHECKING:
    from pathlib import Path


def shown(content: Any, device: str = "cpu") -> str:  # noqa: ANN401
    """A plan as it is printed."""
    out = io.StringIO()
    console = Console(file=out, width=110)
    first, second = planned(content, device_named(device))
    print_first(first, console)
    print_second(second, console)
    return out.getvalue()


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped("studies").glob("*.yaml")))
def test_every_shipped_study_is_planned_offline(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an empty folder, with hours, memory and disk; nothing is written."""
    monkeypatch.chdir(tmp_path)
    first, second = planned(shipped_settings(name), device_named("h100"))
    assert first.rungs
    assert second.missing == ""
    assert second.forecast
    assert second.disk
    assert 0 < second.forecast.mean.total < second.forecast.grid
    assert not list(tmp_path.iterdir())
    hub = [model for model in first.models if model.found == "public facts"]
    assert bool(first.away) == bool(hub)


def test_json_and_tables_tell_the_same(study_content: dict[str, Any]) -> None:
    first, second = planned(study_content)
    content = json.loads(json.dumps(plan_json(first, second)))
    assert content["rungs"] == [8, 16, 32, 64]
    assert {model["supported"] for model in content["models"]} == {True}
    assert content["forecast"]["seconds"]["total"] == pytest.approx(
        sum(v for k, v in content["forecast"]["seconds"].items() if k != "total")
    )
    assert sum(r["seconds"] for r in content["forecast"]["rungs"]) == pytest.approx(
        content["forecast"]["seconds"]["training"] + content["forecast"]["seconds"]["evaluation"]
    )
    text = shown(study_content)
    for word in ("clip-t", "16 tokens", "64 samples", "8 > 16 > 32 > 64", "device-hours", "grid"):
        assert word in text


def test_the_paper_is_as_dear_as_the_paper_says() -> None:
    """111 GPU-hours a full run on A40s, and a gain of 11.2 on GQA: within a factor of two.

    An A40 has 149.7 tera-operations a second in bf16 (NVIDIA's datasheet), of which 40 % is
    assumed. The paper's Phi-3-small is twice as large as the study's Phi-3-mini.
    """
    device = replace(device_named("l40s"), name="a40", rate=149.7e12)
    found = planned(shipped_settings("paper-gqa"), device)[1].forecast
    assert found
    assert 111 / 2 < found.grid / found.pairs / 3600 < 111 * 2
    assert 11.2 / 2 < found.grid / found.mean.total < 11.2 * 2


def test_disk_counts_what_is_kept(study_content: dict[str, Any]) -> None:
    second = planned(study_content)[1]
    assert second.disk
    assert second.forecast
    assert second.disk.downloads == 0
    assert second.disk.checkpoints == second.disk.checkpoint * second.forecast.mean.checkpoints
    # Two encoders, 64 images, 16 patches of width 32, fp32.
    assert second.disk.features == 2 * 64 * 16 * 32 * 4
    latest = planned({**study_content, "checkpoints": {"keep": "latest"}})[1]
    assert latest.disk
    assert latest.disk.checkpoints <= second.disk.checkpoints


@pytest.mark.slow
def test_this_machine_can_be_measured(study_content: dict[str, Any]) -> None:
    device = measuring.measured_device(first_page(_settings(study_content)))
    assert device.name == "cpu"
    assert 1e8 < device.rate < 1e13
    assert 1e-7 < device.operation_seconds < 1e-2
    assert device.source.startswith("measured: ")


def _settings(content: dict[str, Any]) -> Any:  # noqa: ANN401
    from mordal_optuna.config import parse_study

    return parse_study(content)
