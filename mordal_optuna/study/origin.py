"""What a study was made with: versions, models' commits, digests of its inputs, and prompts.

Everything is stored with the study, so that a report written later, on another machine, tells what
the scores come from and not what is installed where it is written.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from mordal_optuna.search.attributes import (
    COMMITS,
    INPUTS,
    ORIGIN,
    TEMPLATE_DATE,
    store_value,
    stored_value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.study import Study

# Packages that numbers can depend on; those that are not installed are left out.
PACKAGES = (
    *("mordal-optuna", "torch", "transformers", "peft", "accelerate", "tokenizers", "lmms-eval"),
    *("datasets", "pillow", "timm", "open_clip_torch", "optuna", "numpy", "scipy", "sqlalchemy"),
)


@dataclass(frozen=True)
class Origin:
    """What a study was made with; parts that an older version did not store are empty.

    Attributes:
        versions: versions of Python and of packages by name, one entry for each set of versions
            that a worker has begun or continued the study with, in this order.
        prompts: the prompt of each LLM by its name, as its chat template renders the first
            document of `prompt_task`, with one placeholder for an image.
        prompt_task: name of the task that the prompts are of; empty without prompts.
        commits: commit by part, `vision_encoder:NAME` or `llm:NAME`, of models on the hub.
        digests: digest of each input by part and aspect, see `files.inputs.Inputs`.
        template_date: date that chat templates take for today; None if it is not fixed.
    """

    versions: tuple[Mapping[str, str], ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt_task: str = ""
    commits: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    template_date: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `mordal run --json` prints them."""
        return {
            "versions": [dict(versions) for versions in self.versions],
            "prompts": dict(self.prompts),
            "prompt_task": self.prompt_task,
            "commits": dict(self.commits),
            "digests": {part: dict(digests) for part, digests in self.digests.items()},
            "template_date": self.template_date,
        }


def present_versions() -> dict[str, str]:
    """Versions of Python and of the packages of this process, by name."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return found


def store_origin(
    study: Study, prompts: Mapping[str, str], prompt_task: str, versions: Mapping[str, str]
) -> None:
    """Store versions and prompts; versions that the study has run with before stay.

    The caller must be the only process that does this now.

    Args:
        study: study that begins or is continued.
        prompts: the prompt of each LLM by its name.
        prompt_task: name of the task that they are of.
        versions: versions of this process, as of `present_versions`.
    """
    before = stored_value(study.user_attrs, ORIGIN) or {}
    known: list[dict[str, str]] = before.get("versions", [])
    listed = known if dict(versions) in known else [*known, dict(versions)]
    content = {"versions": listed, "prompts": dict(prompts), "prompt_task": prompt_task}
    if content != before:
        store_value(study, ORIGIN, content)


def stored_origin(attributes: Mapping[str, Any]) -> Origin:
    """What is stored of a study's origin.

    Args:
        attributes: all user attributes of the study.
    """
    content = stored_value(attributes, ORIGIN) or {}
    return Origin(
        versions=tuple(content.get("versions", ())),
        prompts=content.get("prompts", {}),
        prompt_task=content.get("prompt_task", ""),
        commits=stored_value(attributes, COMMITS) or {},
        digests=stored_value(attributes, INPUTS) or {},
        template_date=attributes.get(TEMPLATE_DATE),
    )
