"""Commits: looked up until a study has spent something, and kept from then on."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import optuna

from mordal_optuna.config import parse_study
from mordal_optuna.models.hub import HubState
from mordal_optuna.workbench import commits
from mordal_optuna.workbench.commits import pinned

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from mordal_optuna.pool import ModelSource


def test_a_study_keeps_the_commits_that_it_began_with(
    study_content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models in folders have none. Other ranks, which get the settings by pickle, use the same."""
    study_content["pool"]["llms"][0]["location"] = "owner/llm"
    settings = parse_study(study_content)
    now = ["a" * 40]
    looked_up: list[str] = []

    def hub_state(source: ModelSource) -> HubState:
        looked_up.append(source.location)
        return HubState(now[0], {})

    monkeypatch.setattr(commits, "hub_state", hub_state)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 's.db'}", study_name="s")

    def revisions() -> list[str | None]:
        given = pickle.loads(pickle.dumps(pinned(study, settings)))
        assert given.fingerprint() == settings.fingerprint()
        return [source.revision for source in given.models().llms]

    assert revisions() == ["a" * 40, None]
    now[0] = "b" * 40
    assert revisions() == ["b" * 40, None]
    study.add_trial(optuna.trial.create_trial(value=0.5))
    now[0] = "c" * 40
    assert revisions() == ["b" * 40, None]
    assert looked_up == ["owner/llm"] * 2
