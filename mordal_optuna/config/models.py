"""The study file's `pool` section: vision encoders and LLMs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from mordal_optuna.config.base import Name, Positive, Section
from mordal_optuna.errors import ConfigError
from mordal_optuna.pool import ImageAspect, ModelSource, TemplateOptions

if TYPE_CHECKING:
    from datetime import date

# Name of a variable of a chat template.
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class ModelSettings(Section):
    """One model of the pool.

    Attributes:
        name: name of the model in the study, its plots and its reports.
        location: local folder or hub id.
        revision: commit, tag or branch on the hub; None for the default branch.
        trust_remote_code: whether code shipped with the model may run.
    """

    name: Name
    location: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    trust_remote_code: bool = False
    # The commit that `revision` stood for when the study began; no key of the study file.
    _commit: str | None = PrivateAttr(None)

    def at_commit(self, commit: str | None) -> Self:
        """The same model, loaded at a commit.

        Args:
            commit: the commit; None for `revision`.
        """
        pinned = self.model_copy()
        pinned._commit = commit
        return pinned

    def source(self) -> ModelSource:
        """The model's location as a plain value."""
        return ModelSource(
            self.name, self.location, self._commit or self.revision, self.trust_remote_code
        )


class EncoderSettings(ModelSettings):
    """One vision encoder of the pool.

    Attributes:
        image_size: side of its images in pixels, such as 518 for DINOv2; None for the size of its
            image processor. Where the architecture fixes the number of positions, the position
            embeddings are interpolated.
    """

    image_size: Positive | None = None

    def encoder(self, aspect: ImageAspect) -> ModelSource:
        """The encoder's location and pixels as a plain value.

        Args:
            aspect: how images become squares.
        """
        return replace(self.source(), image_aspect=aspect, image_size=self.image_size)


class LlmSettings(ModelSettings):
    """One LLM of the pool.

    Attributes:
        template_args: values of variables that the LLM's chat template reads. `enable_thinking` is
            false where a template reads it and no value is given.
        chat_template: template in place of the LLM's own, as a path or as text; None for its own.
    """

    template_args: dict[Variable, bool | int | float | str | None] = {}
    chat_template: Annotated[str, Field(min_length=1)] | None = None

    @property
    def template_file(self) -> Path | None:
        """The file of the template; None if it is given as text, or not at all."""
        given = self.chat_template
        return None if given is None or "{" in given else Path(given)

    def source(self, day: date | None = None) -> ModelSource:
        """The LLM's location, and how its chat template is used, as a plain value.

        Args:
            day: date that the template takes for today; None for the real one.

        Raises:
            ConfigError: if the file of the template cannot be read.
        """
        arguments = tuple(sorted(self.template_args.items()))
        shown = day.isoformat() if day else None
        return replace(super().source(), template=TemplateOptions(self._text(), arguments, shown))

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the LLM in a study; options that are not given are left out.

        Raises:
            ConfigError: if the file of the template cannot be read.
        """
        stored = self.model_dump(mode="json", exclude={"template_args", "chat_template"})
        if self.template_args:
            stored["template_args"] = dict(self.template_args)
        text = self._text()
        if text is not None:
            stored["chat_template"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return stored

    def _text(self) -> str | None:
        if self.template_file is None:
            return self.chat_template
        try:
            return self.template_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                [
                    f"pool.llms.{self.name}.chat_template: {self.chat_template!r} cannot be read "
                    f"({error}); it must be a template or the path of one"
                ]
            ) from error


class PoolSettings(Section):
    """The models to choose from; every vision encoder with every LLM is a candidate.

    Attributes:
        vision_encoders: the vision encoders, at least one.
        llms: the LLMs, at least one.
    """

    vision_encoders: Annotated[tuple[EncoderSettings, ...], Field(min_length=1)]
    llms: Annotated[tuple[LlmSettings, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_duplicates(self) -> PoolSettings:
        for key in ("vision_encoders", "llms"):
            models = getattr(self, key)
            names = [model.name for model in models]
            # An encoder may be listed at several image sizes.
            places = [
                (model.location, model.revision, getattr(model, "image_size", None))
                for model in models
            ]
            for number, model in enumerate(models):
                if names.index(model.name) < number or places.index(places[number]) < number:
                    msg = (
                        f"{key}: {model.name!r} at {model.location!r} appears twice; "
                        "each model is listed once, under one name"
                    )
                    raise ValueError(msg)
        return self
