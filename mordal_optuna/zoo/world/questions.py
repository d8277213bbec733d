"""Questions on pictures, one set a skill, and the prompts the seven tasks put them in.

Answers follow from the pictures' contents alone; wrong answers that could stand beside the right
one come along, so that every question can become a multiple-choice one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.zoo.questions import CHOICE_PROMPT, LETTERS, Choice, Question
from mordal_optuna.zoo.world.charts import VALUES
from mordal_optuna.zoo.world.diagrams import LABELS
from mordal_optuna.zoo.world.documents import FIELDS
from mordal_optuna.zoo.world.pictures import CELLS, COLORS, PLACES, SHAPES
from mordal_optuna.zoo.world.scenes import FEWEST_THINGS, MOST_THINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from mordal_optuna.zoo.world.charts import Chart
    from mordal_optuna.zoo.world.diagrams import Diagram
    from mordal_optuna.zoo.world.documents import Document
    from mordal_optuna.zoo.world.scenes import Photo, Scene

# Upstream's own words.
SHORT_PROMPT = "Answer the question using a single word or phrase."
WORD_PROMPT = "Answer the question with a single word."
DOUBT_PROMPT = "When the provided information is insufficient, respond with 'Unanswerable'."
UNANSWERABLE = "unanswerable"

# What may be said of a colour in a context; which of them is said changes with every question.
PROPERTIES = ("hot", "cold", "soft", "heavy", "old", "sweet")
# What is true of shapes in every picture: to be known, not seen.
USES = {
    "circle": "rolls",
    "square": "stands",
    "triangle": "points",
    "cross": "marks",
    "star": "shines",
    "ring": "holds",
}
_NUMBERS = tuple(str(n) for n in range(MOST_THINGS + 1))
_CONTEXT_COLORS = 3


def ask_scene(scene: Scene, rng: np.random.Generator) -> Question:
    """Colour, shape, place, number, or a relation of two things."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    colors = [other.color for other in scene.things]
    kind = int(rng.integers(12))
    if kind < 3:
        return _question(f"What color is the {thing.shape}?", thing.color, COLORS)
    if kind < 5 and colors.count(thing.color) == 1:
        return _question(f"What shape is {thing.color}?", thing.shape, SHAPES)
    if kind < 7:
        return _question(f"Where is the {thing.shape}?", PLACES[thing.place], PLACES)
    if kind < 9:
        return _question(f"What shape is {PLACES[thing.place]}?", thing.shape, SHAPES)
    if kind < 10:
        text = f"How many things are {thing.color}?"
        return _question(text, str(colors.count(thing.color)), _NUMBERS[1:4])
    if kind < 11:
        return _question(
            "How many things are there?", str(len(scene.things)), _NUMBERS[FEWEST_THINGS:]
        )
    return _relation(scene, rng)


def ask_photo(photo: Photo, rng: np.random.Generator) -> Question:
    """As somebody who cannot see it would ask; unanswerable where most could not tell."""
    color = rng.random() < 0.5
    text = "what color is this?" if color else "what is this?"
    if photo.thing is None or photo.doubt >= 0.5:
        return _question(text, UNANSWERABLE, COLORS if color else SHAPES)
    if color:
        return _question(text, photo.thing.color, COLORS)
    return _question(text, photo.thing.shape, SHAPES)


def annotate(photo: Photo, asked: Question, rng: np.random.Generator) -> list[str]:
    """What ten annotators answer: some doubt what others see, some name something else."""
    if photo.thing is None:
        right = UNANSWERABLE
    else:
        right = photo.thing.color if "color" in asked.text else photo.thing.shape
    answers = []
    for _ in range(10):
        if rng.random() < 0.05 + 0.9 * photo.doubt:
            answers.append(UNANSWERABLE)
        else:
            answers.append(right if rng.random() < 0.9 else str(rng.choice(asked.others)))
    return answers


def ask_chart(chart: Chart, rng: np.random.Generator, *, simple: bool | None = None) -> Question:
    """A bar's value; or, less simple, extremes, numbers of bars and differences.

    Args:
        chart: what is asked about.
        rng: of the question.
        simple: whether a value is asked for; None asks for one every other time.
    """
    bars = list(chart.bars)
    color, value = bars[int(rng.integers(len(bars)))]
    values = tuple(str(v) for v in VALUES)
    if simple if simple is not None else rng.random() < 0.5:
        return _question(f"What is the value of the {color} bar?", str(value), values)
    kind = int(rng.integers(8))
    ordered = sorted(bars, key=lambda bar: bar[1])
    if kind < 2:
        return _question("Which bar is the highest?", ordered[-1][0], COLORS)
    if kind < 4:
        return _question("Which bar is the lowest?", ordered[0][0], COLORS)
    if kind < 5:
        return _question("What is the highest value?", str(ordered[-1][1]), values)
    if kind < 6:
        return _question(f"Which bar has the value {value}?", color, COLORS)
    if kind < 7:
        return _question("How many bars are there?", str(len(bars)), _NUMBERS[2:])
    other, low = bars[int(rng.integers(len(bars)))]
    answer = "yes" if value > low else "no"
    text = f"Is the {color} bar higher than the {other} bar?"
    return _question(text, answer, ("yes", "no"))


