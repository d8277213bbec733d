"""Pretraining texts of the minigrid's LLMs: lessons first, then prompts in the form of the tasks.

A lesson has many short look-ups about one picture described in words: marks recalled in any order,
questions answered immediately, letters of options, and questions about one list of options. The
form of the tasks, in which a look-up is five times as long, follows once those are learned. The
second schedule teaches multiple choice, where a word must be looked up first and then matched with
the options.

Half of the pictures are described in words. In the other half each mark is at one position, with
all its words at once, as a patch's projected feature may be: an LLM that was pretrained on text
alone for seconds needs most of an alignment to accept such positions; a real LLM does not.

A text is a list of segments: context, answer, context, answer, ...; only answers are trained.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from benchmarks.minigrid.pool import prompts
from benchmarks.minigrid.pool.samples import CHOICE_SKILLS, DESCRIBE, SKILLS, pick, random_sample
from mordal_optuna.zoo.drawing import questions as q
from mordal_optuna.zoo.drawing.charts import random_chart
from mordal_optuna.zoo.drawing.diagrams import LABELS, random_diagram
from mordal_optuna.zoo.drawing.documents import FIELDS, random_document
from mordal_optuna.zoo.drawing.multiple_choice import CHOICE_PROMPT, LETTERS, Choice, Question
from mordal_optuna.zoo.drawing.pictures import COLORS, SHAPES, describe
from mordal_optuna.zoo.drawing.scenes import random_photo, random_scene
from mordal_optuna.zoo.pretraining.tokenizer import BOS, EOS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from benchmarks.minigrid.pool.recipe import Skill
    from benchmarks.minigrid.pool.samples import Sample
    from mordal_optuna.zoo.drawing.pictures import Picture
    from mordal_optuna.zoo.drawing.scenes import Scene

    Tell = Callable[[Picture], str]

# Share of the steps with only the simplest lessons; duration in which the share of texts in the
# form of the tasks then grows; and its final value.
_FIRST = 0.2
_GROWTH = 0.45
_TASK_SHARE = 0.8
# Share of scenes among the first lessons; share of lessons with options among the later lessons
# of choice skills; share of these that have options without a picture, at the start and the end.
_SCENE_SHARE = 0.6
_OPTION_SHARE = 0.75
_LETTER_SHARES = (0.6, 0.2)
_RECALL_SHARE = 0.5
_TELLING_SHARE = 0.25
_RECALLED = _ASKED = 8
_LETTERED = 10
_MOST_OPTIONS = 4
_SHOWN_SHARE = 0.5
# Delimiters of a mark whose words are all at one position.
SHOWN_START, SHOWN_END = "\x02", "\x03"
# Second schedule: share of texts whose questions name the right option, at the start and the end,
# and number of such questions per text; initial share of texts with letters alone; share of texts
# of open skills; final share of the form of the tasks among the other texts, and the progress at
# which it is reached.
_STATED_SHARES = (0.5, 0.2)
_STATED = 6
_LETTERS_SHARE = 0.15
_OPEN_TEXTS = 0.15
_CHOICE_TASK_SHARE = 0.8
_CHOICE_GROWTH = 0.3
_OFFERED = re.compile(rf"^(?:{BOS}USER: )?([{LETTERS}])\. (.+)$", re.MULTILINE)
_OPTIONS = (
    *(tuple(COLORS), SHAPES, LABELS, q.PROPERTIES, tuple(q.USES.values())),
    *(words for words in FIELDS.values() if words),
)


def shown(picture: Picture) -> str:
    """A picture's description with each mark at one position."""
    return "".join(f"{SHOWN_START} {mark.text}{SHOWN_END}" for mark in picture.marks())


