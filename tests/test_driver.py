"""Whole studies: a tiny search with real models end to end, interruptions, refusals."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from mordal_optuna import driver
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import adapted, parse_study, with_method
from mordal_optuna.driver import (
    is_finished,
    open_study,
    retry_failed,
    run_study,
    study_plan,
)
from mordal_optuna.errors import (
    BusyError,
    ConfigError,
    ModelError,
    SearchError,
    StudyMismatchError,
    TaskError,
)
from mordal_optuna.evaluation.score import score
from mordal_optuna.files.inputs import Inputs
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import CONFIG, FAILURE, FULL_SAMPLES, PAIR, STOPPED_BECAUSE
from mordal_optuna.search.history import read_history
from mordal_optuna.study.ownership import alone_on
from mordal_optuna.study.resuming import begin, resumed_settings
from mordal_optuna.zoo.tasks.quickstart import write_alignment

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.config import StudySettings


@pytest.fixture
def content(study_content: dict[str, Any]) -> dict[str, Any]:
    return study_content


def scored(settings: StudySettings) -> list[tuple[str, int]]:
    """Every rung that was measured: candidate and samples."""
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    return [
        (f"{t.params['vision_encoder']}+{t.params['llm']}", int(samples))
        for t in study.trials
        for samples in t.user_attrs.get("mordal:rungs", {})
    ]


@pytest.mark.slow
def test_a_whole_search_with_real_models(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparison, halving, curves, a finalist, the upstream task; every rung once; then a grid."""
    settings = parse_study(content)
    result = run_study(settings, Silent())
    assert {e.candidate for e in result.ranking} == set(settings.models().candidates)
    assert result.stopped_because
    assert result.representation
    files = CheckpointFiles(settings.checkpoint_folder())
    tokens = [files.manifest(run, rung).token for run in files.runs() for rung in files.rungs(run)]
    study = optuna.load_study(study_name=settings.study, storage=settings.storage_url())
    assert {token and token.study for token in tokens} == {study.user_attrs["mordal:identity"]}
    assert result.costs.warmup > 0
    assert result.costs.training > 0
    assert [score.task for score in result.further_scores] == ["scienceqa_img"]
    assert len(scored(settings)) == len(set(scored(settings)))
    assert max(len(points) for points in result.curves.values()) >= 3

    scorings: list[str] = []

    def counted(*given: Any, **options: Any) -> Any:
        scorings.extend(task.name for task in given[2])
        return score(*given, **options)

    monkeypatch.setattr("mordal_optuna.workbench.align_and_score.score", counted)
    grid = parse_study(with_method(content, "grid"))
    truth = run_study(grid, Silent())
    # Only what no other study in this database has scored.
    known = set(scored(settings))
    assert scorings.count("mordal_scenes") == len([s for s in scored(grid) if s not in known])
    assert {e.provenance for e in truth.ranking} == {"measured"}
    shared = {
        (candidate, point.samples): point.score
        for candidate, points in result.curves.items()
        for point in points
    }
    for (candidate, samples), value in shared.items():
        found = next(p for p in truth.curves[candidate] if p.samples == samples)
        assert found.score == value  # the same checkpoint, scored again


