"""Facts about each model of a pool, from its small files; nothing is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mordal_optuna.errors import ModelError
from mordal_optuna.models.hub import HUB_PREFIX, weight_files
from mordal_optuna.planning.foreign import open_clip_shape, published_shape, timm_shape
from mordal_optuna.planning.places import Hub, Place
from mordal_optuna.planning.shapes import EncoderShape, LlmShape, encoder_shape, llm_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import ModelSource

    Shape = TypeVar("Shape", EncoderShape, LlmShape)

_KNOWN = Path(__file__).with_name("known_models.json")
_PICKLED = (
    "has no safetensors weights; `mordal run` names the command that converts it, and "
    "docs/supported-encoders.md#weights has more"
)
_NOT_READ = "; its configuration cannot be read, so nothing is estimated for it"


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before anything is loaded.

    Attributes:
        name: name in the study.
        kind: its role in the pool.
        location: folder or hub id.
        found: where it was found: `folder`, `cache`, `hub`, `public facts` (its published sizes,
            which come with this package), `not built yet` (of an embedded pool), or `nowhere`.
        commit: commit on the hub; None for a folder, or if it is not known.
        licence: licence of the model card; None if it is not known.
        gated: whether the licence must be accepted on the hub; None if it is not known.
        weights: format of its weights: `safetensors`, `other`, or None if it is not known.
        parameters: number of parameters of the whole checkpoint; computed from its sizes if no
            header of weights was read.
        encoder: sizes of a vision encoder; None for an LLM, or if they are not known.
        llm: sizes of an LLM; None for an encoder, or if they are not known.
        problem: why it cannot be used; empty if nothing is known against it.
        place: its files.
    """

    name: str
    kind: Literal["vision_encoder", "llm"]
    location: str
    found: str
    commit: str | None = None
    licence: str | None = None
    gated: bool | None = None
    weights: str | None = None
    parameters: int | None = None
    encoder: EncoderShape | None = None
    llm: LlmShape | None = None
    problem: str = ""
    place: Place = field(default_factory=lambda: Place("nowhere"))

    @property
    def supported(self) -> bool | None:
        """Whether it can be used; None if that is not known."""
        if self.problem:
            return False
        return True if self.encoder or self.llm else None


def read_models(settings: StudySettings, hub: Hub) -> tuple[ModelFacts, ...]:
    """Facts about all models of a study, encoders first.

    Args:
        settings: the study file's settings.
        hub: the hub, which is asked for models that are no folders.
    """
    pool, zoo = settings.models(), settings.zoo
    made = zoo.folder.absolute() if zoo else None
    facts = []
    for kind, sources in (("vision_encoder", pool.vision_encoders), ("llm", pool.llms)):
        for source in sources:
            place = Path(source.location).absolute()
            if zoo and made and made in place.parents and not place.is_dir():
                facts.append(_of_zoo(source, kind, zoo.recipe))
                continue
            facts.append(_read(source, kind, hub))
    return tuple(facts)


def _facts(source: ModelSource, kind: Any, found: str, **values: Any) -> ModelFacts:
    return ModelFacts(source.name, kind, source.location, found, **values)


def _of_zoo(source: ModelSource, kind: Any, recipe: str) -> ModelFacts:
    """Facts about a model of an embedded pool that is not built yet, by its recipe."""
    from mordal_optuna.zoo.quickstart import recipe_named

    content: Any = recipe_named(recipe)
    name = Path(source.location).name
    facts = _facts(source, kind, "not built yet", weights="safetensors")
    made = content.encoders if kind == "vision_encoder" else content.llms
    found = {one.name: _config_of(one) for one in made}
    if name not in found:
        return replace(facts, problem=f"the zoo recipe {recipe!r} does not make it")
    return _with_shape(source, facts, {"config.json": found[name]}.get)


def _config_of(recipe: Any) -> dict[str, Any]:
    """Configuration of a model of an embedded pool, as `zoo.pretraining` builds it."""
    shared = {
        "model_type": recipe.family,
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": max(1, recipe.width // 32),
    }
    if hasattr(recipe, "patch_size"):
        sizes = {"image_size": recipe.image_size, "patch_size": recipe.patch_size}
        return {**shared, **sizes, "intermediate_size": 4 * recipe.width}
    return {**shared, "intermediate_size": 3 * recipe.width, "vocab_size": recipe.vocabulary}


