"""LLMs of a pool whose chat template cannot be trained with, found when a study opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.errors import ModelError
from mordal_optuna.models.probe import check_chat

if TYPE_CHECKING:
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import StudySettings
    from mordal_optuna.progress import Progress

# Samples that are looked at, and those of them, with the most turns, that are rendered for each
# LLM.
_PROBED = 64
_RENDERED = 4


def unusable_llms(
    settings: StudySettings, data: AlignmentSet, progress: Progress
) -> dict[str, str]:
    """LLMs whose chat template cannot be trained with, and why; each is reported.

    Their candidates fail for the same reason; the study goes on with the others.

    Args:
        settings: the study.
        data: alignment set.
        progress: receives a warning about each.

    Raises:
        ModelError: if no LLM can be trained.
    """
    count = min(_PROBED, len(data)) if data.random_access else 0
    samples = [data.sample(n).messages for n in range(count)]
    longest = sorted(samples, key=len)[-_RENDERED:]
    reasons: dict[str, ModelError] = {}
    llms = settings.models().llms
    for source in llms:
        try:
            check_chat(source, longest)
        except ModelError as error:
            reasons[source.name] = error
    if len(reasons) == len(llms):
        raise next(iter(reasons.values()))
    for reason in reasons.values():
        progress.warn(f"candidates with this LLM will fail: {reason}")
    return {name: str(reason) for name, reason in reasons.items()}
