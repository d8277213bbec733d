"""Samples of the seven skills: pictures with turns of question and answer.

The same samples are what LLMs read, with the pictures told in words, and what pairs are aligned
on, with the pictures shown; each from a generator of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from mordal_optuna.zoo.questions import LETTERS
from mordal_optuna.zoo.world import questions as q
from mordal_optuna.zoo.world.charts import random_chart
from mordal_optuna.zoo.world.diagrams import random_diagram
from mordal_optuna.zoo.world.documents import random_document
from mordal_optuna.zoo.world.pictures import describe
from mordal_optuna.zoo.world.recipe import Skill
from mordal_optuna.zoo.world.scenes import random_photo, random_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mordal_optuna.zoo.questions import Choice, Question
    from mordal_optuna.zoo.world.pictures import Picture

SKILLS: tuple[Skill, ...] = get_args(Skill)

# Skills that ask with options.
CHOICE_SKILLS = ("science", "diagrams", "mixed")
# Share of the mixed samples that show two pictures, and that ask openly.
PAIR_SHARE = 0.3
OPEN_SHARE = 0.3
DESCRIBE = "Describe."


@dataclass(frozen=True)
class Turn:
    """What is asked, as a task asks it, and the answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """Pictures, all shown before the first turn, and turns on them."""

    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...]


def random_sample(
    skill: Skill, turns: int, rng: np.random.Generator, *, telling: bool = False
) -> Sample:
    """A sample of one skill.

    Args:
        skill: what it exercises.
        turns: how many questions at most; one that comes out twice is asked once.
        rng: of everything in it.
        telling: whether the pictures are to be described first.
    """
    pictures, ask = _MAKERS[skill](rng)
    if skill in CHOICE_SKILLS:  # their questions are twice as long
        turns = (turns + 1) // 2
    asked = dict.fromkeys(ask() for _ in range(turns))
    return Sample(pictures, (*describing(pictures, telling=telling), *asked))


def describing(pictures: Sequence[Picture], *, telling: bool) -> tuple[Turn, ...]:
    """The turn that asks for a description, if there is to be one."""
    if not telling:
        return ()
    return (Turn(DESCRIBE, "\n".join(describe(picture) for picture in pictures)),)


def mixed_pictures(rng: np.random.Generator) -> tuple[tuple[Picture, ...], str, Question]:
    """Pictures of a mixed sample, its subject's kind, and a question."""
    if rng.random() < PAIR_SHARE:
        first, second = random_scene(rng), random_scene(rng)
        return (first, second), "pair", q.ask_pair(first, second, rng)
    kind = int(rng.integers(4))
    if kind == 0:
        scene = random_scene(rng)
        return (scene,), "scene", q.ask_scene(scene, rng)
    if kind == 1:
        chart = random_chart(rng)
        return (chart,), "chart", q.ask_chart(chart, rng)
    if kind == 2:
        document = random_document(rng)
        return (document,), "document", q.ask_document(document, rng)
    diagram = random_diagram(rng)
    return (diagram,), "diagram", q.ask_diagram(diagram, rng)


def pick(mixture: Mapping[Skill, float], rng: np.random.Generator) -> Skill:
    """A skill, drawn by its share of the mixture."""
    skills = list(mixture)
    shares = np.array([mixture[skill] for skill in skills])
    return skills[int(rng.choice(len(skills), p=shares / shares.sum()))]


def _chosen(choice: Choice, prompt: str) -> Turn:
    return Turn(prompt, LETTERS[choice.answer])


def _scenes(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    scene = random_scene(rng)

    def ask() -> Turn:
        asked = q.ask_scene(scene, rng)
        return Turn(q.short_prompt(asked.text), asked.answer)

    return (scene,), ask


def _photos(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    photo = random_photo(rng)

    def ask() -> Turn:
        asked = q.ask_photo(photo, rng)
        return Turn(q.doubt_prompt(asked.text), asked.answer)

    return (photo,), ask


def _charts(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    chart = random_chart(rng)

    def ask() -> Turn:
        asked = q.ask_chart(chart, rng)
        return Turn(q.word_prompt(asked.text), asked.answer)

    return (chart,), ask


def _documents(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    document = random_document(rng)

    def ask() -> Turn:
        asked = q.ask_document(document, rng)
        return Turn(q.short_prompt(asked.text), asked.answer)

    return (document,), ask


def _science(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    scene = random_scene(rng)

    def ask() -> Turn:
        context, asked = q.ask_science(scene, rng)
        choice = q.offer(asked, rng)
        return _chosen(choice, q.choice_prompt(choice, context))

    return (scene,), ask


def _diagrams(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    diagram = random_diagram(rng)

    def ask() -> Turn:
        choice = q.offer(q.ask_diagram(diagram, rng), rng)
        return _chosen(choice, q.choice_prompt(choice))

    return (diagram,), ask


def _mixed(rng: np.random.Generator) -> tuple[tuple[Picture, ...], Callable[[], Turn]]:
    pictures, _, asked = mixed_pictures(rng)

    def ask() -> Turn:
        if rng.random() < OPEN_SHARE:
            return Turn(q.mixed_open_prompt(asked.text), asked.answer)
        choice = q.offer(asked, rng)
        return _chosen(choice, q.mixed_choice_prompt(choice))

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
