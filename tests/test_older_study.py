"""Studies that an older version began are read and continued: see `tests/fixtures/README.md`."""

from __future__ import annotations

import json
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import yaml

from mordal_optuna import (
    Candidate,
    CkaClusterSampler,
    ClusterTree,
    LogLinearHalvingPruner,
    MordalPlan,
    load_study,
    run_study,
)
from mordal_optuna.config import parse_study
from mordal_optuna.progress import Silent
from mordal_optuna.search import attributes

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings

ARCHIVE = Path(__file__).parent / "fixtures" / "study_before_rooms.tar.xz"
# lmms-eval's version is one of a study's inputs: a study is refused under another one.
LMMS_EVAL = "0.7.3"

CLIP_LLAMA = Candidate("clip-t", "llama-t")
MEASURED = {
    CLIP_LLAMA: [8, 16, 32],
    Candidate("clip-t", "mistral-t"): [8],
    Candidate("dinov2-t", "llama-t"): [8],
}


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the older version worked."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(folder: Path) -> StudySettings:
    return parse_study(yaml.safe_load((folder / "study.yaml").read_text()))


def rungs(curves: Any) -> dict[Candidate, list[int]]:
    return {pair: [m.samples for m in curve] for pair, curve in curves.items() if curve}


def checkpoints(folder: Path) -> dict[str, bytes]:
    """Content of every checkpoint's manifest, by its place."""
    root = folder / "run" / "checkpoints"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.glob("*/*/checkpoint*.json")}


def test_an_older_study_is_read(older: Path) -> None:
    """Its scores, costs and comparison of models; nothing is run."""
    result = load_study(settings_of(older))
    assert rungs(result.curves) == MEASURED
    assert result.winner.candidate == CLIP_LLAMA
    assert result.representation
    assert result.costs.training > 0


def test_names_of_stored_values_have_not_changed(older: Path) -> None:
    """What the older version stored is looked for under the same names."""
    names = {value for value in vars(attributes).values() if str(value).startswith("mordal:")}
    stored: set[str] = set()
    for name, file in (("before-rooms", "study.db"), ("plain", "plain.db")):
        study = optuna.load_study(study_name=name, storage=f"sqlite:///{older / 'run' / file}")
        for trial in study.trials:
            stored |= {*trial.user_attrs, *trial.system_attrs}
        stored |= {*study.user_attrs}
    # The rung follows the name of an attribute that each rung has.
    ours = {":".join(name.split(":")[:2]) for name in stored if name.startswith("mordal:")}
    assert ours <= names
    assert len(ours) >= 12


@pytest.mark.slow
def test_an_older_study_is_continued(older: Path) -> None:
    """From its checkpoints: none is trained again, and no score is measured again."""
    if version("lmms-eval") != LMMS_EVAL:
        pytest.skip(f"the study was begun with lmms-eval {LMMS_EVAL}")
    settings, before = settings_of(older), checkpoints(older)
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    trials = [t for t in study.trials if t.state.is_finished()]
    result = run_study(settings, Silent())
    found = rungs(result.curves)
    assert all(found[pair][: len(known)] == known for pair, known in MEASURED.items())
    assert found[CLIP_LLAMA] == [8, 16, 32, 64]
    assert result.stopped_because
    assert result.further_scores
    assert {place: checkpoints(older)[place] for place in before} == before
    # Rungs were found at their old addresses, which had `max_length`: none is stored twice.
    stored = {"/".join(place.split("/")[:2]) for place in checkpoints(older) if "/" in place}
    assert len(stored) == sum(map(len, found.values()))
    again = {t.number: t for t in study.get_trials()}
    for trial in trials:
        assert again[trial.number].user_attrs == trial.user_attrs
        assert again[trial.number].intermediate_values == trial.intermediate_values


def test_an_older_plain_study_is_continued(older: Path) -> None:
    """It reports what the older version reported without an interruption, and ends alike."""
    expected = json.loads((older / "plain.json").read_text())
    encoders, llms = [f"e{n}" for n in range(4)], [f"l{n}" for n in range(4)]
    plan = MordalPlan(
        ClusterTree.flat(encoders, llms),
        rungs=(512, 1024, 2048, 4096, 8192, 16384),
        full_samples=16384,
    )
    quality = dict(zip(encoders, (0.30, 0.42, 0.36, 0.25), strict=True)) | dict(
        zip(llms, (0.1, 0.02, 0.14, 0.06), strict=True)
    )

    def objective(trial: optuna.Trial) -> float:
        encoder = trial.suggest_categorical("vision_encoder", plan.vision_encoders)
        llm = trial.suggest_categorical("llm", plan.llms)
        final, score = quality[encoder] + quality[llm], 0.0
        for samples in plan.rungs:
            score = max(0.01, 1 - (1 - final) * (16384 / samples) ** 0.06)
            trial.report(score, step=samples)
            if trial.should_prune():
                raise optuna.TrialPruned
        return score

    study = optuna.load_study(
        study_name="plain",
        storage=f"sqlite:///{older / 'run' / 'plain.db'}",
        sampler=CkaClusterSampler(plan),
        pruner=LogLinearHalvingPruner(plan),
    )
    assert len(study.trials) == 9
    study.optimize(objective)
    reports = sorted(
        [t.params["vision_encoder"], t.params["llm"], samples]
        for t in study.trials
        for samples in t.intermediate_values
    )
    assert reports == expected["reports"]
    assert study.best_trial.params == expected["best"]
    assert study.user_attrs["mordal:stopped_because"].startswith("pool exhausted")
