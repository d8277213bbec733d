"""A pool that grows, with real models from the command line: what was measured is not redone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import yaml
from typer.testing import CliRunner

from mordal_optuna.cli import app as cli
from mordal_optuna.config import parse_study
from mordal_optuna.driver import run_study
from mordal_optuna.exporting import export_candidate
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import CARRIED, RUNGS
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.sampler import study_history
from mordal_optuna.workbench import comparison

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import ModelSource

pytestmark = pytest.mark.slow

OLD = "clip-t"


def measured(study: optuna.Study) -> dict[tuple[Any, int], dict[str, Any]]:
    """What a study itself has measured, by pair and rung."""
    own = [t for t in study.trials if CARRIED not in t.user_attrs]
    return {
        (candidate_of(t), int(samples)): details
        for t in own
        for samples, details in t.user_attrs.get(RUNGS, {}).items()
    }


def run(content: dict[str, Any], folder: Path, *options: str) -> dict[str, Any]:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    done = CliRunner().invoke(cli.app, ["run", str(file), "--json", *options])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def opened(settings: StudySettings, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=settings.storage_url())


def test_a_pool_grows_by_an_encoder_and_only_what_it_needs_is_run(
    study_content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the study is finished: the same command reads it, and its winner is exported."""
    stop = {"expected_regret": 1.0}  # the start is enough
    search = {"method": "joint", "first_ratio": 0.5, "stop": stop}
    content = study_content | {"search": search, "also_score": []}
    whole = content["pool"]
    short = whole | {"vision_encoders": [m for m in whole["vision_encoders"] if m["name"] == OLD]}
    first = run(content | {"pool": short}, tmp_path)
    assert {p["vision_encoder"] for p in first["ranking"]} == {OLD}

    grow = ("--as", "grown", "--grow-from", "tiny")
    encoded: list[str] = []
    features = comparison.vision_features

    def counted(source: ModelSource, *rest: Any, **options: Any) -> Any:
        encoded.append(source.name)
        return features(source, *rest, **options)

    monkeypatch.setattr(comparison, "vision_features", counted)
    result = run(content, tmp_path, *grow)
    assert encoded == ["dinov2-t"]
    settings = parse_study(content)
    earlier, study = opened(settings, "tiny"), opened(settings, "grown")
    before, new = measured(earlier), measured(study)
    assert {c.vision_encoder for c, _ in before} == {OLD}
    assert {c.vision_encoder for c, _ in new} == {"dinov2-t"}
    assert len(result["ranking"]) == 4
    curves = {(p["vision_encoder"], p["llm"]): p for p in result["ranking"]}
    for pair in first["ranking"]:
        kept = curves[pair["vision_encoder"], pair["llm"]]
        assert kept["measured"] == pair["measured"]
    spent = sum(d["train_spent"] for d in new.values())
    assert result["costs"]["training"] == pytest.approx(spent)
    assert result["costs"]["reused"] > 0
    # A study keeps its record, and both are read again without the option.
    assert run(content | {"pool": short}, tmp_path)["ranking"] == first["ranking"]
    assert run(content, tmp_path, "--as", "grown")["ranking"] == result["ranking"]
    chosen = settings.model_copy(update={"study": "grown"})
    assert export_candidate(chosen, tmp_path / "vlm", Silent()).scores


def test_training_goes_on_from_the_checkpoint_of_a_carried_rung(
    study_content: dict[str, Any], tmp_path: Path
) -> None:
    """The earlier study was interrupted; a removed encoder is left out and stays in its record."""

    class Interrupting(Silent):
        """Before the second score of a pair of `OLD` is reported."""

        notes = 0

        def note(self, text: str) -> None:
            self.notes += text.startswith(OLD)
            if self.notes > 1:
                raise KeyboardInterrupt

    search = {"method": "joint", "first_ratio": 0.5, "stop": {"expected_regret": None}}
    content = study_content | {"search": search, "also_score": []}
    settings = parse_study(content)
    with pytest.raises(KeyboardInterrupt):
        run_study(settings, Interrupting())
    earlier = opened(settings, "tiny")
    held = study_history(earlier).candidates
    pool = content["pool"]
    pool = pool | {"vision_encoders": [m for m in pool["vision_encoders"] if m["name"] == OLD]}
    result = run(content | {"pool": pool}, tmp_path, "--as", "grown", "--grow-from", "tiny")
    assert {p["vision_encoder"] for p in result["ranking"]} == {OLD}
    grown = opened(settings, "grown")
    continued = [
        (candidate, record)
        for candidate, record in study_history(grown).candidates.items()
        if record.carried and max(record.carried) < record.top
    ]
    assert continued
    for candidate, record in continued:
        known = held[candidate].measurements
        assert record.carried == {m.samples for m in known}
        # Trained from the carried rung on, not from the start.
        further = record.measurements[-1].train_seconds - known[-1].train_seconds
        assert record.train_spent == pytest.approx(further)
    assert {c.vision_encoder for c in study_history(earlier).candidates} > {OLD}
    assert study_history(opened(settings, "tiny")).candidates == held
