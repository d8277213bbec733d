"""Measures of how alike models are, behind one small protocol.

Symbols:
    n      images
    N_k    the k nearest other images of an image, by cosine, in one model's features
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from mordal_optuna.errors import SimilarityError
from mordal_optuna.representation.cka import Estimator, cka_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping


class SimilarityMeasure(Protocol):
    """Whatever compares models by their features on the same images."""

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Similarity of every pair of models.

        Args:
            features: for each of M models a matrix of images x width.

        Returns:
            M x M, symmetric, 1 on the diagonal, in the order of `features`.

        Raises:
            SimilarityError: if the features cannot be compared, naming the models.
        """
        ...


@dataclass(frozen=True)
class Cka:
    """CKA with linear kernels, see `cka_matrix`.

    Attributes:
        estimator: of HSIC.
        minibatch: images of a minibatch, for that estimator.
        device: where to compute.
    """

    estimator: Estimator = "debiased"
    minibatch: int = 256
    device: torch.device | str = "cpu"

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """CKA of every pair of models."""
        # Double costs little on a CPU; accelerators without it compute centred singles.
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

    Huh et al. 2024 ("The platonic representation hypothesis", appendix A); for unrelated models
    it tends to k / (n - 1). Blind to scale and to outliers, which can drive CKA to 1.

    Attributes:
        neighbours: k, at least 1 and below n.
        device: where to compute.
    """

    neighbours: int = 10
    device: torch.device | str = "cpu"

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mutual nearest neighbours of every pair of models."""
        masks = torch.stack([self._mask(name, f) for name, f in features.items()])
        matrix = torch.einsum("aij,bij->ab", masks, masks) / (self.neighbours * masks.shape[1])
        return matrix.double().cpu().numpy()

    def _mask(self, name: str, features: np.ndarray) -> torch.Tensor:
        """Neighbours as n x n, 1 where an image is among the neighbours of another."""
        n = len(features)
        if features.ndim != 2 or not 1 <= self.neighbours < n or not np.isfinite(features).all():
            raise SimilarityError(
                f"features of shape {features.shape} and {self.neighbours} neighbours; they must "
                "be finite numbers, images x width, for more images than neighbours",
                (name, name),
            )
        x = torch.as_tensor(features, dtype=torch.float32).to(self.device)
        x = torch.nn.functional.normalize(x - x.mean(dim=0), dim=1)
        closeness = x @ x.T
        closeness.fill_diagonal_(-torch.inf)
        mask = torch.zeros_like(closeness)
        return mask.scatter_(1, closeness.topk(self.neighbours, dim=1).indices, 1.0)
