"""Sentences about what is wrong with a study or does not fit, with values that would mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mordal_optuna.planning.devices import DEVICES
from mordal_optuna.planning.tasks import KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mordal_optuna.config import StudySettings
    from mordal_optuna.planning.data import DataFacts
    from mordal_optuna.planning.devices import Device
    from mordal_optuna.planning.memory import Memory
    from mordal_optuna.planning.models import ModelFacts
    from mordal_optuna.planning.tasks import TaskFacts
    from mordal_optuna.planning.tokens import Tokens
    from mordal_optuna.pool import Candidate

# Share of cut samples from which on a longer `max_length` is advised.
_MUCH_CUT = 0.05
_SECTIONS = {"vision_encoder": "vision_encoders", "llm": "llms"}


def about_models(facts: Sequence[ModelFacts]) -> Iterator[str]:
    """Models that cannot be used.

    Args:
        facts: all models of the pool.
    """
    for model in facts:
        if model.problem:
            yield f"pool.{_SECTIONS[model.kind]}.{model.name}: {model.problem}"


def about_tasks(tasks: Sequence[TaskFacts]) -> Iterator[str]:
    """Tasks that are not defined.

    Args:
        tasks: tasks of the study.
    """
    for task in tasks:
        if not task.defined:
            yield (
                f"task {task.settings.name}: is in no YAML of `task_folders`, nor one of "
                f"lmms-eval's that need none: {', '.join(sorted(KNOWN))}"
            )


def about_data(
    settings: StudySettings, data: DataFacts, tokens: Mapping[str, Tokens]
) -> Iterator[str]:
    """Alignment data that cannot be used, or of which much is lost.

    Args:
        settings: the study file's settings.
        data: the alignment data.
        tokens: tokens of samples by LLM.
    """
    recipe = settings.alignment
    if data.problem:
        yield f"alignment: {data.problem}"
    if data.available and data.samples and not recipe.samples and data.samples < data.available:
        yield (
            f"alignment: {data.available:,} samples become {data.samples:,}, a whole number of "
            f"batches of {recipe.batch_size_for(data.available)}"
        )
    for problems, option, allowed, what in (
        (
            data.missing,
            "skip_broken_images",
            recipe.skip_broken_images,
            "image files do not exist",
        ),
        (data.broken, "skip_unusable", recipe.skip_unusable, "records are no conversation"),
    ):
        share = len(problems) / max(data.read, 1)
        if share > allowed:
            yield (
                f"alignment: {len(problems)} of {data.read} {what}, such as {problems[0]}; "
                f"`{option}: {_rounded_up(share)}` would allow that"
            )
    for name, found in tokens.items():
        if found.unusable > recipe.skip_unusable:
            yield (
                f"pool.llms.{name}: {100 * found.unusable:.0f} % of the samples cannot be trained "
                f"on, such as {found.example}; skip_unusable allows "
                f"{100 * recipe.skip_unusable:g} %"
            )


def about_lengths(
    settings: StudySettings, facts: Sequence[ModelFacts], tokens: Mapping[str, Tokens]
) -> Iterator[str]:
    """Samples that are cut by `max_length`.

    Args:
        settings: the study file's settings.
        facts: all models of the pool.
        tokens: tokens of samples by LLM.
    """
    most = settings.alignment.max_length
    for model in facts:
        if model.encoder is None:
            continue
        patches = model.encoder.image_tokens
        counted = [found for found in tokens.values() if found.counted and len(found.text)]
        cut = max((found.cut(patches, most) for found in counted), default=0.0)
        if patches >= most:
            yield (
                f"pool.vision_encoders.{model.name}: an image takes {patches:,} tokens, and "
                f"max_length is {most:,}; `max_length: {_next_power(patches + 256)}` or a smaller "
                "`image_size` leaves room for the answer"
            )
        elif cut > _MUCH_CUT:
            longest = max(int((f.text + f.images * patches).max()) for f in counted)
            yield (
                f"pool.vision_encoders.{model.name}: {100 * cut:.0f} % of the samples are cut at "
                f"max_length {most:,}; the longest has {longest:,} tokens"
            )


def about_memory(memory: Mapping[Candidate, Memory], device: Device) -> Iterator[str]:
    """Candidates that do not fit into the device, the largest first.

    Args:
        memory: memory of each candidate.
        device: the device.
    """
    if device.memory is None:
        return
    size = device.memory
    tight = {c: m for c, m in memory.items() if not m.fits(size)}
    if not tight:
        return
    candidate, largest = max(tight.items(), key=lambda entry: entry[1].total)
    others = f" and {len(tight) - 1} other pairs" if len(tight) > 1 else ""
    needs = (
        f"{candidate}{others}: {largest.tokens:,} tokens at once need "
        f"{largest.total / 1e9:.0f} GB of the {size / 1e9:.0f} GB of {device.name}"
    )
    plain = min(m.fitting_tokens(size) for m in tight.values())
    longest = max(m.longest for m in tight.values())
    again = min(m.fitting_tokens(size, recomputed=True) for m in tight.values())
    if plain >= longest:
        yield f"{needs}; `micro_batch_tokens: {plain}` fits"
    elif again >= longest:
        yield (
            f"{needs}; `gradient_checkpointing: true` with `micro_batch_tokens: {again}` fits, "
            "for about a third more computation"
        )
    else:
        yield f"{needs}; {_larger(largest)}, or a smaller LLM"


def _larger(memory: Memory) -> str:
    fitting = [
        device
        for device in DEVICES.values()
        if device.memory and memory.fitting_tokens(device.memory, recomputed=True) > memory.longest
    ]
    if not fitting:
        return "no device of the table holds it; shard the LLM by FSDP (`accelerate config`)"
    smallest = min(fitting, key=lambda device: device.memory or 0.0)
    return f"it needs a device such as {smallest.name}"


def _next_power(tokens: int) -> int:
    size = 256
    while size < tokens:
        size *= 2
    return size


def _rounded_up(share: float) -> float:
    return min(0.99, -(-share * 100 // 1) / 100)
