"""Similarity measures between models, behind one protocol.

Symbols:
    n      images
    N_k    the k nearest other images of an image by cosine similarity of one model's features
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from mordal_optuna.errors import SimilarityError
from mordal_optuna.representation.checks import check_features
from mordal_optuna.representation.cka import Estimator, check_estimator, cka_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


class SimilarityMeasure(Protocol):
    """A similarity of models by their features on the same images."""

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Similarity of every pair of models.

        Args:
            features: features of each of M models, images x width.

        Returns:
            M x M, symmetric, 1 on the diagonal, in the order of `features`.

        Raises:
            SimilarityError: if the features cannot be compared; names the models.
        """
        ...


@dataclass(frozen=True)
class Cka:
    """CKA with linear kernels, see `cka_matrix`.

    Attributes:
        estimator: estimator of HSIC.
        minibatch: number of images per minibatch, at least 4, for the minibatch estimator.
        device: torch device of the computation.

    Raises:
        SimilarityError: if an attribute is out of range.
    """

    estimator: Estimator = "debiased"
    minibatch: int = 256
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        check_estimator(self.estimator, self.minibatch)

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """CKA of every pair of models."""
        # Double precision where the device has it; centred features need less precision.
        double = torch.device(self.device).type in ("cpu", "cuda")
        return cka_matrix(
            features,
            estimator=self.estimator,
            minibatch=self.minibatch,
            device=self.device,
            dtype=torch.float64 if double else torch.float32,
        )


@dataclass(frozen=True)
class MutualKnn:
    """Mean share of the k nearest neighbours that two models have in common.

    Huh et al. 2024 ("The platonic representation hypothesis", appendix A). It tends to k / (n - 1)
    for unrelated models, and is insensitive to scale and to outliers, which can drive CKA to 1.

    Attributes:
        neighbours: k, at least 1 and below n.
        device: torch device of the computation.

    Raises:
        SimilarityError: if `neighbours` is below 1.
    """

    neighbours: int = 10
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise SimilarityError(f"neighbours: got {self.neighbours}; it must be at least 1")

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Share of mutual nearest neighbours of every pair of models."""
        check_features(features, least=self.neighbours + 1)
        masks = torch.stack([self._mask(f) for f in features.values()])
        matrix = torch.einsum("aij,bij->ab", masks, masks) / (self.neighbours * masks.shape[1])
        return matrix.double().cpu().numpy()

    def _mask(self, features: np.ndarray) -> torch.Tensor:
        """Neighbours as n x n, 1 where the column's image is a neighbour of the row's image."""
        x = torch.as_tensor(features, dtype=torch.float32).to(self.device)
        x = torch.nn.functional.normalize(x - x.mean(dim=0), dim=1)
        cosines = x @ x.T
        cosines.fill_diagonal_(-torch.inf)
        mask = torch.zeros_like(cosines)
        return mask.scatter_(1, cosines.topk(self.neighbours, dim=1).indices, 1.0)
