"""Checks of a loaded LLM, and of an encoder and an LLM together: some steps, and one answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from statistics import fmean, stdev, variance
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM

from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.alignment.parallel import open_accelerator
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.doctor.encoders import parameters
from mordal_optuna.doctor.findings import (
    Check,
    Outcome,
    Verdict,
    failed,
    ok,
    shown,
    skipped,
    warning,
)
from mordal_optuna.evaluation.score import show_answer
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.families import llm_family
from mordal_optuna.models.loading import load_config, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm
    from mordal_optuna.models.generation import Chat
    from mordal_optuna.pool import ModelSource
    from mordal_optuna.progress import Progress

# Optimiser steps of the short training, and steps whose mean losses are compared.
STEPS, _COMPARED = 20, 5
# What may help where the loss does not fall.
_ADVICE: dict[Outcome, str] = {"failed": "; it rises, and a lower learning_rate may help"}
# Samples with images whose placeholders are counted.
_COUNTED = 4


def look_at_llm(
    source: ModelSource, chat: Chat, recipe: AlignmentSettings, device: torch.device
) -> Verdict:
    """Load an LLM's weights as candidates do, and let it read a few words.

    Args:
        source: the LLM.
        chat: its tokenizer.
        recipe: alignment recipe.
        device: torch device.

    Raises:
        ModelError: if it cannot be loaded.
    """
    family = llm_family(source.name, load_config(source))
    model = load_weights(
        source, AutoModelForCausalLM, recipe.precision, device, attention=recipe.attention
    )
    ids = chat.tokenizer("What is in this picture?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids.to(device)).logits
    text = f"{model.config.model_type}, {recipe.precision}, {parameters(model)} parameters"
    if not bool(logits.isfinite().all()):
        return failed(f"{text}; its logits are not finite, which fp32 in place of bf16 may mend")
    return ok(text if family.packs else f"{text}; its samples are padded, not packed")


@dataclass(frozen=True)
class OpenPair:
    """An encoder and an LLM, joined.

    Attributes:
        vlm: the candidate, untrained.
        recipe: alignment recipe, adapted to the data.
        seed: random seed of the study.
        data: alignment set.
        device: torch device of the candidate.
        threads: number of threads that decode images.
        progress: receives progress updates.
    """

    vlm: Vlm
    recipe: AlignmentSettings
    seed: int
    data: AlignmentSet
    device: torch.device
    threads: int
    progress: Progress

    @cached_property
    def pictured(self) -> list[int]:
        """Positions of the first samples with an image."""
        seen = range(min(len(self.data), STEPS * self.recipe.batch_size))
        return list(islice((n for n in seen if self.data.sample(n).images), _COUNTED))

    def pixels(self, position: int) -> torch.Tensor:
        """Pixel values of a sample's images.

        Args:
            position: position of the sample.
        """
        return self.vlm.encoder.read(self.data.pictures(position)).to(self.device)


def open_pair(
    encoder: ModelSource,
    llm: ModelSource,
    *,
    recipe: AlignmentSettings,
    seed: int,
    data: AlignmentSet,
    device: torch.device,
    threads: int,
    progress: Progress,
) -> tuple[OpenPair, Verdict]:
    """Join an encoder and an LLM as candidates are.

    Args:
        encoder: the encoder.
        llm: the LLM.
        recipe: alignment recipe, adapted to the data.
        seed: random seed of the study.
        data: alignment set.
        device: torch device.
        threads: number of threads that decode images.
        progress: receives progress updates.

    Raises:
        ModelError: if one of them cannot be loaded, or the two cannot be joined.
    """
    vlm = assemble(
        encoder,
        llm,
        lora=recipe.lora,
        precision=recipe.precision,
        seed=seed,
        device=device,
        attention=recipe.attention,
    )
    trained = sum(parameter.numel() for parameter in vlm.trainable().values())
    opened = OpenPair(vlm, recipe, seed, data, device, threads, progress)
    return opened, ok(f"joined; {trained / 1e6:.2f} M parameters are trained")


def placeholders(opened: OpenPair) -> Verdict:
    """A sample has as many placeholders as its images have features.

    Args:
        opened: the pair.
    """
    if not opened.pictured:
        return skipped("the first samples show no image")
    vlm = opened.vlm
    conversations = Conversations(vlm, max_length=2**31 - 1)
    for position in opened.pictured:
        sample = opened.data.sample(position)
        ids, _ = conversations.expand(conversations.encode(sample))
        with torch.no_grad():
            images, patches, _ = vlm.encoder.features(opened.pixels(position)).shape
        places = int((ids == vlm.model.config.image_token_index).sum())
        if places != images * patches:
            return failed(
                f"sample {sample.id!r} has {places} placeholders for {images * patches} features"
            )
    return ok(f"{vlm.image_tokens} an image, in {len(opened.pictured)} samples")


def same_features(opened: OpenPair) -> Verdict:
    """Training and scoring read the same layer.

    Training computes features by the encoder, scoring by LLaVA's own code.

    Args:
        opened: the pair.
    """
    if not opened.pictured:
        return skipped("the first samples show no image")
    pixels = opened.pixels(opened.pictured[0])
    model, encoder = opened.vlm.model, opened.vlm.encoder
    with torch.no_grad():
        trained = model.model.multi_modal_projector(encoder.features(pixels)).float()
        found = torch.stack(list(model.get_image_features(pixels).pooler_output)).float()
    layers = f"layer {encoder.family.feature_layer}"
    read = model.config.vision_feature_layer
    if found.shape != trained.shape or not torch.allclose(found, trained, rtol=1e-2, atol=1e-4):
        return failed(f"training reads {layers} of the encoder, and scoring {read}, or otherwise")
    return ok(f"training and scoring read {layers} alike")


def falling_loss(opened: OpenPair) -> Verdict:
    """The loss falls in the first steps of the study's own training, see `loss_verdict`.

    Args:
        opened: the pair.

    Raises:
        TrainingError: if the loss is not finite, or memory runs out.
        DataError: if samples cannot be trained on.
    """
    size = opened.recipe.batch_size
    steps = min(STEPS, len(opened.data) // size)
    trainer = Trainer(
        opened.vlm,
        settings=opened.recipe,
        data=opened.data,
        seed=opened.seed,
        accelerator=open_accelerator(opened.device),
        device=opened.device,
        threads=opened.threads,
    )
    with opened.progress.track(f"train {steps} steps", steps * size) as advance:
        trainer.run(steps * size, advance)
    found = loss_verdict(trainer.losses)
    text = f"{found.text} of {size} samples"
    if trainer.findings.skipped:
        text += f", of which {trainer.findings.skipped} were skipped"
    warmup = opened.recipe.warmup_samples
    if found.outcome != "ok" and warmup >= steps * size:
        text += f"; the learning rate rises over the first {warmup:,} samples"
    return Verdict(found.outcome, f"{text}{_ADVICE.get(found.outcome, '')}")


def loss_verdict(losses: Sequence[float]) -> Verdict:
    """Whether losses fall: the mean of the last few below that of the first few.

    A difference below its standard error, with as much noise as there is among these losses, is a
    warning. Losses that fall from a height to which the first steps brought them do not count as
    falling: the last ones must not lie above the very first loss by more than twice their spread.

    Args:
        losses: mean loss per target token of each step, in nats; at least one.
    """
    few = max(1, min(_COMPARED, len(losses) // 2))
    first, last = losses[:few], losses[-few:]
    text = f"loss {fmean(first):.2f} to {fmean(last):.2f} in {len(losses)} steps"
    fall, spread = fmean(first) - fmean(last), stdev(last) if few > 1 else 0.0
    noise = ((variance(first) + variance(last)) / few) ** 0.5 if few > 1 else 0.0
    if fall < -noise or fmean(last) - losses[0] > 2 * spread + noise:
        return failed(f"from {losses[0]:.2f} at first: {text}")
    return ok(text) if fall > noise else warning(f"{text}, no more than its noise of {noise:.2f}")


def answer_to(opened: OpenPair, task: Task) -> Verdict:
    """One document is answered, and its answer is parsed and scored.

    After a few steps the answer need not be right.

    Args:
        opened: the pair.
        task: the task.

    Raises:
        EvaluationError: if the document cannot be answered or scored.
    """
    shows = show_answer(opened.vlm.model, opened.vlm.processor, task)
    text = (
        f"{task.name}, document {shows.document}: {shown(shows.answer)}, read as "
        f"{shown(shows.parsed)}, scores {shows.value:.2f}"
    )
    problems = (
        (shows.guessed, "the task could not read it and drew an answer"),
        (shows.cut, f"it ended at the limit of {task.answer_tokens} tokens"),
        (not shows.answer.strip(), "it is empty"),
    )
    found = [words for wrong, words in problems if wrong]
    if found:
        return warning(f"{text}; {', '.join(found)}")
    return ok(f"{text}; it stopped by itself" if task.answer_tokens > 1 else text)


PAIR_CHECKS: tuple[Check[OpenPair], ...] = (
    Check("placeholders", placeholders),
    Check("features", same_features),
    Check("loss", falling_loss),
)
