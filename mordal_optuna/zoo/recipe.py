"""Recipes: everything that shapes an embedded pool. Light to import."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mordal_optuna.errors import ZooError
from mordal_optuna.zoo.parts import Part
from mordal_optuna.zoo.world.minigrid import MINIGRID
from mordal_optuna.zoo.world.recipe import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.parts import Recipe


@dataclass(frozen=True)
class EncoderRecipe:
    """One vision encoder.

    Attributes:
        name: its folder.
        family: architecture and target: clip (contrastive), siglip (sigmoid), dinov2 (masked
            patches, no language).
        width: hidden size.
        layers: transformer layers.
        image_size: pixels a side.
        patch_size: pixels a side of a patch.
        steps: optimiser steps.
        batch_size: scenes a step.
        learning_rate: peak, linear warm-up and cosine decay.
    """

    name: str
    family: Literal["clip", "siglip", "dinov2"]
    width: int
    layers: int
    image_size: int
    patch_size: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class LlmRecipe:
    """One LLM.

    Attributes:
        name: its folder.
        family: architecture.
        corpus: `questions` (described scenes with questions and answers) or `captions` (mostly
            descriptions, few questions).
        width: hidden size.
        layers: transformer layers.
        vocabulary: size of its byte-level BPE.
        steps: optimiser steps.
        batch_size: texts a step.
        learning_rate: peak, linear warm-up and cosine decay.
    """

    name: str
    family: Literal["llama", "qwen2", "mistral"]
    corpus: Literal["questions", "captions"]
    width: int
    layers: int
    vocabulary: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class ZooRecipe:
    """A whole pool with its alignment set and tasks.

    Attributes:
        name: how study files call it.
        seed: of everything.
        encoders: the vision encoders.
        llms: the LLMs.
        alignment_samples: size of the alignment set.
        test_documents: documents of the target task.
        scienceqa_documents: documents of the task in ScienceQA's form.
        seven_documents: documents of each of the seven drawn benchmarks, for their tasks in
            `tasks/mordal_seven`.
    """

    name: str
    seed: int
    encoders: tuple[EncoderRecipe, ...]
    llms: tuple[LlmRecipe, ...]
    alignment_samples: int
    test_documents: int
    scienceqa_documents: int
    seven_documents: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, as stored beside a built pool."""
        content: dict[str, Any] = asdict(self)
        content["encoders"] = list(content["encoders"])
        content["llms"] = list(content["llms"])
        return content

    def parts(self) -> list[Part]:
        """What is to be built, longest first."""
        models = [
            Part(f"llms/{m.name}", m.steps, self.seed + 10 + n) for n, m in enumerate(self.llms)
        ]
        models += [
            Part(f"encoders/{e.name}", e.steps, self.seed + 20 + n)
            for n, e in enumerate(self.encoders)
        ]
        return [
            *models,
            Part("alignment", self.alignment_samples, self.seed + 30),
            Part("tasks/scenes", self.test_documents, self.seed + 40),
            Part("tasks/ScienceQA", self.scienceqa_documents, self.seed + 50),
            *(Part(f"tasks/{name}", self.seven_documents, self.seed + 60) for name in TASKS),
        ]

    def write(self, part: Part, folder: Path, advance: Advance) -> None:
        """Build one of the parts; a missing folder is made."""
        # Imported here: what writes data needs no transformers, and `parts` needs neither.
        from mordal_optuna.zoo import datasets

        kind, _, name = part.path.partition("/")
        seed = part.seed
        if kind == "llms":
            from mordal_optuna.zoo.llms import pretrain_llm

            llm = next(m for m in self.llms if m.name == name)
            pretrain_llm(llm, folder, seed=seed, advance=advance)
        elif kind == "encoders":
            from mordal_optuna.zoo.encoders import pretrain_encoder

            encoder = next(e for e in self.encoders if e.name == name)
            pretrain_encoder(encoder, folder, seed=seed, advance=advance)
        elif kind == "alignment":
            datasets.write_alignment(folder, samples=part.units, seed=seed, advance=advance)
        elif name == "scenes":
            datasets.write_scenes_task(folder, documents=part.units, seed=seed, advance=advance)
        elif name == "ScienceQA":
            datasets.write_scienceqa_task(folder, documents=part.units, seed=seed, advance=advance)
        else:
            from mordal_optuna.zoo.world.seven import write_task

            write_task(name, folder, documents=part.units, seed=seed, advance=advance)


# Parts that differ in what models on a hub differ in: objective, size, patch size, corpus and
# length of pretraining. Small pictures and short training keep pool and search within minutes.
QUICKSTART = ZooRecipe(
    name="quickstart",
    seed=20260,
    encoders=(
        EncoderRecipe("clip-m", "clip", 96, 3, 32, 8, 240, 32, 3e-3),
        EncoderRecipe("siglip-s", "siglip", 64, 2, 32, 8, 120, 32, 3e-3),
        EncoderRecipe("dinov2-s", "dinov2", 64, 2, 32, 8, 150, 32, 3e-3),
        EncoderRecipe("siglip-xs", "siglip", 32, 1, 32, 16, 40, 32, 3e-3),
    ),
    llms=(
        LlmRecipe("llama-m", "llama", "questions", 96, 2, 384, 240, 16, 3e-3),
        LlmRecipe("qwen2-s", "qwen2", "questions", 64, 2, 384, 120, 16, 3e-3),
        LlmRecipe("mistral-s", "mistral", "captions", 64, 1, 320, 120, 16, 3e-3),
        LlmRecipe("llama-xs", "llama", "captions", 32, 1, 320, 80, 16, 3e-3),
    ),
    alignment_samples=4096,
    test_documents=1000,
    scienceqa_documents=100,
    seven_documents=40,
)

# The same architectures, hardly trained: for tests of the whole product.
TINY = ZooRecipe(
    name="tiny",
    seed=7,
    encoders=(
        EncoderRecipe("clip-t", "clip", 32, 2, 32, 8, 4, 8, 1e-3),
        EncoderRecipe("dinov2-t", "dinov2", 32, 2, 32, 8, 4, 8, 1e-3),
    ),
    llms=(
        LlmRecipe("llama-t", "llama", "questions", 32, 2, 320, 4, 8, 1e-3),
        LlmRecipe("mistral-t", "mistral", "captions", 32, 2, 320, 4, 8, 1e-3),
    ),
    alignment_samples=64,
    test_documents=16,
    scienceqa_documents=8,
    seven_documents=8,
)


def recipe(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ZooError: if there is none of this name.
    """
    known: tuple[Recipe, ...] = (QUICKSTART, MINIGRID, TINY)
    for found in known:
        if found.name == name:
            return found
    raise ZooError(f"zoo recipe {name!r} is not known; known are 'quickstart', 'minigrid', 'tiny'")
