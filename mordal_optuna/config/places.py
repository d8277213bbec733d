"""Where a study's files are, and how it uses the machine; nothing here affects its identity."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from mordal_optuna.config.base import Name, NonNegative, Positive, Section


def _command(value: Any) -> Any:
    """Refuse what is no command, with one sentence in place of one for each kind."""
    if isinstance(value, str) and value.strip():
        return value
    listed = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
    if listed and value and value[0]:
        return tuple(value)
    raise PydanticCustomError(
        "command",
        "allowed are a string for the shell, or a list of a program and its arguments",
    )


# A command: arguments, which no shell reads, or one string, which a shell does.
Command = Annotated[str | tuple[str, ...], BeforeValidator(_command)]


class ZooSettings(Section):
    """An embedded pool of small models, pretrained before the study starts.

    Attributes:
        recipe: name of the embedded pool.
        folder: folder for its models, alignment set and task data.
        workers: number of processes that pretrain in parallel; 0 pretrains in the main process.
    """

    recipe: Literal["quickstart", "tiny"]
    folder: Path
    workers: NonNegative = 2


class CheckpointSettings(Section):
    """Where checkpoints are stored, and how many.

    Attributes:
        folder: local folder or fsspec address, such as `s3://bucket/mordal`; None for
            `checkpoints` in the shared folder, which is the work folder by default.
        keep: `all` keeps the checkpoints of all rungs of a candidate, `latest` those of the latest
            two.
    """

    folder: str | None = None
    keep: Literal["all", "latest"] = "all"


class RuntimeSettings(Section):
    """Use of the machine; results differ by rounding at most.

    Attributes:
        device: torch device; `auto` for the accelerator if there is one, else the CPU.
        threads: number of torch's CPU threads; more than the number of free cores slows small
            models down.
        data_threads: number of threads that decode images, and of processes that count tokens
            before a rung.
        feature_cache_gb: disk space for vision features of the alignment set, which all LLMs
            share, in 10^9 bytes. The features of the first samples are stored; 0 stores none.
        shared_features: whether cached features lie in `shared`, so that each is computed by one
            worker, rather than in each worker's own folder.
        trackers: experiment trackers of Accelerate, such as `tensorboard` or `wandb`.
    """

    device: str = "auto"
    threads: Positive = 1
    data_threads: Positive = 2
    feature_cache_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    shared_features: bool = False
    trackers: tuple[Name, ...] = ()
