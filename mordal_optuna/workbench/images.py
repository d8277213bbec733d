"""The images on which the models of a pool are compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.tasks import images_of_all
from mordal_optuna.models.images import open_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import StudySettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.progress import Progress

# Debiased CKA divides by n - 3.
LEAST_IMAGES = 4


def comparison_images(
    tasks: Sequence[Task], data: AlignmentSet, settings: StudySettings, progress: Progress
) -> list[Image]:
    """Images of the target tasks; of the alignment set if the tasks show fewer than 4.

    Args:
        tasks: target tasks, at least one.
        data: alignment set.
        settings: the study, whose `representation` says how many images are taken at most.
        progress: receives a note if images of the alignment set are taken.

    Raises:
        TaskError: if a document has no image, or tasks and alignment set show fewer than 4
            different images each.
        DataError: if an image of the alignment set cannot be decoded.
    """
    count = settings.representation.images
    shown = images_of_all(tasks, count)
    if len(shown) >= LEAST_IMAGES:
        return shown
    names, images = " and ".join(task.name for task in tasks), _alignment_images(data, count)
    if len(images) < LEAST_IMAGES:
        raise TaskError(
            names,
            f"shows {len(shown)} different images, and the alignment set {len(images)}; comparing "
            f"models needs at least {LEAST_IMAGES}",
        )
    progress.note(
        f"{names}: {len(shown)} different images are too few to compare models on; "
        f"{len(images)} images of the alignment set are taken instead"
    )
    return images


def _alignment_images(data: AlignmentSet, count: int) -> list[Image]:
    """The first different images of an alignment set, in its order."""
    images: dict[bytes, Image] = {}
    for index in range(len(data)):
        for picture in data.pictures(index):
            image = open_image(picture)
            images.setdefault(hashlib.sha256(image.tobytes()).digest(), image)
        if len(images) >= count:
            break
    return list(images.values())[:count]
