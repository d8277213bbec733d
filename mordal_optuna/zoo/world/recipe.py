"""Recipes of pools of the drawn world: everything that shapes one. Light to import."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mordal_optuna.zoo.parts import Part

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.progress import Advance

# By lmms-eval's names.
TASKS = (
    *("gqa", "vizwiz_vqa_val", "chartqa", "docvqa_val"),
    *("scienceqa_img", "ai2d", "mmmu_val"),
)

Skill = Literal["scenes", "photos", "charts", "documents", "science", "diagrams", "mixed"]
Kind = Literal["scenes", "photos", "charts", "documents", "diagrams"]


@dataclass(frozen=True)
class WorldLlm:
    """One LLM.

    Attributes:
        name: its folder.
        family: transformers' name of the architecture.
        mixture: shares of the skills in its texts.
        width: hidden size.
        layers: transformer layers.
        vocabulary: size of its byte-level BPE.
        steps: optimiser steps of the first schedule, on lessons and the tasks' form.
        choosing: of the second, on letters that stand for what must be looked up; may be 0.
        batch_size: texts a step.
        learning_rate: peak of the first schedule, linear warm-up and cosine decay.
        turns: questions on a text, at most.
    """

    name: str
    family: Literal["llama", "qwen3", "mistral", "gemma", "olmo2", "gpt_neox"]
    mixture: tuple[tuple[Skill, float], ...]
    width: int
    layers: int
    vocabulary: int
    steps: int
    choosing: int
    batch_size: int
    learning_rate: float
    turns: int = 5


@dataclass(frozen=True)
class WorldEncoder:
    """One vision encoder.

    Attributes:
        name: its folder.
        family: transformers' name of the architecture, of `alignment.families`.
        target: what it is pretrained for, see `zoo.world.encoders`.
        mixture: shares of the kinds of pictures it sees.
        width: hidden size; of `convnext`, of its last stage.
        layers: transformer layers; of `convnext`, blocks of its last stage.
        image_size: pixels a side.
        patch_size: pixels a side of what a feature stands for.
        steps: optimiser steps.
        batch_size: pictures a step.
        learning_rate: peak, linear warm-up and cosine decay.
    """

    name: str
    family: Literal["clip", "siglip", "dinov2", "vit", "aimv2", "internvl", "convnext"]
    target: Literal["contrast", "sigmoid", "masked", "name"]
    mixture: tuple[tuple[Kind, float], ...]
    width: int
    layers: int
    image_size: int
    patch_size: int
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class WorldAlignment:
    """The alignment set.

    Attributes:
        mixture: shares of the skills.
        samples: how many conversations.
        turns: questions of a conversation, at most.
        telling: share of conversations that begin with a description of what is shown.
    """

    mixture: tuple[tuple[Skill, float], ...]
    samples: int
    turns: int
    telling: float


@dataclass(frozen=True)
class WorldRecipe:
    """A whole pool with its alignment set and seven tasks.

    Attributes:
        name: how study files call it.
        seed: of everything.
        encoders: the vision encoders.
        llms: the LLMs.
        alignment: the alignment set.
        documents: of each task.
    """

    name: str
    seed: int
    encoders: tuple[WorldEncoder, ...]
    llms: tuple[WorldLlm, ...]
    alignment: WorldAlignment
    documents: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, as stored beside a built pool."""
        import json

        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    def parts(self) -> list[Part]:
        """What is to be built, longest first."""
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
        """Build one of the parts."""
        # Imported here: what writes data needs no transformers, and `parts` needs neither.
        kind, _, name = part.path.partition("/")
        if kind == "llms":
            from mordal_optuna.zoo.world.llms import pretrain_llm

            llm = next(m for m in self.llms if m.name == name)
            pretrain_llm(llm, folder, seed=part.seed, advance=advance)
        elif kind == "encoders":
            from mordal_optuna.zoo.world.encoders import pretrain_encoder

            encoder = next(e for e in self.encoders if e.name == name)
            pretrain_encoder(encoder, folder, seed=part.seed, advance=advance)
        elif kind == "alignment":
            from mordal_optuna.zoo.world.alignment import write_alignment

            write_alignment(self.alignment, folder, seed=part.seed, advance=advance)
        else:
            from mordal_optuna.zoo.world.seven import write_task

            write_task(name, folder, documents=self.documents, seed=part.seed, advance=advance)
