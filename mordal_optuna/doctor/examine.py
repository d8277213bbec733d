"""All checks of a study, one model after another; nothing is written, and nothing is kept."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.config import adapted
from mordal_optuna.config.shipped import shipped
from mordal_optuna.doctor.chats import open_chat
from mordal_optuna.doctor.encoders import ENCODER_CHECKS, open_encoder
from mordal_optuna.doctor.findings import (
    Check,
    Notebook,
    Report,
    failed,
    ok,
    skipped,
    warning,
)
from mordal_optuna.doctor.pairs import PAIR_CHECKS, STEPS, answer_to, look_at_llm, open_pair
from mordal_optuna.doctor.templates import CHAT_CHECKS
from mordal_optuna.errors import ConfigError
from mordal_optuna.evaluation.documents import reference_values
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.models.images import open_image
from mordal_optuna.planning.models import read_models
from mordal_optuna.planning.places import Hub
from mordal_optuna.pool import Candidate
from mordal_optuna.study.warnings import StudyFacts, warnings_before_training
from mordal_optuna.workbench.devices import find_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image

    from mordal_optuna.alignment.samples import Sample
    from mordal_optuna.config import StudySettings, TaskSettings
    from mordal_optuna.doctor.findings import Verdict
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.planning.shapes import EncoderShape
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress

    # Data with the first samples, and different images of them.
    _Begun = tuple[AlignmentSet, tuple[Sample, ...], tuple[Image, ...]]

# Samples whose lengths are counted, different images that encoders see, documents whose reference
# answers are scored.
_SAMPLES, _IMAGES, _REFERENCES = 256, 4, 8
# Mean value of a task's own reference answers below which a warning is given.
_WELL_READ = 0.5
_LOADS, _WEIGHTS, _JOINS = "loads", "weights", "joins"


@dataclass(frozen=True)
class _Inputs:
    """Data and tasks of a study, as far as they can be used.

    Attributes:
        settings: the study, with defaults adapted to the data.
        data: alignment set; None if it cannot be read.
        tasks: tasks that could be built, in the study file's order.
        samples: the first samples.
        images: different images of the first samples.
    """

    settings: StudySettings
    data: AlignmentSet | None
    tasks: tuple[Task, ...]
    samples: tuple[Sample, ...]
    images: tuple[Image, ...]


def examine(settings: StudySettings, progress: Progress, only: Sequence[str] = ()) -> Report:
    """Check a study's data, tasks, models and some of its pairs.

    At most one model, or one pair, is in memory at a time.

    Args:
        settings: the study file's settings.
        progress: receives progress updates.
        only: names of models of the pool that are checked, and the pairs of them; empty for all.

    Raises:
        ConfigError: if a name is not in the pool, torch cannot use the device, or the pool of a
            `zoo` is not built yet.
        InfrastructureError: if a disk, a network or a device fails.
    """
    pool = settings.models()
    chosen = _chosen(settings, only)
    device = find_device(settings.runtime.device)
    torch.set_num_threads(settings.runtime.threads)
    notes = Notebook()
    progress.stage("data and tasks")
    inputs = _inputs(settings, progress, notes)
    facts = read_models(settings, Hub())
    promised = {one.name: one.encoder for one in facts if one.kind == "vision_encoder"}
    encoders = []
    for source in (one for one in pool.vision_encoders if one.name in chosen):
        progress.stage(f"encoder {source.name}")
        with _freed():
            loads = _encoder(source, inputs, promised[source.name], device, notes)
        if loads:
            encoders.append(source.name)
    llms, most = [], max((one.image_tokens for one in promised.values() if one), default=1)
    for source in (one for one in pool.llms if one.name in chosen):
        progress.stage(f"LLM {source.name}")
        with _freed():
            loads = _llm(source, inputs, most, device, notes)
        if loads:
            llms.append(source.name)
    some_encoder = chosen.intersection(pool.encoder_names)
    some_llm = chosen.intersection(pool.llm_names)
    pairs = pairs_of(
        encoders if some_encoder else pool.encoder_names[:1],
        llms if some_llm else pool.llm_names[:1],
    )
    for candidate in pairs:
        progress.stage(f"pair {candidate}")
        with _freed():
            _pair(candidate, inputs, device, progress, notes)
    if not pairs:
        notes.note("pairs", _JOINS, skipped("no encoder, or no LLM, loads"))
    return Report(settings.study, str(device), tuple(notes.findings))


def pairs_of(encoders: Sequence[str], llms: Sequence[str]) -> list[Candidate]:
    """As few pairs as possible in which each encoder and each LLM is.

    Args:
        encoders: names of encoders.
        llms: names of LLMs.

    Returns:
        The pairs; none if there is no encoder or no LLM.
    """
    if not encoders or not llms:
        return []
    count = max(len(encoders), len(llms))
    return [Candidate(encoders[n % len(encoders)], llms[n % len(llms)]) for n in range(count)]


def _chosen(settings: StudySettings, only: Sequence[str]) -> set[str]:
    pool = settings.models()
    names = [*pool.encoder_names, *pool.llm_names]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ConfigError([f"--only: got {unknown[0]!r}; the pool has {', '.join(names)}"])
    if settings.zoo:
        from mordal_optuna.zoo.build import missing
        from mordal_optuna.zoo.quickstart import recipe_named

        left = missing(recipe_named(settings.zoo.recipe), settings.zoo.folder)
        if left:
            raise ConfigError(
                [
                    f"zoo.folder: {str(settings.zoo.folder)!r} lacks {len(left)} parts, such as "
                    f"{left[0]!r}; `mordal run` builds them first"
                ]
            )
    return set(only or names)


def _inputs(settings: StudySettings, progress: Progress, notes: Notebook) -> _Inputs:
    """Open data and tasks, and check them."""
    begun = notes.opened("study", "data", lambda: _data(settings, progress))
    data, samples, images = begun or (None, (), ())
    if data is not None:
        settings, _ = adapted(settings, len(data))
        _warnings(settings, data, notes)
    tasks = []
    for wanted in settings.scored_tasks:
        task = notes.opened(wanted.name, "task", partial(_task, settings, wanted))
        if task is not None:
            tasks.append(task)
            notes.checked(task.name, [Check("references", _references)], task)
    return _Inputs(settings, data, tuple(tasks), samples, images)


def _data(settings: StudySettings, progress: Progress) -> tuple[_Begun, Verdict]:
    recipe = settings.alignment
    data = AlignmentSet.beginning(
        recipe,
        seed=settings.seed,
        progress=progress,
        steps=STEPS,
        threads=settings.runtime.data_threads,
    )
    size = recipe.batch_size_for(len(data))
    count = min(len(data), STEPS * size)
    samples = tuple(data.sample(number) for number in range(min(_SAMPLES, count)))
    begun = (data, samples, _different_images(data, len(samples)))
    text = f"{len(data):,} samples in batches of {size}; the first {count:,} can be read"
    if not data.random_access:
        text = f"{len(data):,} samples of a stream, of which {len(samples)} were read"
    if data.left_out:
        return begun, warning(f"{text}, but for {100 * data.left_out:.1f} %")
    return begun, ok(text)


def _different_images(data: AlignmentSet, count: int) -> tuple[Image, ...]:
    """The first different images of samples, at most a few."""
    images: dict[bytes, Image] = {}
    for number in range(count):
        for picture in data.pictures(number):
            image = open_image(picture)
            images.setdefault(image.tobytes(), image)
            if len(images) == _IMAGES:
                return tuple(images.values())
    return tuple(images.values())


def _task(settings: StudySettings, wanted: TaskSettings) -> tuple[Task, Verdict]:
    task = build_task(wanted, [*settings.task_folders, shipped("tasks")], seed=settings.seed)
    return task, ok(
        f"{len(task.documents):,} documents, metric {task.spec.metric}, chance "
        f"{100 * task.chance:.1f} %, answers of up to {task.answer_tokens} tokens"
    )


def _references(task: Task) -> Verdict:
    """A task gives its own reference answers good marks.

    They need not be full ones: VQA's accuracy is below 1 where people answered differently.
    """
    values = reference_values(task, task.references(_REFERENCES))
    if not values:
        return skipped("its documents have no reference answers, and `likelihood` is false")
    mean = sum(values) / len(values)
    text = f"its own reference answers score {mean:.2f} ({len(values)} documents)"
    if mean == 0:
        return failed(f"{text}; no model could score more than that")
    return warning(f"{text}, which limits every model") if mean < _WELL_READ else ok(text)


def _warnings(settings: StudySettings, data: AlignmentSet, notes: Notebook) -> None:
    """Warnings that a run gives before it trains anything."""
    recipe = settings.alignment
    # These warnings ask for no chance, which only tasks know.
    facts = StudyFacts(0.0, recipe.warmup_samples, recipe.batch_size, data.left_out)
    found = warnings_before_training(facts, len(data))
    for text in found:
        notes.note("study", "settings", warning(text))
    if not found:
        steps = len(data) // recipe.batch_size
        text = f"{steps:,} optimiser steps, warm-up over {recipe.warmup_samples:,} samples"
        notes.note("study", "settings", ok(text))


def _encoder(
    source: ModelSource,
    inputs: _Inputs,
    promised: EncoderShape | None,
    device: torch.device,
    notes: Notebook,
) -> bool:
    """Check an encoder; whether it can be loaded."""
    name, precision = source.name, inputs.settings.alignment.precision
    opened = notes.opened(
        name,
        _LOADS,
        lambda: open_encoder(source, precision, device, inputs.images, promised),
        [name],
    )
    if opened is None:
        notes.skipped(name, ENCODER_CHECKS, "it does not load", [name])
        return False
    if inputs.images:
        notes.checked(name, ENCODER_CHECKS, opened, [name])
    else:
        notes.skipped(name, ENCODER_CHECKS, "no image of the data could be read", [name])
    return True


def _llm(
    source: ModelSource, inputs: _Inputs, most: int, device: torch.device, notes: Notebook
) -> bool:
    """Check an LLM, whose samples have images of `most` tokens; whether it can be loaded."""
    name, recipe = source.name, inputs.settings.alignment
    chat = notes.opened(
        name,
        _LOADS,
        lambda: open_chat(source, inputs.samples, inputs.tasks, recipe, most),
        [name],
    )
    if chat is None:
        notes.skipped(name, CHAT_CHECKS, "its tokenizer does not load", [name])
        notes.note(name, _WEIGHTS, skipped("its tokenizer does not load"), [name])
        return False
    if inputs.samples:
        notes.checked(name, CHAT_CHECKS, chat, [name])
    else:
        notes.skipped(name, CHAT_CHECKS, "no sample of the data could be read", [name])
    weights = Check(_WEIGHTS, partial(look_at_llm, chat=chat.chat, recipe=recipe, device=device))
    notes.checked(name, [weights], source, [name])
    return notes.findings[-1].verdict.outcome != "failed"


def _pair(
    candidate: Candidate,
    inputs: _Inputs,
    device: torch.device,
    progress: Progress,
    notes: Notebook,
) -> None:
    """Check a pair: a short training, and one document of each task."""
    settings, data, name = inputs.settings, inputs.data, str(candidate)
    answers = [Check("answer", partial(answer_to, task=task)) for task in inputs.tasks]
    checks = (*PAIR_CHECKS, *answers)
    if data is None:
        notes.skipped(name, checks, "the data could not be read", candidate)
        return
    encoder, llm = settings.models().parts(candidate)
    opened = notes.opened(
        name,
        _JOINS,
        lambda: open_pair(
            encoder,
            llm,
            recipe=settings.alignment,
            seed=settings.seed,
            data=data,
            device=device,
            threads=settings.runtime.data_threads,
            progress=progress,
        ),
        candidate,
    )
    if opened is None:
        notes.skipped(name, checks, "the two cannot be joined", candidate)
    else:
        notes.checked(name, checks, opened, candidate)


@contextmanager
def _freed() -> Iterator[None]:
    """Free the memory of what was loaded inside; no name outside may hold it."""
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
