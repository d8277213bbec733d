"""The pool: vision encoders, LLMs, and the candidates they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Candidate(NamedTuple):
    """One pair of the pool, by the names its models have there.

    A tuple and not a dataclass: candidates are keys of most tables, and a dataclass's hash takes
    eight times as long.
    """

    vision_encoder: str
    llm: str

    def __str__(self) -> str:
        """The pair as shown to people."""
        return f"{self.vision_encoder} + {self.llm}"


@dataclass(frozen=True)
class ModelSource:
    """Where a pretrained model comes from.

    Attributes:
        name: its name in the pool; unique among its kind.
        location: an existing local folder, or a hub id.
        revision: commit, tag or branch on the hub; None for a local folder or the default branch.
        trust_remote_code: whether code shipped with the model may run; off unless asked for.
    """

    name: str
    location: str
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Pool:
    """All models of a study; a candidate is one encoder with one LLM, in this order."""

    vision_encoders: tuple[ModelSource, ...]
    llms: tuple[ModelSource, ...]

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
        """Every pair, encoder by encoder."""
        return tuple(Candidate(v, m) for v in self.encoder_names for m in self.llm_names)

    def parts(self, candidate: Candidate) -> tuple[ModelSource, ModelSource]:
        """The encoder and the LLM of a candidate of this pool."""
        encoder = next(s for s in self.vision_encoders if s.name == candidate.vision_encoder)
        llm = next(s for s in self.llms if s.name == candidate.llm)
        return encoder, llm