def ask_document(document: Document, rng: np.random.Generator) -> Question:
    """The value of a field, or the field of a value."""
    lines = list(document.lines)
    field, value = lines[int(rng.integers(len(lines)))]
    if rng.random() < 0.8 or [v for _, v in lines].count(value) > 1:
        answers = FIELDS[field] or tuple(str(n) for n in range(10, 100))
        return _question(f"What is the {field}?", value, answers)
    return _question(f"Which field says {value}?", field, FIELDS)


def ask_diagram(diagram: Diagram, rng: np.random.Generator) -> Question:
    """A letter, a shape, or what an arrow points to."""
    place = int(rng.integers(len(diagram.nodes)))
    node = diagram.nodes[place]
    kind = int(rng.integers(8))
    if kind < 2:
        return _question(f"Which letter is at the {node.shape}?", node.label, LABELS)
    if kind < 4:
        return _question(f"Which shape is at {node.label}?", node.shape, SHAPES)
    if place + 1 == len(diagram.nodes):
        place -= 1
        node = diagram.nodes[place]
    after = diagram.nodes[place + 1]
    if kind < 6:
        return _question(f"Where does the arrow at {node.label} point to?", after.label, LABELS)
    return _question(f"Which shape follows the {node.shape}?", after.shape, SHAPES)


def ask_science(scene: Scene, rng: np.random.Generator) -> tuple[str, Question]:
    """A question with its context, which may be empty.

    Either the context says what is true of three colours, and the picture which of them a thing
    has; or what a shape is for must be known; or the picture alone answers.
    """
    thing = scene.things[int(rng.integers(len(scene.things)))]
    kind = int(rng.integers(10))
    if kind < 4:
        others = rng.choice([c for c in COLORS if c != thing.color], _CONTEXT_COLORS - 1, False)
        colors = rng.permutation([thing.color, *others]).tolist()
        told = rng.choice(PROPERTIES, _CONTEXT_COLORS, replace=False).tolist()
        context = ", ".join(f"{c} is {p}" for c, p in zip(colors, told, strict=True))
        answer = told[colors.index(thing.color)]
        return context, _question(f"What is true of the {thing.shape}?", answer, told)
    if kind < 7:
        text = f"What does the thing {PLACES[thing.place]} do?"
        return "", _question(text, USES[thing.shape], tuple(USES.values()))
    return "", _question(f"What color is the {thing.shape}?", thing.color, COLORS)


def ask_pair(first: Scene, second: Scene, rng: np.random.Generator) -> Question:
    """A question on two pictures: which of them shows something, or how many things both do."""
    if rng.random() < 0.5:
        both = str(len(first.things) + len(second.things))
        numbers = tuple(str(n) for n in range(2 * FEWEST_THINGS, 2 * MOST_THINGS + 1))
        return _question("How many things are in both pictures?", both, numbers)
    there = {thing.shape for thing in first.things} ^ {thing.shape for thing in second.things}
    if not there:
        return ask_scene(first, rng)
    shape = str(rng.choice(sorted(there)))
    answer = "first" if any(thing.shape == shape for thing in first.things) else "second"
    return _question(f"Which picture shows a {shape}?", answer, ("first", "second"))


def offer(question: Question, rng: np.random.Generator, *, most: int = 4) -> Choice:
    """A question as a multiple-choice one, with as many options as there are, at most `most`."""
    count = min(most - 1, len(question.others))
    wrong = rng.choice(question.others, count, replace=False).tolist()
    place = int(rng.integers(count + 1))
    return Choice(question.text, (*wrong[:place], question.answer, *wrong[place:]), place)


def short_prompt(text: str) -> str:
    """As `gqa` and `docvqa_val` ask."""
    return f"{text}\n{SHORT_PROMPT}"


def doubt_prompt(text: str) -> str:
    """As `vizwiz_vqa_val` asks."""
    return f"{text.capitalize()}\n{DOUBT_PROMPT}\n{SHORT_PROMPT}"


def word_prompt(text: str) -> str:
    """As `chartqa` asks."""
    return f"{text}\n{WORD_PROMPT}"


def choice_prompt(choice: Choice, context: str = "") -> str:
    """As `scienceqa_img` and `ai2d` ask."""
    return f"Context: {context}\n{choice.prompt()}" if context else choice.prompt()


def mixed_choice_prompt(choice: Choice) -> str:
    """As `mmmu_val` asks a multiple-choice question."""
    lines = [
        f"{letter}. {option}" for letter, option in zip(LETTERS, choice.options, strict=False)
    ]
    return "\n".join([choice.text, *lines, "", CHOICE_PROMPT])


def mixed_open_prompt(text: str) -> str:
    """As `mmmu_val` asks an open question."""
    return f"{text}\n\n{SHORT_PROMPT}"


def _relation(scene: Scene, rng: np.random.Generator) -> Question:
    chosen = rng.choice(len(scene.things), 2, replace=False).tolist()
    one, other = (scene.things[n] for n in chosen)
    left = rng.random() < 0.5
    here, there = (divmod(thing.place, CELLS)[1 if left else 0] for thing in (one, other))
    word = "left of" if left else "above"
    text = f"Is the {one.shape} {word} the {other.shape}?"
    return _question(text, "yes" if here < there else "no", ("yes", "no"))


def _question(text: str, answer: str, answers: Iterable[str]) -> Question:
    return Question(text, answer, tuple(other for other in answers if other != answer))
