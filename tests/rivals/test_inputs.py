"""All rivals of one candidate: required arrays, and agreement on an obvious case."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.inputs import RIVALS, Inputs, score_all
from mordal_optuna.rivals.labels import answer_classes, text_embeddings

WORDS = ("a red square", "blue circles", "42", "none of these")


def candidate(knowledge: float) -> Inputs:
    """120 documents; the features predict the answers better for higher `knowledge`."""
    rng = np.random.default_rng(0)
    answers = [WORDS[n % 4] for n in range(120)]
    labels, _ = answer_classes(answers)
    shown = np.eye(4)[labels]
    features = rng.standard_normal((120, 30))
    features[:, :4] += knowledge * shown
    source = rng.dirichlet(np.ones(6), 120)
    source[:, :4] += knowledge * shown
    texts = rng.standard_normal((120, 12)) / 4
    texts[:, :4] += 4 * shown
    return Inputs(
        features=features,
        labels=labels,
        embeddings=text_embeddings(answers),
        source_probabilities=source / source.sum(axis=1, keepdims=True),
        image_features=features,
        text_features=texts,
    )


def test_every_rival_prefers_the_candidate_that_knows_the_answers() -> None:
    better, worse = score_all(candidate(4.0)), score_all(candidate(0.0))
    assert tuple(better) == tuple(worse) == RIVALS
    for rival in RIVALS:
        assert better[rival] > worse[rival], rival


def test_the_same_seed_gives_the_same_scores() -> None:
    inputs = candidate(1.0)
    assert score_all(inputs, seed=3) == score_all(inputs, seed=3)


@pytest.mark.parametrize(
    ("kept", "rivals"),
    [
        (("features", "labels"), {"logme", "logme-compatible", "nleep"}),
        (("features", "embeddings"), {"logme-text", "emms", "emms-compatible"}),
        (("source_probabilities", "labels"), {"leep"}),
        (("image_features", "text_features"), {"gromov-wasserstein"}),
    ],
)
def test_a_rival_is_computed_if_its_arrays_are_given(
    kept: tuple[str, ...], rivals: set[str]
) -> None:
    whole = candidate(1.0)
    found = score_all(Inputs(**{name: getattr(whole, name) for name in kept}))
    assert set(found) == rivals
    everything = score_all(whole)
    assert found == {rival: everything[rival] for rival in found}


def test_arrays_that_no_rival_can_use_are_refused() -> None:
    with pytest.raises(RivalError, match="no rival can be computed"):
        score_all(Inputs(features=np.eye(3)))


def test_arrays_that_do_not_match_raise_an_error() -> None:
    whole = candidate(1.0)
    with pytest.raises(RivalError, match="labels: got the shape"):
        score_all(Inputs(features=whole.features, labels=np.array([0, 1])))
