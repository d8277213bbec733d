"""What the rivals consume of one candidate, and all their scores.

    rival                    features  labels  embeddings  source  images, texts
    logme, logme-compatible     x        x
    nleep                       x        x
    leep                                 x                   x
    logme-text                  x                  x
    emms, emms-compatible       x                  x
    gromov-wasserstein                                               x

"Features" are what the candidate makes of the task's documents (the LLM's last hidden states):
with an untrained projector for the training-free comparison, after as much training as the search
spends for the comparison at equal budget. Labels and embeddings of the answers belong to the task
and are the same for all candidates; so must be the set of source classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from mordal_optuna.errors import RivalError
from mordal_optuna.rivals.emms import emms
from mordal_optuna.rivals.gromov import gromov_wasserstein
from mordal_optuna.rivals.labels import varying_outputs
from mordal_optuna.rivals.leep import leep
from mordal_optuna.rivals.logme import logme, logme_of_outputs
from mordal_optuna.rivals.nleep import nleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from mordal_optuna.rivals.checks import Floats, Ints

    _Scores = dict["Rival", Callable[[], float]]

Rival = Literal[
    "logme",
    "logme-compatible",
    "logme-text",
    "leep",
    "nleep",
    "emms",
    "emms-compatible",
    "gromov-wasserstein",
]
RIVALS: tuple[Rival, ...] = get_args(Rival)


@dataclass(frozen=True)
class Inputs:
    """What is known of one candidate on one task; None where it is not.

    Attributes:
        features: N x D, what the candidate makes of each document.
        labels: N class numbers, `checks.NONE` for a document without a class.
        embeddings: K x N x L, of the answers.
        source_probabilities: N x Z, the candidate's probabilities of the same Z answers for all
            candidates, each row adding up to 1.
        image_features: M x A, as the vision encoder alone sees images.
        text_features: M x B, texts of the same M documents, as the LLM alone sees them.
    """

    features: Floats | None = None
    labels: Ints | None = None
    embeddings: Floats | None = None
    source_probabilities: Floats | None = None
    image_features: Floats | None = None
    text_features: Floats | None = None


def score_all(inputs: Inputs, *, seed: int = 0) -> dict[Rival, float]:
    """The scores of every rival whose inputs are there, by its defaults.

    Args:
        inputs: of one candidate.
        seed: of folds, mixtures and the draw of documents; the same for all candidates.

    Returns:
        Score by rival, higher is better.

    Raises:
        RivalError: if no rival can be computed, or what is there does not fit.
    """
    able = {
        **_of_classes(inputs, seed),
        **_of_texts(inputs, seed),
        **_of_geometry(inputs, seed),
    }
    if not able:
        raise RivalError(
            "no rival can be computed from these inputs; features with labels or with embeddings, "
            "source probabilities with labels, or image with text features are needed"
        )
    return {rival: able[rival]() for rival in RIVALS if rival in able}


def _of_classes(inputs: Inputs, seed: int) -> _Scores:
    labels, features, source = inputs.labels, inputs.features, inputs.source_probabilities
    found: _Scores = {}
    if labels is None:
        return found
    if features is not None:
        seeds = tuple(range(seed, seed + 5))
        found["logme"] = lambda: logme(features, labels)
        found["logme-compatible"] = lambda: logme(features, labels, compatible=True)
        found["nleep"] = lambda: nleep(features, labels, seeds=seeds)
    if source is not None:
        found["leep"] = lambda: leep(source, labels)
    return found


def _of_texts(inputs: Inputs, seed: int) -> _Scores:
    features, embeddings = inputs.features, inputs.embeddings
    if features is None or embeddings is None:
        return {}
    return {
        "logme-text": lambda: logme_of_outputs(
            features, varying_outputs(embeddings, rows=len(features))
        ),
        "emms": lambda: emms(features, embeddings, seed=seed),
        "emms-compatible": lambda: emms(features, embeddings, form="compatible"),
    }


def _of_geometry(inputs: Inputs, seed: int) -> _Scores:
    images, texts = inputs.image_features, inputs.text_features
    if images is None or texts is None:
        return {}
    return {"gromov-wasserstein": lambda: gromov_wasserstein(images, texts, seed=seed)}
