"""Defaults that depend on the size of the alignment set.

The schema's defaults are made for several 100,000 samples. On a few hundred they hardly train: the
rate is still rising when the data end. What the study file leaves open is therefore chosen by D;
what it sets is never changed.

Symbols:
    D     samples of a full alignment
    B     batch_size
    b, R  first_ratio and max_ratio; the lowest rung has about b * D samples

Rules, in this order, each for what is left open:
    B         the largest power of two up to 128, and not below 8, with D / B >= 512 steps: with
              the default ratios the lowest rung then has 15 steps
    b, R      both doubled, R up to a half, until b * D >= 15 B; only where both are left open
    warm-up   at most 3 % of D (the share of LLaVA's recipe) and half the lowest rung, in whole
              batches
    projector's warm-up, before LLMs are compared: at most the lowest rung
Nothing changes from 65,536 samples on, but for the warm-up, which is whole from about 137,000 on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mordal_optuna.config.base import Section
    from mordal_optuna.config.schema import SearchSettings, StudySettings

# Steps of a full alignment that a batch size must leave, and the smallest batch chosen.
_FULL_STEPS, _SMALLEST_BATCH = 512, 8
# Steps of the lowest rung, and the largest share before the finish that is chosen.
_FIRST_STEPS, _LARGEST_RATIO = 15, 0.5
_WARMUP_SHARE = 0.03


def default_batch_size(samples: int, largest: int) -> int:
    """B where the study file leaves it open.

    Rounding D down to whole batches does not change it.

    Args:
        samples: D, or the samples there are.
        largest: the schema's default, a power of two.
    """
    size = largest
    while size > _SMALLEST_BATCH and samples < _FULL_STEPS * size:
        size //= 2
    return size


def adapted(settings: StudySettings, full_samples: int) -> tuple[StudySettings, str | None]:
    """The settings with what they leave open chosen for a small alignment set.

    A pure function: the same study file and D give the same settings. Settings that are returned
    are adapted already, and stay as they are when they are given again.

    Args:
        settings: the study as its file says.
        full_samples: D.

    Returns:
        The settings, and one line that says what was chosen; None where nothing was.
    """
    batch = settings.alignment.batch_size_for(full_samples)
    ratios = _ratios(settings.search, full_samples, batch)
    lowest = ratios["first_ratio"] * full_samples
    warmup = min(_WARMUP_SHARE * full_samples, lowest / 2)
    chosen: dict[str, dict[str, float]] = {
        "alignment": {
            "batch_size": batch,
            "warmup_samples": _at_most(settings.alignment, int(warmup) // batch * batch),
        },
        "representation": {
            "warmup_samples": _at_most(
                settings.representation, max(1, round(lowest / batch)) * batch
            )
        },
        "search": ratios,
    }
    told, sections = [], {}
    for key, values in chosen.items():
        section = getattr(settings, key)
        new = {k: v for k, v in values.items() if v != getattr(section, k)}
        prefix = "" if key == "alignment" else f"{key}."
        told += [f"{prefix}{k} {v:g} instead of {getattr(section, k):g}" for k, v in new.items()]
        sections[key] = section.model_copy(update=new)
    if not told:
        return settings, None
    line = f"{full_samples:,} samples: {', '.join(told)}; set them to choose otherwise"
    return settings.model_copy(update=sections), line


def kept_as_given(settings: StudySettings) -> StudySettings:
    """The settings as if their file had set all that `adapted` chooses: studies of older versions.

    They began with the schema's defaults, whatever D.
    """
    names = {
        "alignment": ("batch_size", "warmup_samples"),
        "representation": ("warmup_samples",),
        "search": ("first_ratio", "max_ratio"),
    }
    sections = {key: getattr(settings, key) for key in names}
    return settings.model_copy(
        update={
            key: section.model_copy(update={name: getattr(section, name) for name in names[key]})
            for key, section in sections.items()
        }
    )


def _ratios(search: SearchSettings, full_samples: int, batch: int) -> dict[str, float]:
    first, largest = search.first_ratio, search.max_ratio
    if not search.model_fields_set & {"first_ratio", "max_ratio"}:
        while first * full_samples < _FIRST_STEPS * batch and largest < _LARGEST_RATIO:
            first, largest = 2 * first, 2 * largest
    return {"first_ratio": first, "max_ratio": largest}


def _at_most(section: Section, limit: int) -> int:
    """The section's `warmup_samples`; not above a limit where it is left open."""
    given: int = getattr(section, "warmup_samples")  # noqa: B009 - of two sections
    return given if "warmup_samples" in section.model_fields_set else min(given, limit)