@pytest.mark.slow
def test_a_candidate_whose_training_a_library_ends_fails_alone(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice at most, with the library's reason; the study ends with a winner."""
    gradients = Trainer._gradients

    def broken(self: Trainer, *given: Any) -> Any:
        config = self._vlm.model.config
        pair = (config.vision_config.model_type, config.text_config.model_type)
        if pair == ("clip_vision_model", "mistral"):
            raise RuntimeError("expected scalar type Half")
        return gradients(self, *given)

    monkeypatch.setattr(Trainer, "_gradients", broken)
    search = content["search"] | {"method": "grid"}
    settings = parse_study(content | {"also_score": [], "search": search})
    result = run_study(settings, Silent())
    assert result.failures == {
        Candidate("clip-t", "mistral-t"): (
            "training after 0 samples: RuntimeError: expected scalar type Half"
        )
    }
    assert result.winner.provenance == "measured"
    study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    assert len(study.get_trials(states=(TrialState.FAIL,))) == 2


@pytest.mark.slow
def test_a_study_killed_anywhere_goes_on_without_repeating_a_rung(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Interrupted at the comparison, in a trial, and between trials; the ranking is the same."""
    whole = run_study(parse_study(content), Silent())
    content["workdir"] = str(tmp_path / "interrupted")
    settings = parse_study(content)

    class Interrupting(Silent):
        def __init__(self, notes: int) -> None:
            self.left = notes

        def note(self, text: str) -> None:  # noqa: ARG002
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    result = None
    for notes in (1, 4, 2, 3, 2):
        try:
            result = run_study(settings, Interrupting(notes))
        except KeyboardInterrupt:
            # What a killed process leaves behind, besides: a trial that looks alive.
            study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
            study.ask()
    result = result or run_study(settings, Silent())
    assert len(scored(settings)) == len(set(scored(settings)))
    assert [(e.candidate, e.value) for e in result.ranking] == [
        (e.candidate, e.value) for e in whole.ranking
    ]
    study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    alive = study.get_trials(states=(TrialState.RUNNING,))
    assert not [trial for trial in alive if trial.params]  # the others may yet be somebody's

    def heavy(*_: object) -> None:
        raise AssertionError("a finished study must not load models")

    monkeypatch.setattr(driver, "work", heavy)
    assert run_study(settings, Silent()).ranking == result.ranking


@pytest.fixture
def small(content: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Two candidates on 592 samples; the study file says nothing of batches, warm-up or rungs."""
    folder = tmp_path / "alignment"
    write_alignment(folder, samples=592, seed=3, advance=lambda _: None)
    pool = content["pool"] | {"vision_encoders": content["pool"]["vision_encoders"][:1]}
    named = {"conversations": str(folder / "alignment.json"), "images": str(folder / "images")}
    left_open = {"samples", "batch_size", "warmup_samples"}
    recipe = {k: v for k, v in content["alignment"].items() if k not in left_open} | named
    search = {"top_clusters": 1, "finalists": 1, "finish": "full"}
    changed = {"pool": pool, "alignment": recipe, "search": search, "also_score": []}
    return content | changed | {"representation": {"images": 16}}


class Listening(Silent):
    """Keeps notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


@pytest.mark.slow
def test_defaults_train_on_592_samples(small: dict[str, Any]) -> None:
    """Batch size and warm-up are adapted to the data; the choice is noted, stored and used."""
    settings, progress = parse_study(small), Listening()
    result = run_study(settings, progress)
    (told,) = [text for text in progress.notes if text.startswith("592 samples:")]
    assert "batch_size 8 instead of 128, warmup_samples 16 instead of 2048" in told
    assert result.config["alignment"]["batch_size"] == 8
    assert result.config["search"]["max_ratio"] == 0.5
    assert {p.samples for points in result.curves.values() for p in points} == {144, 296, 592}
    assert not [text for text in result.warnings if "warmup_samples" in text or "step" in text]
    falls = [p[0].nll - p[-1].nll for p in result.curves.values() if p[0].nll and p[-1].nll]
    assert max(falls) > 0.1
    # The same file finds the study again, though it still leaves these settings open.
    assert run_study(settings, Silent()) == result
    small["alignment"]["warmup_samples"] = 2048
    with pytest.raises(StudyMismatchError, match=r"warmup_samples: 16 stored, 2048 given"):
        open_study(parse_study(small))


@pytest.mark.slow
def test_a_warm_up_beyond_the_data_is_warned_of_before_and_after(small: dict[str, Any]) -> None:
    """The user's setting stays; warnings name it, and the score at chance."""
    small["alignment"]["warmup_samples"] = 2048
    progress = Listening()
    result = run_study(parse_study(small), progress)
    sentence = "warmup_samples is 2,048, and a full alignment has 592 samples"
    assert progress.warnings[0].startswith(sentence)
    assert "no better than chance (20.0 %)" in progress.warnings[1]
    assert len(progress.warnings) == 2  # one candidate at chance is named, not each at each rung
    assert result.config["alignment"]["warmup_samples"] == 2048
    told = " ".join(result.warnings)
    assert sentence in told
    assert "no score is above chance (20.0 %)" in told


def begun(content: dict[str, Any], *, adapt: bool) -> StudySettings:
    """A study on 592 samples with a trial, by this version, or by one that did not adapt."""
    settings = prepared(content)
    study = open_study(settings)
    study.set_user_attr(FULL_SAMPLES, 592)
    kept = adapted(settings, 592)[0] if adapt else settings
    study.set_user_attr(CONFIG, kept.fingerprint())
    study.ask()
    return resumed_settings(open_study(settings), settings)


@pytest.mark.parametrize(("adapt", "batch"), [(True, 8), (False, 128)])
def test_a_study_goes_on_with_the_defaults_it_began_with(
    content: dict[str, Any], batch: int, *, adapt: bool
) -> None:
    del content["alignment"]["batch_size"]
    del content["alignment"]["samples"]
    found = begun(content, adapt=adapt)
    assert found.alignment.batch_size == batch
    assert adapted(found, 592)[0].fingerprint() == found.fingerprint()


def test_another_configuration_is_refused_and_nothing_overwritten(
    content: dict[str, Any],
) -> None:
    study = open_study(prepared(content))
    begin(study, prepared(content), Inputs({}), Silent())
    study.add_trial(create_trial(state=TrialState.FAIL))
    content["search"]["top_clusters"] = 4
    content["seed"] = 3
    with pytest.raises(StudyMismatchError) as caught:
        open_study(prepared(content))
    assert caught.value.differences == [
        "search.top_clusters: 1 stored, 4 given",
        "seed: 0 stored, 3 given",
    ]
    content["search"]["top_clusters"], content["seed"] = 1, 0
    open_study(prepared(content))


def test_a_second_process_in_the_same_folder_is_refused(content: dict[str, Any]) -> None:
    """A real one: lmms-eval makes file locks re-entrant within a process."""
    settings = prepared(content)
    holding = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); "
        "lock.acquire(); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", holding, str(settings.workdir / ".lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another process"):
            run_study(settings, Silent())
        other.communicate("\n")


def test_a_study_that_another_process_runs_is_refused(
    content: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever its workdir: they would share the trials."""
    content["storage"] = f"sqlite:///{tmp_path / 'shared.db'}"
    content["workdir"] = str(tmp_path / "another")
    settings = prepared(content)
    with alone_on(settings.storage_url(), "tiny"):
        with pytest.raises(BusyError, match=r"works on study 'tiny' in 'sqlite:.*shared\.db'"):
            run_study(settings, Silent())
        content["study"], content["task"] = "other", {"name": "nope"}
        with pytest.raises(TaskError):  # only this far: another study is free
            run_study(prepared(content), Silent())


def test_a_password_is_in_no_error(content: dict[str, Any]) -> None:
    content["storage"] = "postgresql+nosuchdriver://me:secret@localhost/db"
    with pytest.raises(ConfigError, match=r"storage: .*\*\*\*") as caught:
        open_study(prepared(content))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_impossible_rungs_are_refused(content: dict[str, Any]) -> None:
    content["search"]["first_ratio"] = 0.25
    with pytest.raises(ConfigError, match=r"search: there are 2 rungs, at 16, 32.* fitted to 3"):
        study_plan(prepared(content), 64, None)


def test_an_unknown_method_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--method: got 'magic'; allowed are mordal, .*grid"):
        with_method(content, "magic")


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"task": {"name": "nope"}}, TaskError, "'nope': is in no YAML"),
        (
            {"pool": {"vision_encoders": [{"name": "x", "location": "no/such"}]}},
            ModelError,
            "'x': cannot be looked up at 'no/such'",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_spent(
    content: dict[str, Any], change: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    for key, value in change.items():
        content[key] = {**content[key], **value} if key == "pool" else value
    settings = prepared(content)
    with pytest.raises(error, match=sentence):
        run_study(settings, Silent())
    study = optuna.load_study(study_name="tiny", storage=settings.storage_url())
    assert not read_history(study.trials).candidates
    assert not (settings.workdir / "checkpoints").exists()


def test_a_retry_clears_failures_and_lets_an_ended_study_go_on(content: dict[str, Any]) -> None:
    settings = prepared(content)
    study = open_study(settings)
    pairs = [["clip-t", "llama-t"], ["dinov2-t", "llama-t"]]
    for pair in pairs:
        study.add_trial(
            create_trial(
                state=TrialState.FAIL, user_attrs={PAIR: pair, FAILURE: "the loss is nan"}
            )
        )
    study.set_user_attr(STOPPED_BECAUSE, "no candidate could be trained")
    assert is_finished(study, settings.model_copy(update={"also_score": []}))
    first, second = (Candidate(*pair) for pair in pairs)
    assert retry_failed(settings, ["clip-t + llama-t"]) == {first: "the loss is nan"}
    assert not is_finished(study, settings.model_copy(update={"also_score": []}))
    assert retry_failed(settings) == {second: "the loss is nan"}
    with pytest.raises(SearchError, match="has no failed candidate"):
        retry_failed(settings)


def test_a_retry_of_a_candidate_that_is_not_in_the_pool_is_refused(
    content: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match=r"--candidate: got 'clip'; .*'clip-t [+] llama-t'"):
        retry_failed(prepared(content), ["clip"])


def test_a_model_the_zoo_does_not_make_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    content["zoo"] = {"recipe": "tiny", "folder": str(folder)}
    content["pool"]["llms"][0]["location"] = str(folder / "llms" / "gpt")
    with pytest.raises(ConfigError, match="'tiny'; it makes .*llama-t.*mistral-t"):
        run_study(prepared(content), Silent())
    assert not folder.exists()


def prepared(content: dict[str, Any]) -> StudySettings:
    settings = parse_study(content)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    return settings
