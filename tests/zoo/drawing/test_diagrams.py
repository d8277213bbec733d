"""Diagrams: nodes differ, stay around the middle, and marks follow the arrows."""

from __future__ import annotations

import numpy as np

from mordal_optuna.zoo.drawing.diagrams import END, random_diagram
from mordal_optuna.zoo.drawing.pictures import PLACES


def test_nodes_differ_and_leave_the_middle_free() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        nodes = random_diagram(rng).nodes
        for values in zip(*((n.shape, n.label, n.place) for n in nodes), strict=True):
            assert len(set(values)) == len(nodes)
        assert "center" not in {PLACES[node.place] for node in nodes}


def test_marks_name_the_letter_that_the_arrow_points_to() -> None:
    diagram = random_diagram(np.random.default_rng(1))
    following = [mark.words[2] for mark in diagram.marks()]
    assert following == [*(node.label for node in diagram.nodes[1:]), END]
