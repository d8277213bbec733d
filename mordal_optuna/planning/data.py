"""What the alignment data are like: samples and images, without decoding any; loads no torch.

The first samples in the study's own order are read, which are a random part of the data, and those
that are trained on first.

Symbols:
    D    samples of a full alignment
    n    samples that are looked at
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.alignment.sources import open_source
from mordal_optuna.errors import DataError, MordalError

if TYPE_CHECKING:
    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.alignment.sources import Source
    from mordal_optuna.config import StudySettings

# n: samples that are read.
READ = 512


@dataclass(frozen=True)
class DataFacts:
    """What is known of the alignment data.

    Attributes:
        source: path or hub id.
        found: whether the data could be read.
        available: number of samples in the source; None if it is not known.
        samples: D, as far as it is known; None otherwise.
        chosen: options that are adapted to D, in one line; None for none.
        read: n.
        text_only: share of the samples that were read without an image.
        images: mean number of images of a sample.
        missing: image files of the samples that were read that do not exist.
        broken: problems of records that are no conversation.
        problem: why the data cannot be used; empty if nothing is known against them.
        looked_at: the samples that were read.
    """

    source: str
    found: bool
    available: int | None = None
    samples: int | None = None
    chosen: str | None = None
    read: int = 0
    text_only: float = 0.0
    images: float = 1.0
    missing: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    problem: str = ""
    looked_at: tuple[Sample, ...] = ()


def read_data(settings: StudySettings) -> DataFacts:
    """Look at the alignment data.

    Args:
        settings: the study file's settings.
    """
    recipe = settings.alignment
    name = str(recipe.dataset.path if recipe.dataset else recipe.conversations)
    missing = [] if recipe.dataset else [recipe.conversations, recipe.images]
    absent = [str(path) for path in missing if path and not path.exists()]
    if absent:
        zoo = " yet; the study builds it" if settings.zoo else ""
        problem = "" if settings.zoo else f"{absent[0]!r} does not exist"
        return DataFacts(name + zoo, found=False, samples=recipe.samples, problem=problem)
    try:
        source = open_source(recipe)
        return _looked_at(settings, source)
    except (MordalError, OSError, ValueError) as error:
        return DataFacts(name, found=False, samples=recipe.samples, problem=str(error))


def _looked_at(settings: StudySettings, source: Source) -> DataFacts:
    recipe, available = settings.alignment, len(source)
    if not source.random_access:
        return DataFacts(source.name, found=True, available=available, samples=recipe.samples)
    size = recipe.batch_size_for(available)
    samples = recipe.samples or available // size * size
    problem = ""
    if samples > available or not samples:
        problem = f"holds {available} samples; a full alignment needs {max(samples, size)}"
    order = np.random.default_rng(settings.seed).permutation(available)[: min(READ, samples)]
    looked, broken, absent = [], [], []
    for index in order.tolist():
        try:
            looked.append(source.sample(index))
        except DataError as error:
            broken.append(str(error))
            continue
        absent += [str(path) for path in source.image_files(index) if not path.is_file()]
    counts = [sample.images for sample in looked] or [1]
    return DataFacts(
        source.name,
        found=True,
        available=available,
        samples=samples,
        read=len(order),
        text_only=float(np.mean([count == 0 for count in counts])),
        images=float(np.mean(counts)),
        missing=tuple(absent),
        broken=tuple(broken),
        problem=problem,
        looked_at=tuple(looked),
    )
