"""The paper's figures, quoted: He, Jang and Chowdhury, ICLR 2026, arXiv 2502.00241.

49 pairs of 7B models on 16 A40; the grid took 5,439 GPU-hours. They are shown beside ours for
orientation, since models, data and hardware differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quoted:
    """A row of the paper's tables.

    Attributes:
        gain: GPU-hours of the grid divided by those of the search.
        tau: weighted tau of Mordal's ranking.
        rivals: weighted tau of each of `RIVALS`.
    """

    gain: float
    tau: float
    rivals: tuple[float, float, float, float]


# Largest loss of a fit that the paper accepts.
DELTA = 5e-5
RIVALS = ("EMMS", "LogME", "LEEP", "NLEEP")
PAPER = {
    "gqa": Quoted(11.2, 0.814, (0.682, -0.162, 0.232, 0.435)),
    "vizwiz_vqa_val": Quoted(11.6, 0.882, (0.657, 0.236, 0.351, 0.502)),
    "chartqa": Quoted(8.9, 0.765, (0.238, -0.144, -0.071, 0.298)),
    "docvqa_val": Quoted(9.2, 0.897, (0.172, 0.155, 0.111, 0.265)),
    "scienceqa_img": Quoted(11.5, 0.960, (0.770, 0.269, 0.344, 0.562)),
    "ai2d": Quoted(10.9, 0.894, (0.557, 0.193, 0.316, 0.614)),
    "mmmu_val": Quoted(10.8, 0.875, (0.526, 0.101, 0.245, 0.220)),
}
# Number of tasks in which the best pair was found, and number of tasks.
FOUND = (6, 7)
