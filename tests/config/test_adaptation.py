"""Defaults for small alignment sets: a pure function of D and of what the study file sets."""

from __future__ import annotations

from typing import Any

import pytest

from mordal_optuna.config import adapted, kept_as_given, parse_study, read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import ConfigError
from mordal_optuna.search.rungs import build_rungs

# Sizes from a hundred samples to LLaVA's.
SIZES = (100, 592, 1000, 3072, 5000, 8192, 20_000, 65_535, 65_536, 100_000, 137_000, 665_000)


def study(**sections: dict[str, Any]) -> Any:  # noqa: ANN401
    """A study file that sets only what is given."""
    content: dict[str, Any] = {
        "study": "mine",
        "workdir": "runs/mine",
        "pool": {
            "vision_encoders": [{"name": "clip", "location": "openai/clip"}],
            "llms": [{"name": "qwen", "location": "Qwen/Qwen2-0.5B"}],
        },
        "alignment": {"dataset": {"path": "owner/data"}},
        "task": {"name": "gqa"},
    }
    for name, section in sections.items():
        content[name] = {**content.get(name, {}), **section}
    return parse_study(content)


def whole(size: int, settings: Any) -> int:  # noqa: ANN401
    """D: the number of samples rounded down to whole batches."""
    batch = settings.alignment.batch_size_for(size)
    return int(size // batch * batch)


@pytest.mark.parametrize("size", SIZES)
def test_the_lowest_rung_trains_beyond_the_warm_up(size: int) -> None:
    """At least 3 steps, at least half of them at the full rate, whatever the size."""
    settings = study()
    full_samples = whole(size, settings)
    chosen, _ = adapted(settings, full_samples)
    batch, search = chosen.alignment.batch_size, chosen.search
    rungs = build_rungs(
        full_samples,
        first_ratio=search.first_ratio,
        max_ratio=search.max_ratio,
        eta=search.eta,
        multiple=batch,
    )
    assert len(rungs) == search.fit_points
    assert rungs[0] >= 3 * batch
    assert size < 592 or rungs[0] >= 14 * batch
    assert chosen.alignment.warmup_samples <= rungs[0] / 2
    assert chosen.alignment.warmup_samples <= 0.03 * full_samples
    assert chosen.representation.warmup_samples <= rungs[0]


@pytest.mark.parametrize("size", SIZES)
def test_adapted_settings_stay_as_they_are(size: int) -> None:
    """D gives the same as the available samples; adapting twice changes nothing."""
    settings = study()
    full_samples = whole(size, settings)
    chosen, _ = adapted(settings, full_samples)
    assert chosen.alignment.batch_size == settings.alignment.batch_size_for(size)
    again, line = adapted(chosen, full_samples)
    assert line is None
    assert again == chosen
    assert again.fingerprint() == chosen.fingerprint()


def test_chosen_values_are_listed_in_one_line() -> None:
    _, line = adapted(study(), 592)
    assert line == (
        "592 samples: batch_size 8 instead of 128, warmup_samples 16 instead of 2048, "
        "representation.warmup_samples 144 instead of 1280, search.first_ratio 0.24 instead of "
        "0.03, search.max_ratio 0.5 instead of 0.0625; set them to choose otherwise"
    )


def test_what_the_study_file_sets_is_never_changed() -> None:
    """Set to the schema's own default as well as to another value."""
    settings = study(
        alignment={"batch_size": 128, "warmup_samples": 2048},
        representation={"warmup_samples": 1280},
        search={"first_ratio": 0.03, "max_ratio": 0.0625},
    )
    assert adapted(settings, 512) == (settings, None)
    one = study(search={"max_ratio": 0.25}, alignment={"warmup_samples": 640})
    chosen, line = adapted(one, 592)
    assert (chosen.search.first_ratio, chosen.search.max_ratio) == (0.03, 0.25)
    assert chosen.alignment.warmup_samples == 640
    assert chosen.alignment.batch_size == 8
    assert "ratio" not in (line or "")


def test_nothing_changes_on_much_data() -> None:
    settings = study()
    assert adapted(settings, 137_216) == (settings, None)
    chosen, line = adapted(settings, 65_536)
    assert (
        line == "65,536 samples: warmup_samples 896 instead of 2048; set them to choose otherwise"
    )
    assert chosen.search == settings.search


def test_shipped_studies_keep_what_they_say() -> None:
    settings = read_study(shipped("studies") / "quickstart.yaml")
    assert adapted(settings, settings.alignment.samples or 0) == (settings, None)


@pytest.mark.parametrize("method", ["mordal-faithful", "all-at-ratio", "cross"])
def test_presets_keep_their_ratios(method: str) -> None:
    settings = study(search={"method": method})
    assert adapted(settings, 592)[0].search == settings.search


def test_a_given_size_must_be_whole_batches_of_what_is_chosen_for_it() -> None:
    assert study(alignment={"samples": 592}).alignment.batch_size_for(592) == 8
    with pytest.raises(ConfigError, match="samples: 593 is .* of batches of 8; 592 is"):
        study(alignment={"samples": 593})
    with pytest.raises(ConfigError, match="samples: 592 is .* of batches of 128; 512 is"):
        study(alignment={"samples": 592, "batch_size": 128})


def test_a_study_of_an_older_version_keeps_the_schemas_defaults() -> None:
    settings = study()
    kept = kept_as_given(settings)
    assert adapted(kept, 512) == (kept, None)
    assert kept.fingerprint() == settings.fingerprint()
