"""Samples of the seven skills: pictures with turns of question and answer.

LLMs are pretrained on samples with the pictures described in words; pairs are aligned on samples
with the pictures themselves. The two use different random generators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from benchmarks.minigrid.pool import prompts
from benchmarks.minigrid.pool.recipe import Skill
from mordal_optuna.zoo.drawing import questions as q
from mordal_optuna.zoo.drawing.charts import random_chart
from mordal_optuna.zoo.drawing.diagrams import random_diagram
from mordal_optuna.zoo.drawing.documents import random_document
from mordal_optuna.zoo.drawing.multiple_choice import LETTERS, offer
from mordal_optuna.zoo.drawing.pictures import describe
from mordal_optuna.zoo.drawing.scenes import random_photo, random_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mordal_optuna.zoo.drawing.multiple_choice import Choice
    from mordal_optuna.zoo.drawing.pictures import Picture

SKILLS: tuple[Skill, ...] = get_args(Skill)

# Skills whose questions are multiple choice.
CHOICE_SKILLS = ("science", "diagrams", "mixed")
DESCRIBE = "Describe."


@dataclass(frozen=True)
class Turn:
    """A question in the prompt of its task, and the answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """Pictures, all shown before the first turn, and turns about them."""

    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...]


def random_sample(
    skill: Skill, turns: int, rng: np.random.Generator, *, telling: bool = False
) -> Sample:
    """A random sample of one skill.

    Args:
        skill: the skill.
        turns: largest number of questions; repeated questions are asked once.
        rng: random generator for pictures and questions.
        telling: whether the first turn asks for a description of the pictures.
    """
    pictures, ask = _MAKERS[skill](rng)
    if skill in CHOICE_SKILLS:  # these questions are twice as long
        turns = (turns + 1) // 2
    asked = dict.fromkeys(ask() for _ in range(turns))
    return Sample(pictures, (*describing(pictures, telling=telling), *asked))


def describing(pictures: Sequence[Picture], *, telling: bool) -> tuple[Turn, ...]:
    """The turn that asks for a description of the pictures; empty if `telling` is False."""
    if not telling:
        return ()
    return (Turn(DESCRIBE, "\n".join(describe(picture) for picture in pictures)),)


def pick(mixture: Mapping[Skill, float], rng: np.random.Generator) -> Skill:
    """A random skill; probabilities are proportional to the shares of the mixture."""
    skills = list(mixture)
    shares = np.array([mixture[skill] for skill in skills])
    return skills[int(rng.choice(len(skills), p=shares / shares.sum()))]


def _chosen(choice: Choice, prompt: str) -> Turn:
    return Turn(prompt, LETTERS[choice.answer])


def _scenes(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    scene = random_scene(rng)

    def ask() -> Turn:
        asked = q.ask_scene(scene, rng)
        return Turn(prompts.short_prompt(asked.text), asked.answer)

    return (scene,), ask


def _photos(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    photo = random_photo(rng)

    def ask() -> Turn:
        asked = q.ask_photo(photo, rng)
        return Turn(prompts.doubt_prompt(asked.text), asked.answer)

    return (photo,), ask


def _charts(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    chart = random_chart(rng)

    def ask() -> Turn:
        asked = q.ask_chart(chart, rng)
        return Turn(prompts.word_prompt(asked.text), asked.answer)

    return (chart,), ask


def _documents(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    document = random_document(rng)

    def ask() -> Turn:
        asked = q.ask_document(document, rng)
        return Turn(prompts.short_prompt(asked.text), asked.answer)

    return (document,), ask


def _science(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    scene = random_scene(rng)

    def ask() -> Turn:
        context, asked = q.ask_science(scene, rng)
        choice = offer(asked, rng)
        return _chosen(choice, prompts.choice_prompt(choice, context))

    return (scene,), ask


def _diagrams(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    diagram = random_diagram(rng)

    def ask() -> Turn:
        choice = offer(q.ask_diagram(diagram, rng), rng)
        return _chosen(choice, prompts.choice_prompt(choice))

    return (diagram,), ask


def _mixed(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    pictures, _, asked = q.mixed_pictures(rng)

    def ask() -> Turn:
        if rng.random() < q.OPEN_SHARE:
            return Turn(prompts.mixed_open_prompt(asked.text), asked.answer)
        choice = offer(asked, rng)
        return _chosen(choice, prompts.mixed_choice_prompt(choice))

    return pictures, ask


_MAKERS = {
    "scenes": _scenes,
    "photos": _photos,
    "charts": _charts,
    "documents": _documents,
    "science": _science,
    "diagrams": _diagrams,
    "mixed": _mixed,
}
