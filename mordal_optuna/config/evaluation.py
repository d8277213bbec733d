"""Section of the study file about what generates the answers that are scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations at run time
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mordal_optuna.config.base import Section

EngineName = Literal["live", "vllm", "sglang", "llava_hf"]


class EvaluationSettings(Section):
    """What generates the answers.

    Attributes:
        engine: `live` asks the model that is trained, in this process. `vllm`, `sglang` and
            `llava_hf` write it as a merged export, and ask lmms-eval's model of that name about
            the export. They need LLaVA's own shape, a single process, and `likelihood: false` for
            every task. `vllm` and `sglang` have not been seen to run.
        merged: whether the live model answers with LoRA merged into the LLM, as an export does. It
            is faster, and for `bf16` only, where merging rounds, so that scores with and without
            it differ. Training goes on with the weights as they were. Engines answer so anyway.
        arguments: further arguments of that model, as in lmms-eval's `--model_args`, such as
            `{gpu_memory_utilization: 0.6}`. All but those of `SPEED` are part of the identity of
            the study and of its scores.
    """

    engine: EngineName = "live"
    merged: bool = False
    arguments: Mapping[str, bool | int | float | str] = Field(default_factory=dict)

    # Arguments that change no answer, except for rounding.
    SPEED: ClassVar[frozenset[str]] = frozenset(
        {
            *("gpu_memory_utilization", "tensor_parallel_size", "batch_size", "enforce_eager"),
            *("max_num_seqs", "max_num_batched_tokens", "threads", "device", "device_map"),
        }
    )
    # Arguments that the export and the tasks determine.
    TAKEN: ClassVar[frozenset[str]] = frozenset(
        {
            *("model", "pretrained", "revision", "max_new_tokens", "chat_template"),
            *("trust_remote_code", "data_parallel_size"),
        }
    )

    @model_validator(mode="after")
    def _fit(self) -> EvaluationSettings:
        if self.arguments and self.engine == "live":
            msg = "arguments: given without an engine; `engine: live` takes none"
            raise ValueError(msg)
        if self.merged and self.engine != "live":
            msg = f"merged: engine {self.engine!r} scores merged weights in any case; leave it out"
            raise ValueError(msg)
        taken = sorted(self.TAKEN & self.arguments.keys())
        if taken:
            msg = f"arguments: {taken[0]!r} follows from the export and the task; leave it out"
            raise ValueError(msg)
        return self

    @property
    def is_identity(self) -> bool:
        """Whether it is part of a study's identity: studies of older versions had the default."""
        return self.merged or self.engine != "live"

    def shaping(self) -> dict[str, bool | int | float | str]:
        """The arguments that may change answers, sorted by name."""
        return {k: v for k, v in sorted(self.arguments.items()) if k not in self.SPEED}

    def mark(self) -> str:
        """Part of the address of an engine's scores; empty for the live model."""
        if self.engine == "live":
            return ""
        shaping = self.shaping()
        digest = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()[:8]
        return f"{self.engine}-{digest}" if shaping else self.engine

    def stored(self) -> dict[str, object]:
        """What identifies a study: the engine, and what else may change answers."""
        if self.engine == "live":
            return {"engine": "live", "merged": self.merged}
        return {"engine": self.engine, "arguments": self.shaping()}
