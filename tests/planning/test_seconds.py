"""Device-seconds by counting: operations over rates, on a device whose other costs are 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mordal_optuna.alignment.work import Work
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.planning.devices import device_named
from mordal_optuna.planning.models import public_models
from mordal_optuna.planning.seconds import (
    Sized,
    encode_seconds,
    mean_batch,
    score_seconds,
    train_seconds,
)
from mordal_optuna.planning.shapes import encoder_shape, llm_shape
from mordal_optuna.planning.tokens import Tokens

RATE = replace(
    device_named("cpu"),
    rate=1e12,
    share=1.0,
    operation_seconds=0.0,
    element_seconds=0.0,
    host_seconds=0.0,
    bandwidth=1e30,
)


def sized(**recipe: object) -> Sized:
    """CLIP-L with Llama-2-7B on samples of 24 and 424 tokens of text."""
    known = public_models()
    text = np.array([24, 424])
    return Sized(
        encoder_shape("v", known["openai/clip-vit-large-patch14-336"]["config"], None),
        llm_shape("m", known["meta-llama/Llama-2-7b-chat-hf"]["config"]),
        AlignmentSettings(
            conversations=Path("a"),
            images=Path("b"),
            **{"batch_size": 2, "micro_batch_size": 2, **recipe},  # type: ignore[arg-type]
        ),
        Tokens(text, np.array([1, 1]), text // 2),
        RATE,
    )


def test_training_takes_what_its_operations_take() -> None:
    """6 t^2 d l for attention, on top of what `Work` counts with padding."""
    one = sized()
    work = Work(one.llm.linear, one.lora, one.llm.head, one.projector, 576)
    t = 1000.0  # both rows are padded to 424 + 576
    attention = 6 * t * np.mean([600, 1000]) * 4096 * 32
    assert train_seconds(one) == pytest.approx((work.of(t, 112, 1) + attention) / 1e12)
    again = train_seconds(sized(gradient_checkpointing=True)) - train_seconds(one)
    assert again == pytest.approx(2 * one.llm.linear * t / 1e12)
    assert train_seconds(one, lora=False) < train_seconds(one)


def test_padding_is_that_of_the_micro_batches() -> None:
    padded, apart = mean_batch(sized()), mean_batch(sized(micro_batch_size=1))
    joined = mean_batch(sized(batching="packed"))
    bound = mean_batch(sized(micro_batch_tokens=1999))
    assert (padded.tokens, padded.computed, padded.micro_batches) == (1600, 2000, 1)
    assert (apart.computed, apart.micro_batches) == (1600, 2)
    assert (joined.computed, joined.micro_batches) == (1600, 1)
    assert (bound.computed, bound.micro_batches) == (1600, 2)


def test_small_operations_cost_their_number() -> None:
    """Where every operation takes a millisecond, and nothing else takes time."""
    one = replace(sized(), device=replace(RATE, rate=1e30, operation_seconds=1e-3))
    operations = 32 * (164 + 42) + 70 + 100
    assert train_seconds(one) == pytest.approx(1e-3 * operations / 2)


def test_a_document_is_a_pass_and_some_steps() -> None:
    one = sized()
    options = {"batch_size": 16, "bytes_each": 2}
    plain = score_seconds(one, new_tokens=16, likelihood=False, **options)  # type: ignore[arg-type]
    both = score_seconds(one, new_tokens=16, likelihood=True, **options)  # type: ignore[arg-type]
    assert plain > 2 * one.llm.linear * 616 / 1e12
    assert 1.9 * plain < both < 2.1 * plain
    slow = replace(one, device=replace(RATE, bandwidth=1e9))
    reading = score_seconds(slow, new_tokens=16, likelihood=False, **options) - plain  # type: ignore[arg-type]
    assert reading == pytest.approx(4 * one.llm.parameters * 2 / 1e9 / 16)


def test_an_image_is_a_pass_of_the_encoder() -> None:
    encoder = sized().encoder
    assert encode_seconds(encoder, RATE) == encoder.operations / 1e12
    assert encoder.operations == pytest.approx(2 * 303e6 * 577, rel=0.1)
