"""The recipe of the minigrid's pool: seven encoders and seven LLMs, as diverse as the paper's.

Encoders differ in loss, kinds of pictures, size and length of pretraining; LLMs in architecture,
skills, size and length. Nothing was chosen by how a search performs on the pool.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.minigrid.pool.recipe import (
    Kinds,
    MinigridAlignment,
    MinigridEncoder,
    MinigridLlm,
    Skills,
)
from mordal_optuna.zoo.parts import Part
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance


@dataclass(frozen=True)
class MinigridRecipe:
    """A pool with its alignment set and seven tasks.

    Attributes:
        name: name of the recipe, stored beside the pool.
        seed: random seed; every part gets a different one derived from it.
        encoders: the vision encoders.
        llms: the LLMs.
        alignment: the alignment set.
        documents: number of documents of each task.
    """

    name: str
    seed: int
    encoders: tuple[MinigridEncoder, ...]
    llms: tuple[MinigridLlm, ...]
    alignment: MinigridAlignment
    documents: int

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON values; the builder stores them in the pool's folder."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    def parts(self) -> list[Part]:
        """All parts, the longest first."""
        models = [
            Part(f"llms/{m.name}", m.steps + m.choosing, self.seed + 10 + n)
            for n, m in enumerate(self.llms)
        ]
        models += [
            Part(f"encoders/{e.name}", e.steps, self.seed + 30 + n)
            for n, e in enumerate(self.encoders)
        ]
        tasks = [Part(f"tasks/{name}", self.documents, self.seed + 60) for name in TASKS]
        return [*models, Part("alignment", self.alignment.samples, self.seed + 50), *tasks]

    def write(self, part: Part, folder: Path, advance: Advance) -> None:
        """Build one part; the folder is created."""
        # Imported here because `parts` and the data writers must not need transformers.
        kind, _, name = part.path.partition("/")
        if kind == "llms":
            from benchmarks.minigrid.pool.llms import pretrain_llm

            llm = next(m for m in self.llms if m.name == name)
            pretrain_llm(llm, folder, seed=part.seed, advance=advance)
        elif kind == "encoders":
            from benchmarks.minigrid.pool.encoders import pretrain_encoder

            encoder = next(e for e in self.encoders if e.name == name)
            pretrain_encoder(encoder, folder, seed=part.seed, advance=advance)
        elif kind == "alignment":
            from benchmarks.minigrid.pool.alignment import write_alignment

            write_alignment(self.alignment, folder, seed=part.seed, advance=advance)
        else:
            from mordal_optuna.zoo.tasks.seven import write_task

            write_task(name, folder, documents=self.documents, seed=part.seed, advance=advance)


_BROAD: Kinds = (
    ("scenes", 1.0),
    ("photos", 0.5),
    ("charts", 1.0),
    ("documents", 1.0),
    ("diagrams", 1.0),
)
# Captioned pictures from the web show more things than pages.
_THINGS: Kinds = (
    ("scenes", 3.0),
    ("photos", 1.5),
    ("charts", 1.0),
    ("documents", 0.5),
    ("diagrams", 0.5),
)
_LETTERS: Kinds = (
    ("scenes", 0.3),
    ("photos", 0.1),
    ("charts", 1.0),
    ("documents", 4.0),
    ("diagrams", 0.7),
)
_FIGURES: Kinds = (
    ("scenes", 0.5),
    ("photos", 0.2),
    ("charts", 2.0),
    ("documents", 0.3),
    ("diagrams", 2.0),
)

_GENERAL: Skills = (
    ("scenes", 1.5),
    ("photos", 0.3),
    ("charts", 1.0),
    ("documents", 1.0),
    ("science", 1.0),
    ("diagrams", 1.0),
    ("mixed", 1.0),
)
# `_GENERAL` with more multiple choice, which is the hardest skill to learn.
_SCHOOL: Skills = (
    ("scenes", 1.5),
    ("photos", 0.3),
    ("charts", 1.0),
    ("documents", 1.0),
    ("science", 1.5),
    ("diagrams", 1.5),
    ("mixed", 1.5),
)
_RELATIONS: Skills = (
    ("scenes", 4.0),
    ("photos", 0.5),
    ("charts", 0.5),
    ("documents", 0.3),
    ("science", 1.5),
    ("diagrams", 0.5),
    ("mixed", 1.0),
)
_NUMBERS: Skills = (
    ("scenes", 0.5),
    ("photos", 0.2),
    ("charts", 4.0),
    ("documents", 1.0),
    ("diagrams", 0.5),
    ("mixed", 0.5),
)
_READING: Skills = (
    ("scenes", 0.5),
    ("photos", 0.5),
    ("charts", 1.0),
    ("documents", 3.0),
    ("diagrams", 0.5),
)
_CHOICES: Skills = (
    ("scenes", 0.5),
    ("photos", 0.2),
    ("science", 2.0),
    ("diagrams", 2.0),
    ("mixed", 1.5),
)

MINIGRID = MinigridRecipe(
    name="minigrid",
    seed=6100,
    encoders=(
        MinigridEncoder("clip-m", "clip", "contrast", _THINGS, 128, 4, 72, 12, 450, 48, 1e-2),
        MinigridEncoder("siglip-m", "siglip", "sigmoid", _BROAD, 128, 3, 72, 12, 450, 48, 1e-2),
        MinigridEncoder("dinov2-m", "dinov2", "masked", _BROAD, 128, 4, 72, 12, 300, 48, 3e-3),
        MinigridEncoder("vit-read", "vit", "name", _LETTERS, 96, 4, 72, 12, 400, 48, 1e-2),
        MinigridEncoder(
            "internvit-fig", "internvl", "name", _FIGURES, 96, 4, 80, 16, 450, 48, 1e-2
        ),
        MinigridEncoder("convnext-s", "convnext", "name", _BROAD, 128, 2, 80, 16, 300, 48, 5e-3),
        MinigridEncoder("aimv2-xs", "aimv2", "sigmoid", _BROAD, 64, 3, 64, 16, 150, 32, 1e-2),
    ),
    llms=(
        MinigridLlm("llama-m", "llama", _GENERAL, 128, 4, 512, 880, 0, 16, 3e-3, 8),
        MinigridLlm("olmo2-mc", "olmo2", _CHOICES, 128, 4, 512, 880, 900, 16, 3e-3, 8),
        MinigridLlm("qwen3-rel", "qwen3", _RELATIONS, 128, 4, 512, 720, 720, 16, 3e-3, 8),
        MinigridLlm("mistral-num", "mistral", _NUMBERS, 128, 3, 512, 720, 0, 16, 3e-3, 8),
        MinigridLlm("gemma-read", "gemma", _READING, 96, 4, 512, 720, 0, 16, 3e-3, 8),
        MinigridLlm("olmo2-s", "olmo2", _SCHOOL, 96, 4, 512, 640, 900, 16, 3e-3, 8),
        MinigridLlm("neox-xs", "gpt_neox", _GENERAL, 64, 3, 512, 300, 0, 16, 3e-3, 8),
    ),
    alignment=MinigridAlignment(_GENERAL, samples=16384, turns=4, telling=1.0),
    documents=300,
)
