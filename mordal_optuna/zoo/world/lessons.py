"""First lessons of an LLM: what questions need, taught apart before it comes together.

Looking one thing up among few, copying, and naming the letter of an option that is given away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.zoo.questions import LETTERS, Question
from mordal_optuna.zoo.world import questions as q
from mordal_optuna.zoo.world.charts import random_chart
from mordal_optuna.zoo.world.diagrams import LABELS
from mordal_optuna.zoo.world.documents import FIELDS, random_document
from mordal_optuna.zoo.world.pictures import COLORS, SHAPES
from mordal_optuna.zoo.world.samples import Sample, Turn, describing
from mordal_optuna.zoo.world.scenes import random_scene

if TYPE_CHECKING:
    import numpy as np

    from mordal_optuna.zoo.world.pictures import Picture

# Things of a lesson's scene, and the share of lessons without a picture.
_MOST_THINGS = 3
_LETTERS_SHARE = 0.25
_OPTIONS = (
    *(tuple(COLORS), SHAPES, LABELS, q.PROPERTIES, tuple(q.USES.values())),
    *(words for words in FIELDS.values() if words),
)


def lesson(turns: int, rng: np.random.Generator, *, telling: bool) -> Sample:
    """A sample with open questions on something simple, or with options that need no picture.

    Args:
        turns: how many questions at most.
        rng: of everything in it.
        telling: whether what is shown is to be described first.
    """
    if rng.random() < _LETTERS_SHARE:
        return Sample((), tuple(_given_away(rng) for _ in range((turns + 1) // 2)))
    shown: tuple[Picture, ...]
    kind = int(rng.integers(4))
    if kind < 2:
        scene = random_scene(rng, most=_MOST_THINGS)
        asked = [q.ask_scene(scene, rng) for _ in range(turns)]
        shown, prompt = (scene,), q.short_prompt
    elif kind == 2:
        chart = random_chart(rng)
        asked = [q.ask_chart(chart, rng) for _ in range(turns)]
        shown, prompt = (chart,), q.word_prompt
    else:
        page = random_document(rng)
        asked = [q.ask_document(page, rng) for _ in range(turns)]
        shown, prompt = (page,), q.short_prompt
    answered = dict.fromkeys(Turn(prompt(x.text), x.answer) for x in asked)
    return Sample(shown, (*describing(shown, telling=telling), *answered))


def _given_away(rng: np.random.Generator) -> Turn:
    """The letter of an option that the question names."""
    words = _OPTIONS[int(rng.integers(len(_OPTIONS)))]
    answer = str(rng.choice(words))
    others = tuple(word for word in words if word != answer)
    choice = q.offer(Question(f"Which option says {answer}?", answer, others), rng)
    return Turn(q.choice_prompt(choice), LETTERS[choice.answer])
