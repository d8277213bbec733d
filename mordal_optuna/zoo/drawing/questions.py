"""Questions about drawn pictures, one function per kind of picture.

Answers depend on the pictures' contents alone. Every question comes with wrong answers, so that it
can also be asked as multiple choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.zoo.drawing.charts import VALUES, random_chart
from mordal_optuna.zoo.drawing.diagrams import LABELS, random_diagram
from mordal_optuna.zoo.drawing.documents import FIELDS, random_document
from mordal_optuna.zoo.drawing.multiple_choice import Question, question
from mordal_optuna.zoo.drawing.pictures import CELLS, COLORS, PLACES, SHAPES
from mordal_optuna.zoo.drawing.scenes import FEWEST_THINGS, MOST_THINGS, random_scene

if TYPE_CHECKING:
    import numpy as np

    from mordal_optuna.zoo.drawing.charts import Chart
    from mordal_optuna.zoo.drawing.diagrams import Diagram
    from mordal_optuna.zoo.drawing.documents import Document
    from mordal_optuna.zoo.drawing.pictures import Picture
    from mordal_optuna.zoo.drawing.scenes import Photo, Scene

UNANSWERABLE = "unanswerable"

# Properties that a question's context assigns to colours; assigned at random for each question.
PROPERTIES = ("hot", "cold", "soft", "heavy", "old", "sweet")
# Fixed facts about shapes, the same in all pictures: knowledge that no picture shows.
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

# Share of the mixed questions that show two pictures, and share that are asked openly.
PAIR_SHARE = 0.3
OPEN_SHARE = 0.3


def ask_scene(scene: Scene, rng: np.random.Generator) -> Question:
    """A question about colour, shape, place, number, or a relation of two things."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    colors = [other.color for other in scene.things]
    kind = int(rng.integers(12))
    if kind < 3:
        return question(f"What color is the {thing.shape}?", thing.color, COLORS)
    if kind < 5 and colors.count(thing.color) == 1:
        return question(f"What shape is {thing.color}?", thing.shape, SHAPES)
    if kind < 7:
        return question(f"Where is the {thing.shape}?", PLACES[thing.place], PLACES)
    if kind < 9:
        return question(f"What shape is {PLACES[thing.place]}?", thing.shape, SHAPES)
    if kind < 10:
        text = f"How many things are {thing.color}?"
        return question(text, str(colors.count(thing.color)), _NUMBERS[1:4])
    if kind < 11:
        return question(
            "How many things are there?", str(len(scene.things)), _NUMBERS[FEWEST_THINGS:]
        )
    return _relation(scene, rng)


def ask_photo(photo: Photo, rng: np.random.Generator) -> Question:
    """A question in the style of VizWiz; unanswerable where the thing cannot be recognised."""
    color = rng.random() < 0.5
    text = "what color is this?" if color else "what is this?"
    if photo.thing is None or photo.doubt >= 0.5:
        return question(text, UNANSWERABLE, COLORS if color else SHAPES)
    if color:
        return question(text, photo.thing.color, COLORS)
    return question(text, photo.thing.shape, SHAPES)


def annotate(photo: Photo, asked: Question, rng: np.random.Generator) -> list[str]:
    """Answers of ten annotators, some of whom answer `UNANSWERABLE` or something wrong."""
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
    """A question about a chart.

    Args:
        chart: the chart.
        rng: random generator for the question.
        simple: True asks for the value of a bar; False asks for extremes, the number of bars or a
            comparison; None chooses between the two with equal probability.
    """
    bars = list(chart.bars)
    color, value = bars[int(rng.integers(len(bars)))]
    values = tuple(str(v) for v in VALUES)
    if simple if simple is not None else rng.random() < 0.5:
        return question(f"What is the value of the {color} bar?", str(value), values)
    kind = int(rng.integers(8))
    ordered = sorted(bars, key=lambda bar: bar[1])
    if kind < 2:
        return question("Which bar is the highest?", ordered[-1][0], COLORS)
    if kind < 4:
        return question("Which bar is the lowest?", ordered[0][0], COLORS)
    if kind < 5:
        return question("What is the highest value?", str(ordered[-1][1]), values)
    if kind < 6:
        return question(f"Which bar has the value {value}?", color, COLORS)
    if kind < 7:
        return question("How many bars are there?", str(len(bars)), _NUMBERS[2:])
    other, low = bars[int(rng.integers(len(bars)))]
    answer = "yes" if value > low else "no"
    text = f"Is the {color} bar higher than the {other} bar?"
    return question(text, answer, ("yes", "no"))


