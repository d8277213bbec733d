"""Questions about drawn pictures: answers follow from the pictures, wrong answers are wrong."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mordal_optuna.zoo.drawing import questions as q
from mordal_optuna.zoo.drawing.charts import random_chart
from mordal_optuna.zoo.drawing.diagrams import random_diagram
from mordal_optuna.zoo.drawing.documents import random_document
from mordal_optuna.zoo.drawing.scenes import Photo, Thing, random_photo, random_scene

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = (
    (random_scene, q.ask_scene),
    (random_photo, q.ask_photo),
    (random_chart, q.ask_chart),
    (random_document, q.ask_document),
    (random_diagram, q.ask_diagram),
)


@pytest.mark.parametrize(("make", "ask"), KINDS)
def test_the_answer_is_not_among_the_wrong_ones(
    make: Callable[..., Any], ask: Callable[..., q.Question]
) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        asked = ask(make(rng), rng)
        assert asked.others
        assert asked.answer not in asked.others


def test_values_of_charts_are_read_from_the_bars() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        chart = random_chart(rng)
        asked = q.ask_chart(chart, rng, simple=True)
        color = asked.text.removeprefix("What is the value of the ").removesuffix(" bar?")
        assert int(asked.answer) == dict(chart.bars)[color]
        assert not q.ask_chart(chart, rng, simple=False).text.startswith("What is the value of")


def test_relations_compare_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    seen = Counter[str]()
    while min(seen["left of"], seen["above"]) < 20:
        scene = random_scene(rng)
        asked = q.ask_scene(scene, rng)
        for word, axis in (("left of", 1), ("above", 0)):
            if f" {word} the " not in asked.text:
                continue
            first, second = asked.text.removeprefix("Is the ").rstrip("?").split(f" {word} the ")
            place = {thing.shape: divmod(thing.place, 3)[axis] for thing in scene.things}
            assert asked.answer == ("yes" if place[first] < place[second] else "no")
            seen[word] += 1


def test_annotators_doubt_what_cannot_be_recognised() -> None:
    rng = np.random.default_rng(0)
    clear, dark = (Photo(Thing("red", "star", 4), 0, "dark", s) for s in (0.0, 1.0))
    for photo, least, most in ((clear, 0.0, 0.15), (dark, 0.85, 1.0)):
        asked = q.ask_photo(photo, rng)
        answers = [answer for _ in range(50) for answer in q.annotate(photo, asked, rng)]
        assert least <= answers.count(q.UNANSWERABLE) / len(answers) <= most


def test_a_context_gives_the_property_of_the_colour() -> None:
    rng = np.random.default_rng(0)
    with_context = 0
    for _ in range(100):
        scene = random_scene(rng)
        context, asked = q.ask_science(scene, rng)
        if context:
            with_context += 1
            shape = asked.text.removeprefix("What is true of the ").rstrip("?")
            color = next(thing.color for thing in scene.things if thing.shape == shape)
            assert dict(part.split(" is ") for part in context.split(", "))[color] == asked.answer
    assert 20 < with_context < 60


def test_mixed_questions_show_one_or_two_pictures() -> None:
    rng = np.random.default_rng(0)
    kinds = Counter[tuple[str, int]]()
    for _ in range(200):
        pictures, kind, _ = q.mixed_pictures(rng)
        kinds[kind, len(pictures)] += 1
    assert set(kinds) == {
        ("pair", 2),
        *((k, 1) for k in ("scene", "chart", "document", "diagram")),
    }
    assert kinds["pair", 2] / 200 == pytest.approx(q.PAIR_SHARE, abs=0.08)
