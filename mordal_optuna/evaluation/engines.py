"""Engines: other models of lmms-eval that answer in place of the live one, from a merged export.

An engine is a name in lmms-eval's registry with arguments. What vLLM and SGLang support is read
from their sources (`vllm/model_executor/models/llava.py` builds CLIP, SigLIP and Pixtral towers,
`sglang/srt/models/llava.py` CLIP and SigLIP ones); neither has been seen to run. `llava_hf` runs
on CPUs as well.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mordal_optuna.errors import ConfigError
from mordal_optuna.models.assemble import encoder_fields, head_fields, is_plain
from mordal_optuna.models.families import llm_family, vision_family
from mordal_optuna.models.generation import load_chat, own_generation
from mordal_optuna.models.loading import load_config
from mordal_optuna.models.turns import stop_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from mordal_optuna.pool import ModelSource, Pool


@dataclass(frozen=True)
class Engine:
    """A model of lmms-eval that reads an export.

    Attributes:
        name: its name in lmms-eval.
        package: module that must be installed.
        install: what installs it.
        folder: argument that names the folder of the export.
        arguments: further arguments; those of the study file come after them.
        towers: classes of vision towers that it builds; None for all that LLaVA's own class has.
        stops_at_eos_alone: whether it ignores further stop tokens of the export.
        takes_device: whether it has arguments `device` and `device_map`.
        counts_tokens: whether every answer comes with its number of tokens, so that one without it
            is one that failed.
        beams: whether it searches with beams.
    """

    name: str
    package: str
    install: str
    folder: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    towers: frozenset[str] | None = None
    stops_at_eos_alone: bool = False
    takes_device: bool = False
    counts_tokens: bool = False
    beams: bool = False

    def built_with(
        self, folder: Path, device: torch.device, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All arguments of the model.

        Args:
            folder: folder of the export.
            device: device that is free for the engine.
            given: arguments of the study file.
        """
        names = ("device", "device_map") if self.takes_device else ()
        placed = dict.fromkeys(names, str(device))
        return {**self.arguments, **placed, **given, self.folder: str(folder)}


_CLIP_AND_SIGLIP = frozenset({"CLIPVisionModel", "SiglipVisionModel"})
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            "vllm",
            package="vllm",
            install="pip install vllm",
            folder="model",
            arguments={
                "trust_remote_code": False,
                "batch_size": 256,
                # lmms-eval takes the larger of this and the task's limit.
                "max_new_tokens": 1,
                "disable_log_stats": True,
            },
            towers=_CLIP_AND_SIGLIP,
        ),
        Engine(
            "sglang",
            package="sglang",
            install="pip install sglang",
            folder="model",
            arguments={"trust_remote_code": False, "batch_size": 256},
            towers=_CLIP_AND_SIGLIP,
            counts_tokens=True,
        ),
        Engine(
            "llava_hf",
            package="decord",  # which lmms-eval imports for videos
            install="pip install decord",
            folder="pretrained",
            arguments={"batch_size": 1},
            stops_at_eos_alone=True,
            takes_device=True,
            counts_tokens=True,
            beams=True,
        ),
    )
}


def check_engine(name: str, pool: Pool, *, merged: bool, processes: int, sharded: bool) -> None:
    """Refuse an engine that cannot answer for every pair of a pool, before any cost.

    Args:
        name: name of the engine, or `live`.
        pool: the study's models.
        merged: whether the live model is to answer with LoRA merged.
        processes: number of processes of the launch.
        sharded: whether the LLM is sharded across them.

    Raises:
        ConfigError: naming what is missing, or the models that do not fit.
        ModelError: if a model's configuration cannot be read.
    """
    if merged and sharded:
        raise ConfigError(["evaluation.merged: needs whole weights; FSDP shards them"])
    if name == "live":
        return
    engine = ENGINES[name]
    if processes > 1 or sharded:
        raise _refused(name, "needs a single process without FSDP; start one, or use `live`")
    if importlib.util.find_spec(engine.package) is None:
        raise _refused(
            name, f"needs the package {engine.package!r}, which is missing: {engine.install}"
        )
    odd = [
        f"{source.name} ({reason})"
        for source, reason in (
            *((s, _encoder_problem(engine, s)) for s in pool.vision_encoders),
            *((s, _llm_problem(engine, s)) for s in pool.llms),
        )
        if reason
    ]
    if odd:
        raise _refused(name, f"cannot answer for {'; '.join(odd)}; use `live` for this pool")


def _refused(name: str, reason: str) -> ConfigError:
    return ConfigError([f"evaluation.engine: {name!r} {reason}"])


def _encoder_problem(engine: Engine, source: ModelSource) -> str:
    """Why an engine cannot read exports with an encoder; empty if it can."""
    config = load_config(source)
    family = vision_family(source.name, config)
    if family.architectures or not is_plain(encoder_fields(family, config)):  # or a timm model
        return "its exports need a class of their own"
    if engine.towers is not None and family.tower not in engine.towers:
        return f"{engine.name} has no {family.tower}"
    return ""


def _llm_problem(engine: Engine, source: ModelSource) -> str:
    """Why an engine cannot read exports with an LLM; empty if it can."""
    config = load_config(source)
    family = llm_family(source.name, config)
    if not is_plain(head_fields(family, config)):
        return "its exports need a class of their own"
    chat = load_chat(source)
    stops = stop_tokens(chat, own_generation(source))
    if engine.stops_at_eos_alone and stops != [chat.tokenizer.eos_token_id]:
        return f"{engine.name} stops at {chat.tokenizer.eos_token!r} alone"
    return ""