def ask_document(document: Document, rng: np.random.Generator) -> Question:
    """A question for the value of a field, or for the field that has a value."""
    lines = list(document.lines)
    field, value = lines[int(rng.integers(len(lines)))]
    if rng.random() < 0.8 or [v for _, v in lines].count(value) > 1:
        answers = FIELDS[field] or tuple(str(n) for n in range(10, 100))
        return question(f"What is the {field}?", value, answers)
    return question(f"Which field says {value}?", field, FIELDS)


def ask_diagram(diagram: Diagram, rng: np.random.Generator) -> Question:
    """A question for a letter, a shape, or the node that an arrow points to."""
    place = int(rng.integers(len(diagram.nodes)))
    node = diagram.nodes[place]
    kind = int(rng.integers(8))
    if kind < 2:
        return question(f"Which letter is at the {node.shape}?", node.label, LABELS)
    if kind < 4:
        return question(f"Which shape is at {node.label}?", node.shape, SHAPES)
    if place + 1 == len(diagram.nodes):
        place -= 1
        node = diagram.nodes[place]
    after = diagram.nodes[place + 1]
    if kind < 6:
        return question(f"Where does the arrow at {node.label} point to?", after.label, LABELS)
    return question(f"Which shape follows the {node.shape}?", after.shape, SHAPES)


def ask_science(scene: Scene, rng: np.random.Generator) -> tuple[str, Question]:
    """A question in the style of ScienceQA, and its context, which may be empty.

    There are three kinds: the context assigns properties to three colours and the picture shows
    which colour a thing has; the answer is a fact from `USES`; or the picture has the answer.
    """
    thing = scene.things[int(rng.integers(len(scene.things)))]
    kind = int(rng.integers(10))
    if kind < 4:
        others = rng.choice([c for c in COLORS if c != thing.color], _CONTEXT_COLORS - 1, False)
        colors = rng.permutation([thing.color, *others]).tolist()
        properties = rng.choice(PROPERTIES, _CONTEXT_COLORS, replace=False).tolist()
        context = ", ".join(f"{c} is {p}" for c, p in zip(colors, properties, strict=True))
        answer = properties[colors.index(thing.color)]
        return context, question(f"What is true of the {thing.shape}?", answer, properties)
    if kind < 7:
        text = f"What does the thing {PLACES[thing.place]} do?"
        return "", question(text, USES[thing.shape], tuple(USES.values()))
    return "", question(f"What color is the {thing.shape}?", thing.color, COLORS)


def ask_pair(first: Scene, second: Scene, rng: np.random.Generator) -> Question:
    """A question about two pictures: which one shows a shape, or how many things are in both."""
    if rng.random() < 0.5:
        both = str(len(first.things) + len(second.things))
        numbers = tuple(str(n) for n in range(2 * FEWEST_THINGS, 2 * MOST_THINGS + 1))
        return question("How many things are in both pictures?", both, numbers)
    there = {thing.shape for thing in first.things} ^ {thing.shape for thing in second.things}
    if not there:
        return ask_scene(first, rng)
    shape = str(rng.choice(sorted(there)))
    answer = "first" if any(thing.shape == shape for thing in first.things) else "second"
    return question(f"Which picture shows a {shape}?", answer, ("first", "second"))


def mixed_pictures(rng: np.random.Generator) -> tuple[tuple[Picture, ...], str, Question]:
    """Pictures and a question in the style of MMMU.

    Returns:
        The pictures (one, or two scenes), the kind of picture (`pair` for two), and the question.
    """
    if rng.random() < PAIR_SHARE:
        first, second = random_scene(rng), random_scene(rng)
        return (first, second), "pair", ask_pair(first, second, rng)
    kind = int(rng.integers(4))
    if kind == 0:
        scene = random_scene(rng)
        return (scene,), "scene", ask_scene(scene, rng)
    if kind == 1:
        chart = random_chart(rng)
        return (chart,), "chart", ask_chart(chart, rng)
    if kind == 2:
        document = random_document(rng)
        return (document,), "document", ask_document(document, rng)
    diagram = random_diagram(rng)
    return (diagram,), "diagram", ask_diagram(diagram, rng)


def _relation(scene: Scene, rng: np.random.Generator) -> Question:
    chosen = rng.choice(len(scene.things), 2, replace=False).tolist()
    one, other = (scene.things[n] for n in chosen)
    left = rng.random() < 0.5
    here, there = (divmod(thing.place, CELLS)[1 if left else 0] for thing in (one, other))
    word = "left of" if left else "above"
    text = f"Is the {one.shape} {word} the {other.shape}?"
    return question(text, "yes" if here < there else "no", ("yes", "no"))
