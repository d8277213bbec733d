"""The jobs of which the grid is made, one per encoder, pair, further seed and other schedule.

    encode     computes an encoder's features of every task's images
    compare    warms up a pair's projector and computes the LLM's features of every task's images;
               scores the rivals with an untrained projector
    train      trains a pair to every rung and scores it there on all tasks in one pass; scores the
               rivals at r = 1/16

Device-seconds are wall-clock seconds of one thread, so nothing else should run beside the jobs.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.minigrid.make.files import Files, Job
from benchmarks.minigrid.make.rival_inputs import rival_scores
from benchmarks.minigrid.make.setting import Setting
from benchmarks.pairs import open_session, scored_rungs
from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.warmup import warm_up
from mordal_optuna.models.assemble import assemble
from mordal_optuna.pool import Candidate
from mordal_optuna.progress import Silent
from mordal_optuna.representation.features import llm_features, vision_features

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from mordal_optuna.evaluation.score import Score
    from mordal_optuna.pool import ModelSource

# Rivals score a pair again after 1/16 of the alignment set: 49 pairs at 1/16 cost three full runs,
# about as much as a search.
BUDGET_RATIO = 16

# Content of a job's JSON file, and its arrays.
Measured = tuple[dict[str, Any], dict[str, np.ndarray]]


@lru_cache(maxsize=1)
def opened(study_file: Path) -> Setting:
    """The study, opened once per process."""
    return Setting(study_file)


def run(job: Job, study_file: Path, files: Files) -> float:
    """Run a job and write its files.

    Args:
        job: the job.
        study_file: path of the study file.
        files: files of the jobs.

    Returns:
        Seconds that the job took.
    """
    start = perf_counter()
    setting = opened(study_file)
    if job.kind == "encode":
        measured = encode(job, setting)
    elif job.kind == "compare":
        measured = compare(job, setting, files)
    else:
        measured = train(job, setting)
    files.write(job, *measured)
    return perf_counter() - start


def encode(job: Job, setting: Setting) -> Measured:
    """Compute an encoder's features of every task's images, and of each document's first image."""
    source = _encoder(setting, job.encoder)
    arrays, seconds = {}, {}
    for task in setting.tasks:
        start = perf_counter()
        arrays[task.name] = _encoded(setting, source, setting.images(task))
        seconds[task.name] = perf_counter() - start
        documents = _encoded(setting, source, setting.document_images(task))
        arrays[f"{task.name}/documents"] = documents
    return {"feature_seconds": seconds}, arrays


def compare(job: Job, setting: Setting, files: Files) -> Measured:
    """Compute an LLM's features behind a warmed-up projector, and the rivals' scores before it."""
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
    content: dict[str, Any] = {"warmup_seconds": perf_counter() - start, "llm_seconds": {}}
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
        content["llm_seconds"][task.name] = perf_counter() - start
    untrained = assemble(
        encoder,
        llm,
        lora=None,
        precision=setting.settings.alignment.precision,
        seed=setting.settings.seed,
        device=torch.device("cpu"),
    )
    images = {
        task.name: files.array(Job("encode", job.encoder), f"{task.name}/documents")
        for task in setting.tasks
    }
    content["rivals"] = rival_scores(untrained, setting, images)
    return content, arrays


def train(job: Job, setting: Setting) -> Measured:
    """Train a pair and score it on all tasks at every rung, with values of single documents."""
    alignment = setting.settings.alignment
    curves: dict[str, list[Score]] = {task.name: [] for task in setting.tasks}
    content: dict[str, Any] = {"samples": setting.rungs, "train_seconds": []}
    content["schedule"] = job.schedule or alignment.schedule
    with tempfile.TemporaryDirectory() as scratch:
        session = open_session(
            setting.settings,
            Candidate(job.encoder, job.llm),
            setting.data,
            checkpoints=CheckpointStore(scratch, keep=1),
            machine=setting.machine,
            seed=job.seed,
            schedule=job.schedule,
        )
        for rung in scored_rungs(session, setting.rungs, setting.tasks):
            content["train_seconds"].append(rung.train_seconds)
            for score in rung.scores:
                curves[score.task].append(score)
            of_grid = not job.seed and not job.schedule
            if of_grid and rung.samples == len(setting.data) // BUDGET_RATIO:
                content["rivals"] = rival_scores(session.vlm, setting, None)
    values = {}
    for task, curve in curves.items():
        values[task] = np.array([score.per_document for score in curve], dtype=np.float16)
        values[f"{task}/nll"] = np.array([score.likelihoods for score in curve], dtype=np.float16)
    return content | {"tasks": {task: _plain(curve) for task, curve in curves.items()}}, values


def _plain(curve: list[Score]) -> dict[str, list[float | None]]:
    return {
        "score": [score.value for score in curve],
        "stderr": [score.stderr for score in curve],
        "eval_seconds": [score.seconds for score in curve],
        "nll": [score.nll for score in curve],
        "nll_stderr": [score.nll_stderr for score in curve],
        "guessed": [score.guessed for score in curve],
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
