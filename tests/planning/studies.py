"""Studies to plan: the tiny pool's, and shipped ones without their models or data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mordal_optuna.config import StudySettings, parse_study, read_study
from mordal_optuna.config.shipped import shipped_study
from mordal_optuna.planning.devices import device_named
from mordal_optuna.planning.plan import FirstPage, SecondPage, first_page, second_page

if TYPE_CHECKING:
    from mordal_optuna.planning.devices import Device


def planned(
    content: dict[str, Any] | StudySettings, device: Device | None = None
) -> tuple[FirstPage, SecondPage]:
    """Both pages of the plan of a study."""
    settings = content if isinstance(content, StudySettings) else parse_study(content)
    first = first_page(settings)
    return first, second_page(first, device or device_named("cpu"))


def shipped_settings(name: str) -> StudySettings:
    """A shipped study, whose models and data are not on this machine."""
    return read_study(shipped_study(name), places=False)