def _read(source: ModelSource, kind: Any, hub: Hub) -> ModelFacts:
    try:
        place = hub.place(source)
    except (ModelError, OSError) as error:
        return _facts(source, kind, "nowhere", problem=_reason(source, error))
    if place.found == "nowhere" and not place.problem:
        return _public(source, kind)
    facts = _facts(
        source,
        kind,
        place.found,
        commit=place.commit,
        licence=place.licence,
        gated=place.gated,
        weights=_format(source, place),
        parameters=place.parameters,
        problem=place.problem,
        place=place,
    )
    if facts.problem:
        return _sized(facts, _public(source, kind)) if place.gated else facts
    return _with_shape(source, facts, place.json)


def _with_shape(
    source: ModelSource, facts: ModelFacts, read: Callable[[str], dict[str, Any] | None]
) -> ModelFacts:
    """Facts with the sizes that the configuration tells."""
    if facts.weights == "other" and not facts.problem:
        facts = replace(facts, problem=_PICKLED)
    try:
        if facts.kind == "llm":
            config = read("config.json")
            if config is None:
                raise ModelError(source.name, "has no config.json")
            llm = llm_shape(source.name, config)
            return replace(facts, llm=llm, parameters=facts.parameters or llm.parameters)
        encoder = _encoder(source, read)
        return replace(facts, encoder=encoder, parameters=facts.parameters or encoder.parameters)
    except ModelError as error:
        return replace(facts, problem=facts.problem or _reason(source, error))
    except (KeyError, ValueError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}{_NOT_READ}"
        return replace(facts, problem=facts.problem or reason)


def _encoder(source: ModelSource, read: Callable[[str], dict[str, Any] | None]) -> EncoderShape:
    config = None if source.location.startswith(HUB_PREFIX) else read("config.json")
    if config is None:
        open_clip = read("open_clip_config.json")
        if open_clip is None:
            raise ModelError(source.name, "has no config.json")
        return open_clip_shape(source.name, open_clip, source.image_size)
    side = source.image_size or _own_side(read("preprocessor_config.json"))
    if "model_type" not in config and "architecture" in config:  # timm's own format
        size = (config.get("pretrained_cfg") or {}).get("input_size")
        return timm_shape(source.name, config["architecture"], side or (size and size[1]))
    published = published_shape(source.name, config, side)
    return published or encoder_shape(source.name, config, side)


def _own_side(processor: Mapping[str, Any] | None) -> int | None:
    """Side of the square images that an image processor makes; None if it does not say."""
    for key in ("crop_size", "size"):
        size = (processor or {}).get(key)
        if key == "crop_size" and not (processor or {}).get("do_center_crop", True):
            continue
        if isinstance(size, int):
            return size
        if isinstance(size, dict):
            side = size.get("height") or size.get("shortest_edge")
            return int(side) if side else None
    return None


def _public(source: ModelSource, kind: Any) -> ModelFacts:
    """Facts from the table of public models."""
    known = public_models().get(source.location.removeprefix(HUB_PREFIX))
    if known is None:
        return _facts(source, kind, "nowhere")
    given = {"licence": known["licence"], "gated": known["gated"], "weights": known.get("weights")}
    facts = _facts(source, kind, "public facts", **given)
    config = known["config"]
    name = "open_clip_config.json" if "model_cfg" in config else "config.json"
    return _with_shape(source, facts, lambda asked: config if asked == name else None)


def _sized(facts: ModelFacts, public: ModelFacts) -> ModelFacts:
    """Facts of a gated model, with its published sizes."""
    parameters = facts.parameters or public.parameters
    return replace(facts, encoder=public.encoder, llm=public.llm, parameters=parameters)


@cache
def public_models() -> Mapping[str, Any]:
    """Published sizes, licence and gating of common models, by hub id.

    Source: each model's card and `config.json` on huggingface.co, written down by hand; None where
    the card names no licence, or gating has changed.
    """
    content: dict[str, Any] = json.loads(_KNOWN.read_text(encoding="utf-8"))
    return content


def _format(source: ModelSource, place: Place) -> str | None:
    if weight_files(source, place.names):
        return "safetensors"
    # The cache may hold a configuration without weights.
    return None if place.found == "cache" and not _has_weights(place) else "other"


def _has_weights(place: Place) -> bool:
    return any(name.endswith((".bin", ".pt", ".pth", ".safetensors")) for name in place.names)


def _reason(source: ModelSource, error: Exception) -> str:
    return str(error).removeprefix(f"model {source.name!r}: ")
