"""The recipes that study files can name: the quick start's pool, and a tiny one for tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ZooError
from mordal_optuna.zoo.parts import Part
from mordal_optuna.zoo.recipe import EncoderRecipe, LlmRecipe
from mordal_optuna.zoo.tasks.names import TASKS

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance
    from mordal_optuna.zoo.parts import Recipe


@dataclass(frozen=True)
class ZooRecipe:
    """A whole pool with its alignment set and tasks.

    Attributes:
        name: name of the recipe in study files.
        seed: random seed; every part gets a different one derived from it.
        encoders: the vision encoders.
        llms: the LLMs.
        alignment_samples: number of conversations in the alignment set.
        test_documents: number of documents of the target task.
        scienceqa_documents: number of documents of the task in ScienceQA's schema.
        seven_documents: number of documents of each of the seven drawn benchmarks, for the tasks
            in `tasks/mordal_seven`.
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
        """The recipe as JSON values; the builder stores them in the pool's folder."""
        content: dict[str, Any] = asdict(self)
        content["encoders"] = list(content["encoders"])
        content["llms"] = list(content["llms"])
        return content

    def parts(self) -> list[Part]:
        """All parts, the longest first."""
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
        """Build one part; the folder is created."""
        # Imported here because `parts` and the data writers must not need transformers.
        kind, _, name = part.path.partition("/")
        if kind == "llms":
            from mordal_optuna.zoo.pretraining.llms import pretrain_llm

            llm = next(m for m in self.llms if m.name == name)
            pretrain_llm(llm, folder, seed=part.seed, advance=advance)
        elif kind == "encoders":
            from mordal_optuna.zoo.pretraining.encoders import pretrain_encoder

            encoder = next(e for e in self.encoders if e.name == name)
            pretrain_encoder(encoder, folder, seed=part.seed, advance=advance)
        else:
            _write_data(part, name, folder, advance)


def _write_data(part: Part, task: str, folder: Path, advance: Advance) -> None:
    """Write the alignment set, for which no task is named, or a task's documents."""
    from mordal_optuna.zoo.tasks import quickstart, seven

    count, seed = part.units, part.seed
    if not task:
        quickstart.write_alignment(folder, samples=count, seed=seed, advance=advance)
    elif task == "scenes":
        quickstart.write_scenes_task(folder, documents=count, seed=seed, advance=advance)
    elif task == "ScienceQA":
        quickstart.write_scienceqa_task(folder, documents=count, seed=seed, advance=advance)
    else:
        seven.write_task(task, folder, documents=count, seed=seed, advance=advance)


# The models differ as models on a hub do: in loss, size, patch size, corpus and length of
# pretraining. Small pictures and short training keep pool and search within minutes.
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

# Two of the architectures with four steps each, for end-to-end tests.
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


def recipe_named(name: str) -> Recipe:
    """The recipe of a given name.

    Raises:
        ZooError: if no recipe has this name.
    """
    for recipe in (QUICKSTART, TINY):
        if recipe.name == name:
            return recipe
    raise ZooError(f"zoo recipe {name!r} is not known; known are 'quickstart', 'tiny'")