def segments(sample: Sample, tell: Tell = describe) -> list[str]:
    """A sample as the chat template renders it: context, answer, context, answer, ...

    Args:
        sample: pictures and turns.
        tell: function that describes a picture: `describe` or `shown`.
    """
    parts = []
    description = "".join(f"{tell(picture)}\n" for picture in sample.pictures)
    start = f"{BOS}USER: {description}"
    for turn in sample.turns:
        parts += [f"{start}{turn.prompt} ASSISTANT:", f" {turn.answer}{EOS}"]
        start = "USER: "
    return parts


def text(
    mixture: Mapping[Skill, float], turns: int, progress: float, rng: np.random.Generator
) -> list[str]:
    """Segments of a random text of the first schedule.

    Args:
        mixture: relative shares of the skills.
        turns: largest number of questions of a text in the form of the tasks.
        progress: share of the schedule that is done, 0..1.
        rng: random generator for the text.
    """
    skill = pick(mixture, rng)
    tell = _tell(rng)
    first = progress < _FIRST
    grown = min(1.0, max(0.0, (progress - _FIRST) / _GROWTH))
    if not first and rng.random() < _TASK_SHARE * grown:
        telling = bool(rng.random() < _TELLING_SHARE)
        return segments(random_sample(skill, turns, rng, telling=telling), tell)
    if first and rng.random() < _SCENE_SHARE:
        return _looked_up("scenes", tell, rng)
    kind = _KIND_OF.get(skill) or str(rng.choice(list(_KINDS)))
    if not first and skill in CHOICE_SKILLS and rng.random() < _OPTION_SHARE:
        early, late = _LETTER_SHARES
        if rng.random() < early + (late - early) * grown:
            return _letters(rng)
        return _chosen(kind, tell, rng)
    return _looked_up(kind, tell, rng)


def choosing(
    mixture: Mapping[Skill, float], turns: int, progress: float, rng: np.random.Generator
) -> list[str]:
    """Segments of a random text of the second schedule; the arguments are those of `text`."""
    drawn = rng.random()
    tell = _tell(rng)
    early, late = _STATED_SHARES
    stated = early + (late - early) * progress
    if drawn < stated:
        return _stated(rng)
    if drawn < stated + _LETTERS_SHARE * (1 - progress):
        return _letters(rng)
    if drawn > 1 - _OPEN_TEXTS:
        return segments(random_sample(_of(mixture, rng, choice=False), turns, rng), tell)
    skill = _of(mixture, rng, choice=True)
    if rng.random() < _CHOICE_TASK_SHARE * min(1.0, progress / _CHOICE_GROWTH):
        return segments(random_sample(skill, turns, rng), tell)
    return _chosen(_KIND_OF.get(skill) or str(rng.choice(list(_KINDS))), tell, rng)


def meant(parts: list[str]) -> list[str]:
    """The word that each answer of a text means; a letter means its option in the last list.

    Args:
        parts: segments: context, answer, context, answer, ...

    Returns:
        One word or phrase per answer, each with a leading space.
    """
    options: dict[str, str] = {}
    words = []
    for context, answer in zip(parts[::2], parts[1::2], strict=True):
        options = dict(_OFFERED.findall(context)) or options
        given = answer.removesuffix(EOS).removesuffix(";").strip()
        words.append(f" {options.get(given, given)}")
    return words


def _tell(rng: np.random.Generator) -> Tell:
    return shown if rng.random() < _SHOWN_SHARE else describe


def _of(mixture: Mapping[Skill, float], rng: np.random.Generator, *, choice: bool) -> Skill:
    """A random skill of the mixture among the multiple-choice skills, or among the others."""
    return pick({s: share for s, share in mixture.items() if (s in CHOICE_SKILLS) == choice}, rng)


def _looked_up(kind: str, tell: Tell, rng: np.random.Generator) -> list[str]:
    """A picture, its marks again in any order, and short questions."""
    make, ask = _KINDS[kind]
    picture = make(rng)
    start = f"{BOS}USER: {tell(picture)}\n"
    recalled = []
    if rng.random() < _RECALL_SHARE:
        recalled = _recalled(picture, f"{start}{DESCRIBE} ASSISTANT:", rng)
        start = "\n"
    for _ in range(_ASKED):
        asked = ask(picture, rng)
        recalled += [f"{start}{asked.text}", f" {asked.answer}"]
        start = "\n"
    return recalled


