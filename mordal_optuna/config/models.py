"""The study file's `pool` section: vision encoders and LLMs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, model_validator

from mordal_optuna.config.base import Name, Positive, Section
from mordal_optuna.pool import ImageAspect, ModelSource


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


class PoolSettings(Section):
    """The models to choose from; every vision encoder with every LLM is a candidate.

    Attributes:
        vision_encoders: the vision encoders, at least one.
        llms: the LLMs, at least one.
    """

    vision_encoders: Annotated[tuple[EncoderSettings, ...], Field(min_length=1)]
    llms: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]

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
