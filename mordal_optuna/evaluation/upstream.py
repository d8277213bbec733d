"""lmms-eval's own tasks that are known here: where they are, and what counts in them.

Prompts, answer parsing and metrics are upstream's, untouched. Every row was checked on local data
in the hub's schema: gold answers score 1, wrong ones 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from mordal_optuna.evaluation.identity import document_prints

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image


class MetricSpec(BaseModel):
    """What counts as a task's score, and where its answers and images are.

    Attributes:
        metric: key in lmms-eval's results, `<metric>,<filter>`; higher is better.
        scale: its largest value, 1 or 100; scores are divided by it.
        chance: score of a guesser, 0..1; 0 for open answers.
        options: document field that lists the options of a multiple-choice question; the chance is
            then computed from the documents instead, 0 for one without options.
        cluster_key: document field whose values group documents that are not independent; an
            image counts by its bytes.
        guesses: whether the task draws an answer at random where it cannot read one.
        gold: document field with the reference answer or answers; None takes what the task's
            `doc_to_target` gives.
        images: configuration of the dataset that holds its images by `id`, where its documents
            name them by `imageId`; None where each document has its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: str = Field(pattern=r"^[^,]+,[^,]+$")
    scale: float = Field(default=1.0, gt=0)
    chance: float = Field(default=0.0, ge=0, lt=1)
    options: str | None = None
    cluster_key: str | None = None
    guesses: bool = False
    gold: str | None = None
    images: str | None = None

    @property
    def document_key(self) -> str:
        """The same metric in the per-document samples, which do not name the filter."""
        return self.metric.split(",")[0]


@dataclass(frozen=True)
class UpstreamTask:
    """A task of lmms-eval.

    Attributes:
        yaml: below lmms-eval's own tasks.
        spec: what counts.
    """

    yaml: str
    spec: MetricSpec


UPSTREAM = {
    "gqa": UpstreamTask(
        "gqa/gqa.yaml",
        MetricSpec(
            metric="exact_match,none", cluster_key="imageId", images="testdev_balanced_images"
        ),
    ),
    "vizwiz_vqa_val": UpstreamTask(
        "vizwiz_vqa/vizwiz_vqa_val.yaml",
        # Its doc_to_target names a column that is not there.
        MetricSpec(metric="exact_match,none", cluster_key="image", gold="answers"),
    ),
    "chartqa": UpstreamTask(
        "chartqa/chartqa.yaml", MetricSpec(metric="relaxed_overall,none", cluster_key="image")
    ),
    "docvqa_val": UpstreamTask(
        "docvqa/docvqa_val.yaml", MetricSpec(metric="anls,none", cluster_key="image")
    ),
    "scienceqa_img": UpstreamTask(
        "scienceqa/scienceqa_img.yaml",
        MetricSpec(metric="exact_match,none", options="choices", cluster_key="image"),
    ),
    "ai2d": UpstreamTask(
        "ai2d/ai2d.yaml",
        MetricSpec(
            metric="exact_match,flexible-extract",
            options="options",
            cluster_key="image",
        ),
    ),
    "mmmu_val": UpstreamTask(
        "mmmu/mmmu_val.yaml",
        MetricSpec(
            metric="mmmu_acc,none",
            options="options",
            cluster_key="image_1",
            guesses=True,
        ),
    ),
}


class ImagesById:
    """Images that documents name, decoded when they are shown.

    Upstream's GQA writes the decoded image of every question to disk before the first is asked,
    which takes minutes and gigabytes; the pixels are the same.
    """

    def __init__(self, images: Dataset) -> None:
        """Look images up.

        Args:
            images: with the columns `id` and `image`.
        """
        self._images = images
        ids = images.select_columns(["id"])["id"]
        self._rows = {name: row for row, name in enumerate(ids)}

    def digest(self) -> str:
        """SHA-256 of all images with their names."""
        return hashlib.sha256("".join(document_prints(self._images)).encode()).hexdigest()

    def __call__(self, doc: dict[str, Any]) -> list[Image]:
        """The image of a document, as lmms-eval's `doc_to_visual`."""
        return [self._images[self._rows[doc["imageId"]]]["image"].convert("RGB")]
