"""Resuming: a study that has spent something keeps its configuration and inputs."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState, create_trial

from mordal_optuna.config import parse_study
from mordal_optuna.driver import open_study
from mordal_optuna.errors import InputsChangedError, StudyMismatchError
from mordal_optuna.files.inputs import Change, Inputs
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    CONFIG,
    FULL_SAMPLES,
    PAIR,
    REPRESENTATION,
    RUNGS,
    TEMPLATE_DATE,
)
from mordal_optuna.study.resuming import (
    begin,
    check_candidate,
    free_name,
    with_advice,
    with_template_date,
)

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from mordal_optuna.config import StudySettings

NOW = Inputs(
    {"data": {"a": "1"}, "llm:llama-t": {"weights": "2"}, "task:mordal_scenes": {"x": "3"}}
)
OTHER = Inputs({**NOW.parts, "llm:llama-t": {"weights": "9"}})


class Notes(Silent):
    """Keeps all notes."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.told.append(text)


@pytest.fixture
def content(study_content: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A study whose models need not exist."""
    return study_content | {"storage": f"sqlite:///{tmp_path / 'shared.db'}"}


def settings_of(content: dict[str, Any], **changes: Any) -> StudySettings:
    return parse_study({**content, **changes})


def corrected(content: dict[str, Any]) -> StudySettings:
    return settings_of(content, alignment={**content["alignment"], "batch_size": 16})


def spend(study: Study, *rungs: tuple[str, str, int]) -> None:
    """Store a trial for each rung; a failed one if there is none."""
    for encoder, llm, samples in rungs or (("clip-t", "llama-t", 0),):
        details = {str(samples): {"stderr": 0.1, "train_seconds": 1.0, "eval_seconds": 1.0}}
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if samples else TrialState.FAIL,
                intermediate_values={samples: 0.5} if samples else {},
                user_attrs={PAIR: [encoder, llm], **({RUNGS: details} if samples else {})},
            )
        )


def test_a_study_that_has_spent_nothing_accepts_a_corrected_file(content: dict[str, Any]) -> None:
    """Whether it was opened, refused or begun: the newest file and inputs count."""
    study = open_study(settings_of(content))
    assert CONFIG not in study.user_attrs
    begin(study, settings_of(content), NOW, Silent())
    begin(open_study(corrected(content)), corrected(content), OTHER, Silent())
    spend(study)
    begin(open_study(corrected(content)), corrected(content), OTHER, Silent())
    with pytest.raises(StudyMismatchError):
        open_study(settings_of(content))


def test_a_configuration_stored_before_any_cost_does_not_bind(content: dict[str, Any]) -> None:
    study = open_study(settings_of(content))
    study.set_user_attr(CONFIG, settings_of(content).fingerprint())
    begin(open_study(corrected(content)), corrected(content), NOW, Silent())


@pytest.mark.parametrize("spent", ["trial", "comparison"])
def test_a_study_that_has_spent_something_is_bound(content: dict[str, Any], spent: str) -> None:
    """To its configuration and inputs; errors name the changed keys and inputs."""
    study = open_study(settings_of(content))
    begin(study, settings_of(content), NOW, Silent())
    if spent == "trial":
        spend(study)
    else:
        study.set_user_attr(REPRESENTATION, {"any": 1})
    begin(open_study(settings_of(content)), settings_of(content), NOW, Silent())
    with pytest.raises(StudyMismatchError) as mismatch:
        open_study(corrected(content))
    assert mismatch.value.differences == ["alignment.batch_size: 8 stored, 16 given"]
    assert "`--as NAME`" in str(mismatch.value)
    with pytest.raises(InputsChangedError) as changed:
        begin(study, settings_of(content), OTHER, Silent())
    assert changed.value.changes == (Change("llm:llama-t", "weights"),)


def test_each_study_of_a_database_is_bound_to_its_own_configuration(
    content: dict[str, Any],
) -> None:
    first, second = settings_of(content), settings_of(content, study="other", seed=3)
    for settings, inputs in ((first, NOW), (second, OTHER)):
        study = open_study(settings)
        begin(study, settings, inputs, Silent())
        spend(study)
    begin(open_study(first), first, NOW, Silent())
    begin(open_study(second), second, OTHER, Silent())
    with pytest.raises(StudyMismatchError, match="seed: 3 stored, 0 given"):
        open_study(settings_of(content, study="other"))


def test_a_study_that_an_older_version_began_is_bound_from_now_on(content: dict[str, Any]) -> None:
    """With a note, since earlier changes cannot be noticed."""
    settings, notes = settings_of(content), Notes()
    study = open_study(settings)
    study.set_user_attr(CONFIG, settings.fingerprint())
    spend(study)
    begin(study, settings, NOW, notes)
    assert "stored no digests" in notes.told[0]
    with pytest.raises(InputsChangedError):
        begin(study, settings, OTHER, notes)


def test_only_changes_of_its_own_models_or_data_stop_a_candidates_export(
    content: dict[str, Any],
) -> None:
    settings = settings_of(content)
    study = open_study(settings)
    begin(study, settings, NOW, Silent())
    mine, others = settings.models().candidates[:2]
    assert (mine.llm, others.llm) == ("llama-t", "mistral-t")
    with pytest.raises(InputsChangedError, match="the weights of llama-t"):
        check_candidate(study, settings, OTHER, mine)
    check_candidate(study, settings, OTHER, others)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([Change("llm:llama-t", "chat template")], "reusing 1 of 4 rungs"),
        ([Change("vision_encoder:clip-t", "weights")], "reusing 1 of 4 rungs"),
        ([Change("data", "images")], "reusing 0 of 4 rungs"),
        ([Change("data", "images"), Change("task:mordal_scenes", "prompt")], "reusing 0 of 4"),
        (
            [Change("task:mordal_scenes", "prompt")],
            "reusing the checkpoints of 3 of 4 rungs, which are only scored again on mordal_sc",
        ),
        ([Change("task:scienceqa_img", "prompt")], "reusing 3 of 4 rungs"),
    ],
)
def test_the_advice_counts_reusable_rungs(
    content: dict[str, Any], changes: list[Change], words: str
) -> None:
    """Those with unchanged encoder, LLM and data whose checkpoint is still kept."""
    settings = settings_of(content)
    study = open_study(settings)
    for pair, samples in ((("clip-t", "llama-t"), 8), (("clip-t", "llama-t"), 16)):
        spend(study, (*pair, samples))
    spend(study, ("clip-t", "mistral-t", 8), ("dinov2-t", "llama-t", 8))

    found = InputsChangedError("tiny", changes)
    error = with_advice(found, study, settings, lambda _: [8])  # that at 16 was deleted
    assert words in str(error)
    assert "`--as tiny-2`" in str(error)
    assert "\n" not in str(error)


def test_a_free_name_is_one_that_no_study_has(content: dict[str, Any]) -> None:
    for name, free in (("tiny", "tiny-2"), ("tiny-2", "tiny-3"), ("TINY-3", "TINY-4")):
        settings = settings_of(content, study=name)
        assert free_name(settings) == free
        open_study(settings)
    assert free_name(settings_of(content)) == "tiny-4"


def test_the_date_of_templates_is_the_day_on_which_a_study_began(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves while nothing is spent, and never after."""
    study = open_study(settings_of(content))
    assert dated(study, content, monkeypatch, "2026-03-01") == date(2026, 3, 1)
    assert dated(study, content, monkeypatch, "2026-03-02") == date(2026, 3, 2)
    spend(study)
    assert dated(study, content, monkeypatch, "2026-03-03") == date(2026, 3, 2)
    llm = with_template_date(study, settings_of(content)).models().llms[0]
    assert llm.template.date == "2026-03-02"


def test_a_given_date_is_kept_and_no_other_is_accepted_later(content: dict[str, Any]) -> None:
    given = settings_of(content, template_date="2025-12-24")
    study = open_study(given)
    assert with_template_date(study, given).template_date == date(2025, 12, 24)
    spend(study)
    assert with_template_date(study, settings_of(content)).template_date == date(2025, 12, 24)
    with pytest.raises(StudyMismatchError, match="2025-12-24 stored, 2025-12-25 given"):
        with_template_date(study, settings_of(content, template_date="2025-12-25"))


def test_a_study_of_an_older_version_keeps_the_real_date(content: dict[str, Any]) -> None:
    study = open_study(settings_of(content))
    spend(study)
    assert with_template_date(study, settings_of(content)).template_date is None
    assert TEMPLATE_DATE not in study.user_attrs


@pytest.mark.parametrize("given", [None, "2026-01-01"])
@pytest.mark.parametrize("stored", ["2025-12-24", None])
def test_a_study_that_extends_another_has_its_date(
    content: dict[str, Any], given: str | None, stored: str | None
) -> None:
    """Unless its file gives one; none if an older version began the other study."""
    earlier = open_study(settings_of(content))
    begin(earlier, settings_of(content), NOW, Silent())
    earlier.set_user_attr(FULL_SAMPLES, 64)
    if stored:
        earlier.set_user_attr(TEMPLATE_DATE, stored)
    date_of = {"template_date": given} if given else {}
    grown = settings_of(content, study="grown", extends="tiny", **date_of)
    study = open_study(grown)
    study.set_user_attr(TEMPLATE_DATE, "2020-02-02")  # by a start that spent nothing
    expected = date.fromisoformat(given or stored) if given or stored else None  # type: ignore[arg-type]
    for _ in range(2):
        assert with_template_date(study, grown).template_date == expected
        spend(study)


def dated(
    study: Study, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch, today: str
) -> date | None:
    """The date of a study's templates when it is opened on a day."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromisoformat(f"{today}T12:00:00").replace(tzinfo=tz)

    with monkeypatch.context() as patch:
        patch.setattr("mordal_optuna.study.resuming.datetime", Clock)
        return with_template_date(study, settings_of(content)).template_date