def _recalled(picture: Picture, start: str, rng: np.random.Generator) -> list[str]:
    """Marks in random order with their words in random order; the first word of each is given."""
    marks = picture.marks()
    parts = []
    for _ in range(_RECALLED):
        words = marks[int(rng.integers(len(marks)))].text.split()
        given, *others = rng.permutation(words).tolist()
        parts += [f"{start} {given}", "".join(f" {word}" for word in others) + ";"]
        start = ""
    return parts


def _letters(rng: np.random.Generator) -> list[str]:
    """A list of options, then options to be completed by their letters, or letters by options."""
    offered = _offered(rng)
    start = f"{BOS}USER: {_listed(offered)}"
    parts = []
    for _ in range(_LETTERED):
        place = int(rng.integers(len(offered)))
        word, letter = offered[place], LETTERS[place]
        given, wanted = (word, letter) if rng.random() < 0.5 else (letter, word)
        parts += [f"{start} {given}", f" {wanted};"]
        start = ""
    return parts


def _stated(rng: np.random.Generator) -> list[str]:
    """Questions in the form of the tasks that name the right option."""
    start = f"{BOS}USER: "
    parts = []
    for _ in range(_STATED):
        offered = _offered(rng)
        place = int(rng.integers(len(offered)))
        choice = Choice(f"Which is {offered[place]}?", tuple(offered), place)
        parts += [f"{start}{prompts.choice_prompt(choice)} ASSISTANT:", f" {LETTERS[place]}{EOS}"]
        start = "USER: "
    return parts


def _offered(rng: np.random.Generator) -> list[str]:
    words = _OPTIONS[int(rng.integers(len(_OPTIONS)))]
    count = int(rng.integers(2, _MOST_OPTIONS + 1))
    offered: list[str] = rng.choice(words, count, replace=False).tolist()
    return offered


def _chosen(kind: str, tell: Tell, rng: np.random.Generator) -> list[str]:
    """A picture, a list of options, and questions whose answers are among the options."""
    make, ask = _KINDS[kind]
    picture = make(rng)
    asked = {question.text: question for question in (ask(picture, rng) for _ in range(_ASKED))}
    offered = list(dict.fromkeys(x.answer for x in asked.values()))[:_MOST_OPTIONS]
    if len(offered) == 1:
        offered.append(next(iter(asked.values())).others[0])
    offered = rng.permutation(offered).tolist()
    start = f"{BOS}USER: {tell(picture)}\n{_listed(offered)}"
    parts = []
    for question in asked.values():
        if question.answer in offered:
            letter = LETTERS[offered.index(question.answer)]
            parts += [f"{start}{question.text}\n{CHOICE_PROMPT} ASSISTANT:", f" {letter}"]
            start = "\n"
    return parts


def _listed(offered: list[str]) -> str:
    return "".join(f"{LETTERS[n]}. {word}\n" for n, word in enumerate(offered))


def _ask_science(scene: Scene, rng: np.random.Generator) -> Question:
    context, asked = q.ask_science(scene, rng)
    if not context:
        return asked
    return Question(f"Context: {context}\n{asked.text}", asked.answer, asked.others)


# Functions that draw a picture and ask about it, by kind.
_KINDS: dict[str, tuple[Callable[[np.random.Generator], Any], Callable[..., Question]]] = {
    "scenes": (random_scene, q.ask_scene),
    "photos": (random_photo, q.ask_photo),
    "charts": (random_chart, q.ask_chart),
    "documents": (random_document, q.ask_document),
    "science": (random_scene, _ask_science),
    "diagrams": (random_diagram, q.ask_diagram),
}
# The kind of picture of each skill; mixed samples use any kind.
_KIND_OF: dict[Skill, str] = {s: s for s in SKILLS if s != "mixed"}
