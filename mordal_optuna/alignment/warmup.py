"""A candidate with a briefly trained projector, as the comparison of LLMs needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mordal_optuna.alignment.parallel import assemble_on, open_accelerator
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.models.assemble import assemble

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from accelerate import Accelerator

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.alignment.machine import Machine
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress


def warm_up(
    vision_encoder: ModelSource,
    llm: ModelSource,
    *,
    settings: AlignmentSettings,
    seed: int,
    data: AlignmentSet,
    samples: int,
    machine: Machine,
    progress: Progress,
) -> Vlm:
    """Assemble a candidate and train its projector on the first samples of the alignment set.

    If Accelerate's configuration asks for FSDP, the LLM is sharded across ranks, as in alignment.

    Args:
        vision_encoder: the encoder; stays frozen.
        llm: the LLM; stays frozen.
        settings: alignment recipe, used without LoRA, with a constant learning rate (that of its
            projector's stage, if it has one) that warms up over at most one batch.
        seed: random seed of the projector's initial weights.
        data: alignment set.
        samples: number of samples to train on, rounded down to whole batches, at least one batch.
        machine: device, ranks and caches.
        progress: receives progress updates.

    Raises:
        ModelError: if the candidate cannot be assembled.
        TrainingError: if training fails.
    """
    accelerator = open_accelerator(machine.device)
    vlm = _assembled(vision_encoder, llm, settings, seed, accelerator, machine)
    batches = max(1, min(samples, len(data)) // settings.batch_size)
    stage = settings.projector_stage
    short = settings.model_copy(
        update={
            "warmup_samples": min(settings.warmup_samples, settings.batch_size),
            "schedule": "constant",
            "learning_rate": stage.learning_rate if stage else settings.learning_rate,
            "projector_learning_rate": None,
            "projector_stage": None,
        }
    )
    trainer = Trainer(
        vlm,
        settings=short,
        data=data,
        seed=seed,
        accelerator=accelerator,
        device=machine.device,
        processes=machine.processes,
        cache=machine.cache(vision_encoder, data, settings, accelerator.num_processes),
        threads=machine.threads,
        lengths=machine.lengths,
    )
    until = batches * settings.batch_size
    with progress.track(f"warm up {vision_encoder.name} + {llm.name}", until) as advance:
        trainer.run(until, advance)
    return vlm


def with_projector(
    vision_encoder: ModelSource,
    llm: ModelSource,
    projector: Mapping[str, np.ndarray],
    *,
    settings: AlignmentSettings,
    machine: Machine,
) -> Vlm:
    """Assemble the candidate that `warm_up` returned, from its stored projector.

    Args:
        vision_encoder: the encoder given to `warm_up`.
        llm: the LLM given to `warm_up`.
        projector: all trainable parameters of the warmed-up candidate, by name.
        settings: alignment recipe given to `warm_up`.
        machine: device and ranks.

    Raises:
        ModelError: if the candidate cannot be assembled.
    """
    accelerator = open_accelerator(machine.device)
    # The initial weights, and so their seed, are replaced below.
    vlm = _assembled(vision_encoder, llm, settings, 0, accelerator, machine)
    with torch.no_grad():
        for name, parameter in vlm.trainable().items():
            parameter.copy_(torch.from_numpy(projector[name]))
    return vlm


def _assembled(
    vision_encoder: ModelSource,
    llm: ModelSource,
    settings: AlignmentSettings,
    seed: int,
    accelerator: Accelerator,
    machine: Machine,
) -> Vlm:
    """A candidate without LoRA, with its LLM sharded where alignment shards it."""
    return assemble_on(
        accelerator,
        machine.device,
        machine.processes,
        f"{vision_encoder.name} + {llm.name}",
        lambda device: assemble(
            vision_encoder,
            llm,
            lora=None,
            precision=settings.precision,
            seed=seed,
            device=device,
            attention=settings.attention,
        ),
    )
