"""What the grid is made of: a job for every encoder, pair, further seed, other schedule.

    encode     an encoder's features of every task's images
    compare    a pair's projector warmed up; the LLM's features of every task's images; rivals, of
               the pair with an untrained projector
    train      a pair to every rung, scored there on all tasks in one pass; rivals at r = 1/16

Device-seconds are wall-clock seconds of one thread: nothing else should run beside the jobs.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.minigrid.files import Files, Job
from benchmarks.minigrid.rival_inputs import rival_scores
from benchmarks.minigrid.setting import Setting
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.alignment.warmup import warm_up
from mordal_optuna.evaluation.score import score
from mordal_optuna.models.assemble import assemble
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.representation.features import llm_features, vision_features

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.pool import ModelSource

# The share of the alignment set after which rivals look at a pair again: 49 pairs at 1/16 cost
# three full runs, about what a search spends.
BUDGET_RATIO = 16

Found = tuple[dict[str, Any], dict[str, np.ndarray]]


@lru_cache(maxsize=1)
def opened(study_file: Path) -> Setting:
    """The setting of this process."""
    return Setting(study_file)


def run(job: Job, study_file: Path, files: Files) -> float:
    """Do a job and write its files; seconds that it took."""
    start = perf_counter()
    setting = opened(study_file)
    if job.kind == "encode":
        found = encode(job, setting)
    elif job.kind == "compare":
        found = compare(job, setting, files)
    else:
        found = train(job, setting)
    files.write(job, *found)
    return perf_counter() - start


def encode(job: Job, setting: Setting) -> Found:
    """An encoder's features of the images of every task, and of every document's first."""
    source = _encoder(setting, job.encoder)
    arrays, seconds = {}, {}
    for task in setting.tasks:
        start = perf_counter()
        arrays[task.name] = _encoded(setting, source, setting.images(task))
        seconds[task.name] = perf_counter() - start
        documents = _encoded(setting, source, setting.document_images(task))
        arrays[f"{task.name}/documents"] = documents
    return {"feature_seconds": seconds}, arrays


def compare(job: Job, setting: Setting, files: Files) -> Found:
    """What an LLM makes of a medoid's embeddings, and what rivals make of the untrained pair."""
    encoder, llm = setting.settings.models().parts(Candidate(job.encoder, job.llm))
    start = perf_counter()
    vlm = warm_up(
        encoder,
        llm,
        settings=setting.settings.alignment,
        seed=setting.settings.seed,
        data=setting.data,
        samples=setting.settings.representation.warmup_samples,
        machine=setting.machine,
        progress=Silent(),
    )
    found: dict[str, Any] = {"warmup_seconds": perf_counter() - start, "llm_seconds": {}}
    arrays = {}
    for task in setting.tasks:
        start = perf_counter()
        arrays[task.name] = llm_features(
            vlm,
            setting.images(task),
            batch_size=setting.settings.representation.batch_size,
            device=torch.device("cpu"),
            progress=Silent(),
        )
        found["llm_seconds"][task.name] = perf_counter() - start
    untrained = assemble(
        encoder,
        llm,
        lora=None,
        precision=setting.settings.alignment.precision,
        seed=setting.settings.seed,
        device=torch.device("cpu"),
    )
    shown = {
        task.name: files.array(Job("encode", job.encoder), f"{task.name}/documents")
        for task in setting.tasks
    }
    found["rivals"] = rival_scores(untrained, setting, shown)
    return found, arrays


def train(job: Job, setting: Setting) -> Found:
    """A pair's curve on all tasks; the values of single documents beside it."""
    encoder, llm = setting.settings.models().parts(Candidate(job.encoder, job.llm))
    alignment = setting.settings.alignment
    if job.schedule:
        alignment = alignment.model_copy(update={"schedule": job.schedule})
    curves: dict[str, list[Score]] = {task.name: [] for task in setting.tasks}
    found: dict[str, Any] = {"samples": setting.rungs, "train_seconds": []}
    found["schedule"] = alignment.schedule
    with tempfile.TemporaryDirectory() as scratch:
        session = AlignmentSession(
            encoder,
            llm,
            settings=alignment,
            seed=job.seed,
            data=setting.data,
            checkpoints=CheckpointStore(scratch, keep=1),
            machine=setting.machine,
        )
        for samples in setting.rungs:
            session.advance(samples, Silent())
            found["train_seconds"].append(session.train_seconds)
            scores = score(session.vlm.model, session.vlm.processor, setting.tasks)
            assert scores is not None
            for own in scores:
                curves[own.task].append(own)
            of_grid = not job.seed and not job.schedule
            if of_grid and samples == len(setting.data) // BUDGET_RATIO:
                found["rivals"] = rival_scores(session.vlm, setting, None)
    values = {}
    for task, curve in curves.items():
        values[task] = np.array([own.per_document for own in curve], dtype=np.float16)
        values[f"{task}/nll"] = np.array([own.likelihoods for own in curve], dtype=np.float16)
    return found | {"tasks": {task: _plain(curve) for task, curve in curves.items()}}, values


def _plain(curve: list[Score]) -> dict[str, list[float | None]]:
    return {
        "score": [own.value for own in curve],
        "stderr": [own.stderr for own in curve],
        "eval_seconds": [own.seconds for own in curve],
        "nll": [own.nll for own in curve],
        "nll_stderr": [own.nll_stderr for own in curve],
        "guessed": [own.guessed for own in curve],
    }


def _encoder(setting: Setting, name: str) -> ModelSource:
    return next(s for s in setting.settings.models().vision_encoders if s.name == name)


def _encoded(setting: Setting, source: ModelSource, images: list[Image]) -> np.ndarray:
    return vision_features(
        source,
        images,
        batch_size=setting.settings.representation.batch_size,
        precision=setting.settings.alignment.precision,
        device=torch.device("cpu"),
        progress=Silent(),
    )
