"""lmms-eval's tasks that need no YAML of the user: location, main metric and image lookup.

Prompts, answer parsing and metrics are upstream's. Every entry was checked on local data in the
hub's schema: reference answers score 1, wrong answers score 0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mordal_optuna.evaluation.metric import MetricSpec
from mordal_optuna.evaluation.source import document_digests

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image


@dataclass(frozen=True)
class UpstreamTask:
    """A task that ships with lmms-eval.

    Attributes:
        yaml: path of the YAML below lmms-eval's `tasks` folder.
        spec: main metric, reference answers and images.
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
        # Upstream's doc_to_target names a column that does not exist.
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
    "slake_en": UpstreamTask(
        "slake/slake_en.yaml",
        MetricSpec(metric="slake_accuracy,none", cluster_key="img_name"),
    ),
}


class ImagesById:
    """Images that documents refer to by id, decoded on access.

    Upstream's GQA decodes the image of every question and writes it to disk before the first
    question is asked, which takes minutes and gigabytes. The pixels are the same.
    """

    def __init__(self, images: Dataset) -> None:
        """Index the images by their id.

        Args:
            images: dataset with the columns `id` and `image`.
        """
        self._images = images
        ids = images.select_columns(["id"])["id"]
        self._rows = {name: row for row, name in enumerate(ids)}

    def digest(self) -> str:
        """SHA-256 of all images and their ids."""
        return hashlib.sha256("".join(document_digests(self._images)).encode()).hexdigest()

    def __call__(self, doc: dict[str, Any]) -> list[Image]:
        """The image of a document, as lmms-eval's `doc_to_visual` returns it."""
        return [self._images[self._rows[doc["imageId"]]]["image"].convert("RGB")]
