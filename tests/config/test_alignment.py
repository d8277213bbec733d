"""The training recipe: one source of data, whole batches, bounds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mordal_optuna.config import AlignmentSettings, DatasetSettings, LoraSettings, parse_study
from mordal_optuna.errors import ConfigError

DATA = DatasetSettings(path="owner/data")


@pytest.mark.parametrize(
    ("alignment", "sentence"),
    [
        ({"samples": 64}, "give either `conversations`"),
        ({"conversations": ".", "dataset": {"path": "x"}}, "give either `conversations`"),
        ({"conversations": "."}, "images: missing; `conversations` name images relative"),
        ({"dataset": {"path": "x", "streaming": True}}, "samples: missing; a stream"),
        (
            {
                "dataset": {"path": "x", "streaming": True},
                "samples": 64,
                "batch_size": 8,
                "skip_broken_images": 0.1,
            },
            "skip_broken_images: got 0.1 for a stream",
        ),
        ({"dataset": {"path": "x", "colums": "y"}}, "colums: unknown key"),
    ],
)
def test_alignment_data_come_from_one_place(
    content: dict[str, Any], alignment: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_study({**content, "alignment": alignment})


@pytest.mark.parametrize(
    ("samples", "size"),
    [(100, 8), (4096, 8), (8191, 8), (8192, 16), (65_535, 64), (65_536, 128), (10**6, 128)],
)
def test_the_default_batch_size_leaves_512_steps(samples: int, size: int) -> None:
    """The largest power of two up to 128; never below 8; a set batch size stays."""
    settings = AlignmentSettings(dataset=DATA)
    assert settings.batch_size_for(samples) == size
    assert settings.batch_size_for(samples // size * size) == size
    assert AlignmentSettings(dataset=DATA, batch_size=128).batch_size_for(samples) == 128


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 0.0},
        {"warmup_samples": -1},
        {"skip_broken_images": 1.0},
        {"average_width": 0.28},
        {"cooldown": 0.0},
        {"weight_decay": -0.1},
        {"max_gradient_norm": 0.0},
        {"max_length": 0},
        {"micro_batch_size": 0},
        {"schedule": "step"},
    ],
)
def test_values_outside_their_documented_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AlignmentSettings(dataset=DATA, **options)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}])
def test_lora_values_outside_their_documented_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoraSettings(**options)
