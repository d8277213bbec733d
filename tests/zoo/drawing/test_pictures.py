"""All kinds of pictures: marks lie inside, and the same seed draws the same bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mordal_optuna.zoo.drawing.board import draw
from mordal_optuna.zoo.drawing.board import random_scene as random_board
from mordal_optuna.zoo.drawing.board_questions import ask, choose
from mordal_optuna.zoo.drawing.charts import random_chart
from mordal_optuna.zoo.drawing.diagrams import random_diagram
from mordal_optuna.zoo.drawing.documents import random_document
from mordal_optuna.zoo.drawing.pictures import MOST_WORDS, SIZE, describe
from mordal_optuna.zoo.drawing.questions import mixed_pictures
from mordal_optuna.zoo.drawing.scenes import random_photo, random_scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.zoo.drawing.pictures import Picture

MAKERS = (random_scene, random_photo, random_chart, random_document, random_diagram)
# SHA-256 of pixels and words: committed results come from these very pictures and questions.
PICTURES = {
    "random_scene": "ed8a74b6ebd8ed029f3390003e48ff493a5553c29e7d8190618f7ba9398a38b8",
    "random_photo": "3be52e26b45d33730fb8e435666b90db6268d0f282b96885960dc8390b694a6a",
    "random_chart": "49d23672a10ce587c5e63e12ea96e17dd0c0a7049ab456afe586caaad67cd5ff",
    "random_document": "9139875aa9809c19fbb95a267edc7707923f8a543108c33d0a7ba37c4fab937b",
    "random_diagram": "a907ed0b446fd78f775ddc05806197c92f2e9ac794f9cff8adb2ce8a4b742994",
}
BOARD = "e84a2756d635c4e4cc02192c19d97e8e3f0bcd5c82c760453b7320cacf9d1b0b"
MIXED = "df564775f1030074f2a2e2a37111ade54f27b9b6625a900aa27d133e4e1a5e2a"


def pictures(make: Callable[[np.random.Generator], Picture], count: int) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [make(rng) for _ in range(count)]


@pytest.mark.parametrize("make", MAKERS)
def test_marks_lie_inside_and_have_few_words(
    make: Callable[[np.random.Generator], Picture],
) -> None:
    for picture in pictures(make, 50):
        assert picture.marks()
        for mark in picture.marks():
            left, top, right, bottom = mark.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert 1 <= len(mark.words) <= MOST_WORDS
            assert f"{mark.text};" in describe(picture)


@pytest.mark.parametrize("make", MAKERS)
def test_the_same_seed_draws_the_same_picture(
    make: Callable[[np.random.Generator], Picture],
) -> None:
    rng = np.random.default_rng(6)
    digest = hashlib.sha256()
    for _ in range(20):
        picture = make(rng)
        image = picture.draw(rng)
        assert image.size == (SIZE, SIZE)
        digest.update(image.tobytes() + describe(picture).encode())
    assert digest.hexdigest() == PICTURES[make.__name__]


def test_the_same_seed_draws_the_same_board_and_asks_the_same() -> None:
    rng = np.random.default_rng(6)
    digest = hashlib.sha256()
    for _ in range(20):
        scene = random_board(rng)
        digest.update(draw(scene, 64, rng).tobytes() + scene.describe().encode())
        digest.update(repr((ask(scene, rng), choose(scene, rng))).encode())
    assert digest.hexdigest() == BOARD


def test_the_same_seed_asks_the_same_about_mixed_pictures() -> None:
    rng = np.random.default_rng(6)
    asked = [mixed_pictures(rng)[1:] for _ in range(40)]
    assert hashlib.sha256(repr(asked).encode()).hexdigest() == MIXED
