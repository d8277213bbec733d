"""The pool: vision encoders, LLMs, and the candidates that they form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mordal_optuna.errors import ConfigError

# How an image becomes a square. `pad`: it is padded to a square with the image processor's mean
# colour and resized, as in LLaVA-1.5. `own`: the checkpoint's own image processor.
ImageAspect = Literal["pad", "own"]


class Candidate(NamedTuple):
    """A pair of a vision encoder and an LLM, by their names in the pool.

    A tuple instead of a dataclass: candidates are keys of most tables, and the hash of a dataclass
    takes eight times as long.

    Attributes:
        vision_encoder: name of the vision encoder.
        llm: name of the LLM.
    """

    vision_encoder: str
    llm: str

    def __str__(self) -> str:
        """The pair as shown to users."""
        return f"{self.vision_encoder} + {self.llm}"


@dataclass(frozen=True)
class TemplateOptions:
    """How the chat template of an LLM is used; vision encoders have none.

    Attributes:
        text: template in place of the LLM's own; None for its own.
        arguments: names and values of variables that the template reads, in the order of names.
        date: date that the template takes for today, as YYYY-MM-DD; None for the real one.
        system: system prompt of the default template, which LLMs without a template of their own
            use; None for none.
    """

    text: str | None = None
    arguments: tuple[tuple[str, bool | int | float | str | None], ...] = ()
    date: str | None = None
    system: str | None = None


@dataclass(frozen=True)
class ModelSource:
    """Location of a pretrained model.

    Attributes:
        name: name of the model in the pool.
        location: existing local folder, or hub id.
        revision: commit, tag or branch on the hub; None for a local folder or the default branch.
        trust_remote_code: whether code shipped with the model may run.
        template: how the chat template is used.
        image_aspect: how a vision encoder's images become squares, see `ImageAspect`.
        image_size: side of a vision encoder's images in pixels; None for the image processor's.
    """

    name: str
    location: str
    revision: str | None = None
    trust_remote_code: bool = False
    template: TemplateOptions = TemplateOptions()
    image_aspect: ImageAspect = "own"
    image_size: int | None = None

    def pixels(self) -> dict[str, str]:
        """What changes the pixels that a checkpoint's own image processor makes, by name.

        Empty for the checkpoint's own pixels, so that digests and addresses that older versions
        stored stay valid.
        """
        changes: dict[str, str] = {}
        if self.image_aspect != "own":
            changes["image aspect"] = self.image_aspect
        if self.image_size is not None:
            changes["image size"] = str(self.image_size)
        return changes


def with_system(source: ModelSource, system: str | None) -> ModelSource:
    """An LLM with a system prompt for the default template.

    Args:
        source: the LLM.
        system: the prompt; None for none.
    """
    return replace(source, template=replace(source.template, system=system))


@dataclass(frozen=True)
class Pool:
    """All models of a study; a candidate is one vision encoder with one LLM.

    Attributes:
        vision_encoders: vision encoders in the order of the study file, each name once.
        llms: LLMs in the order of the study file, each name once.

    Raises:
        ConfigError: if a name appears twice.
    """

    vision_encoders: tuple[ModelSource, ...]
    llms: tuple[ModelSource, ...]

    def __post_init__(self) -> None:
        for kind, names in (("vision_encoders", self.encoder_names), ("llms", self.llm_names)):
            if len(set(names)) < len(names):
                raise ConfigError(
                    [f"pool.{kind}: got {', '.join(names)}; each name is allowed once"]
                )

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """Names of the vision encoders, in the order of the study file."""
        return tuple(source.name for source in self.vision_encoders)

    @property
    def llm_names(self) -> tuple[str, ...]:
        """Names of the LLMs, in the order of the study file."""
        return tuple(source.name for source in self.llms)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All pairs, encoder by encoder."""
        return tuple(Candidate(v, m) for v in self.encoder_names for m in self.llm_names)

    def parts(self, candidate: Candidate) -> tuple[ModelSource, ModelSource]:
        """The vision encoder and the LLM of a candidate.

        Args:
            candidate: a candidate of this pool.

        Raises:
            ConfigError: if the pool does not hold both models.
        """
        encoders = {source.name: source for source in self.vision_encoders}
        llms = {source.name: source for source in self.llms}
        if candidate.vision_encoder not in encoders or candidate.llm not in llms:
            raise ConfigError(
                [f"candidate: got {candidate}; the pool has {', '.join([*encoders, *llms])}"]
            )
        return encoders[candidate.vision_encoder], llms[candidate.llm]
