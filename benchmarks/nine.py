"""The pool of nine pairs on which `schedules` and `resume` were measured: the first quick start's.

    uv run python -m benchmarks.nine runs/nine

builds the pool; nine.yaml is its study.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mordal_optuna.config import parse_study
from mordal_optuna.reporting.console import ConsoleProgress
from mordal_optuna.zoo.build import build
from mordal_optuna.zoo.quickstart import ZooRecipe
from mordal_optuna.zoo.recipe import EncoderRecipe, LlmRecipe

if TYPE_CHECKING:
    from mordal_optuna.config import StudySettings

NINE = ZooRecipe(
    name="nine",
    seed=20260,
    encoders=(
        EncoderRecipe("clip-s", "clip", 96, 4, 48, 8, 320, 32, 3e-3),
        EncoderRecipe("siglip-s", "siglip", 96, 3, 48, 8, 260, 32, 3e-3),
        EncoderRecipe("dinov2-xs", "dinov2", 64, 3, 48, 8, 200, 32, 3e-3),
    ),
    llms=(
        LlmRecipe("llama-s", "llama", "questions", 128, 3, 384, 240, 16, 3e-3),
        LlmRecipe("qwen2-s", "qwen2", "questions", 96, 3, 384, 260, 16, 3e-3),
        LlmRecipe("mistral-xs", "mistral", "captions", 64, 2, 320, 200, 16, 3e-3),
    ),
    alignment_samples=3072,
    test_documents=320,
    scienceqa_documents=100,
    seven_documents=40,
)


def study(zoo: Path) -> StudySettings:
    """The study of the nine pairs.

    Args:
        zoo: folder of the built pool.
    """
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return parse_study(yaml.safe_load(text.replace("runs/nine", zoo.as_posix())))


if __name__ == "__main__":
    with ConsoleProgress() as progress:
        build(NINE, Path(sys.argv[1]), progress)
