"""The arrays that rivals need of one candidate, and the scores of all rivals.

    rival                    features  labels  embeddings  source  images, texts
    logme, logme-compatible     x        x
    nleep                       x        x
    leep                                 x                   x
    logme-text                  x                  x
    emms, emms-compatible       x                  x
    gromov-wasserstein                                               x

"Features" are the candidate's features of the task's documents (the LLM's last hidden states):
with an untrained projector for a training-free comparison, or after as much training as the
search spends for a comparison at equal budget. Labels and embeddings of the answers belong to the
task and are the same for all candidates; the source classes must be the same as well.
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
    """Arrays of one candidate on one task; None for arrays that are not available.

    Attributes:
        features: the candidate's features of N documents, N x D.
        labels: N class numbers; `checks.NONE` for a document without a class.
        embeddings: K embeddings of the answers, K x N x L.
        source_probabilities: the candidate's probabilities of Z answers, N x Z; the same answers
            for all candidates, each row with a sum of 1.
        image_features: the vision encoder's features of M images, M x A.
        text_features: the LLM's features of texts of the same M documents, M x B.
    """

    features: Floats | None = None
    labels: Ints | None = None
    embeddings: Floats | None = None
    source_probabilities: Floats | None = None
    image_features: Floats | None = None
    text_features: Floats | None = None


def score_all(inputs: Inputs, *, seed: int = 0) -> dict[Rival, float]:
    """Scores of all rivals whose arrays are available, with default options.

    Args:
        inputs: arrays of one candidate.
        seed: random seed of folds, mixtures and subsets; the same for all candidates.

    Returns:
        Score by rival; higher is better.

    Raises:
        RivalError: if no rival can be computed, or shapes do not match.
    """
    computable = {
        **_of_classes(inputs, seed),
        **_of_texts(inputs, seed),
        **_of_geometry(inputs, seed),
    }
    if not computable:
        raise RivalError(
            "no rival can be computed from these inputs; features with labels or with embeddings, "
            "source probabilities with labels, or image with text features are needed"
        )
    return {rival: computable[rival]() for rival in RIVALS if rival in computable}


def _of_classes(inputs: Inputs, seed: int) -> _Scores:
    labels, features, source = inputs.labels, inputs.features, inputs.source_probabilities
    scores: _Scores = {}
    if labels is None:
        return scores
    if features is not None:
        seeds = tuple(range(seed, seed + 5))
        scores["logme"] = lambda: logme(features, labels)
        scores["logme-compatible"] = lambda: logme(features, labels, compatible=True)
        scores["nleep"] = lambda: nleep(features, labels, seeds=seeds)
    if source is not None:
        scores["leep"] = lambda: leep(source, labels)
    return scores


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
