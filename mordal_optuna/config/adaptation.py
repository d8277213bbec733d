"""Defaults that depend on the size of the alignment set.

The schema's defaults suit several 100,000 samples. On a few hundred samples they hardly train: the
learning rate is still rising when the data end. Options that the study file does not set are
therefore chosen by D; options that it sets are never changed.

Symbols:
    D     samples of a full alignment
    B     batch_size
    b, R  first_ratio and max_ratio; the lowest rung has about b * D samples

Rules, applied in this order to options that the study file does not set:
    B         largest power of two from 8 to 128 with D / B >= 512 steps, or 8 (chosen by
              `AlignmentSettings.batch_size_for`); with the default ratios the lowest rung then
              has 15 steps
    b, R      both doubled, R up to 1/2, until b * D >= 15 B; only if neither is set
    warm-up   `warmup_share` of the samples after `projector_stage`, in whole batches; or else at
              most 3 % of D (LLaVA's share) and half the lowest rung, in whole batches
    projector's warm-up before LLMs are compared: at most the lowest rung
From 65,536 samples on only the warm-up changes; from about 137,000 on nothing does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mordal_optuna.config.alignment import stage_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.config.alignment import AlignmentSettings
    from mordal_optuna.config.base import Section
    from mordal_optuna.config.schema import SearchSettings, StudySettings

# Minimum number of steps of the lowest rung, and the largest max_ratio chosen to reach it.
_FIRST_STEPS, _LARGEST_RATIO = 15, 0.5
_WARMUP_SHARE = 0.03


def adapted(settings: StudySettings, full_samples: int) -> tuple[StudySettings, str | None]:
    """Choose the options that a study file does not set, by the size of the alignment set.

    A pure function, and idempotent: adapted settings stay as they are when adapted again.

    Args:
        settings: settings as read from the study file.
        full_samples: D, number of samples of a full alignment.

    Returns:
        The settings, and one line that lists the chosen values; None if nothing changed.
    """
    batch = settings.alignment.batch_size_for(full_samples)
    ratios = _ratios(settings.search, full_samples, batch)
    lowest = ratios["first_ratio"] * full_samples
    warmup = min(_WARMUP_SHARE * full_samples, lowest / 2)
    chosen: dict[str, dict[str, float]] = {
        "alignment": {
            "batch_size": batch,
            "warmup_samples": _shared_warmup(settings.alignment, full_samples, batch)
            if settings.alignment.warmup_share is not None
            else _at_most(settings.alignment, int(warmup) // batch * batch),
        },
        "representation": {
            "warmup_samples": _at_most(
                settings.representation, max(1, round(lowest / batch)) * batch
            )
        },
        "search": ratios,
    }
    changes, sections = [], {}
    for key, values in chosen.items():
        section = getattr(settings, key)
        new = {k: v for k, v in values.items() if v != getattr(section, k)}
        prefix = "" if key == "alignment" else f"{key}."
        changes += [
            f"{prefix}{k} {v:g} instead of {getattr(section, k):g}" for k, v in new.items()
        ]
        sections[key] = section.model_copy(update=new)
    if not changes:
        return settings, None
    line = f"{full_samples:,} samples: {', '.join(changes)}; set them to choose otherwise"
    return settings.model_copy(update=sections), line


def as_begun(settings: StudySettings, stored: Mapping[str, Any]) -> StudySettings:
    """Options that a study file leaves open, with the values that a study began with.

    Studies without a stored `image_aspect` used the checkpoints' own image processors, which was
    the only choice in older versions; these refused samples that are too long by default.

    Args:
        settings: settings as read from the study file.
        stored: fingerprint that was stored with the study.
    """
    update: dict[str, Any] = {}
    if "image_aspect" not in settings.model_fields_set | stored.keys():
        update["image_aspect"] = "own"
    kept = stored.get("alignment", {}).get("too_long")
    if kept and "too_long" not in settings.alignment.model_fields_set:
        update["alignment"] = settings.alignment.model_copy(update={"too_long": kept})
    return settings.model_copy(update=update)


def kept_as_given(settings: StudySettings) -> StudySettings:
    """Mark every option that `adapted` chooses as set, so that `adapted` changes nothing.

    For studies of older versions, which used the schema's defaults for any D.

    Args:
        settings: settings as read from the study file.
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


def _shared_warmup(alignment: AlignmentSettings, full_samples: int, batch: int) -> int:
    """`warmup_share` of the samples after the projector's stage, in whole batches."""
    after = full_samples - stage_samples(alignment.projector_stage, full_samples, batch)
    return int((alignment.warmup_share or 0.0) * after) // batch * batch


def _ratios(search: SearchSettings, full_samples: int, batch: int) -> dict[str, float]:
    first, largest = search.first_ratio, search.max_ratio
    if not search.model_fields_set & {"first_ratio", "max_ratio"}:
        while first * full_samples < _FIRST_STEPS * batch and largest < _LARGEST_RATIO:
            first, largest = 2 * first, 2 * largest
    return {"first_ratio": first, "max_ratio": largest}


def _at_most(section: Section, limit: int) -> int:
    """The section's `warmup_samples`; at most `limit` if the study file does not set it."""
    warmup: int = getattr(section, "warmup_samples")  # noqa: B009 - of two sections
    return warmup if "warmup_samples" in section.model_fields_set else min(warmup, limit)
