"""Documents: fields differ, and lines fit on the page."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.drawing.documents import FIELDS, random_document
from mordal_optuna.zoo.drawing.pictures import SIZE


def test_fields_differ_and_have_values_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        document = random_document(rng)
        fields = [field for field, _ in document.lines]
        assert len(set(fields)) == len(fields)
        for field, value in document.lines:
            words = FIELDS[field]
            assert value in words if words else 10 <= int(value) < 100
            assert 6 * len(f"{field} {value}") <= SIZE


def test_numbers_are_named_digit_by_digit() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        document = random_document(rng)
        for (field, value), mark in zip(document.lines, document.marks(), strict=True):
            assert mark.words == (field, *(value if value.isdigit() else (value,)))
            seen.add(len(mark.words))
    assert seen == {2, 3}
