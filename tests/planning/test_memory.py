"""Memory by counting, and what fits."""

from __future__ import annotations

import pytest

from mordal_optuna.planning.memory import training_memory
from tests.planning.test_seconds import sized


def test_a_layer_keeps_what_was_counted() -> None:
    """`benchmarks/alignment_throughput/casts.py`: 167.9 KiB a token and layer of a 7B Llama."""
    memory = training_memory(sized())
    assert memory.each_token / 32 / 1024 == pytest.approx(167.9, rel=0.03)


def test_parts_add_up() -> None:
    one = sized()
    memory = training_memory(one)
    assert memory.weights == 2 * (one.llm.parameters + one.encoder.parameters)
    assert memory.trained == 16 * (one.projector + one.lora)
    assert (memory.tokens, memory.longest) == (2000, 1000)
    assert memory.total == memory.fixed + 2000 * memory.each_token


def test_what_fits_is_the_largest_that_fits() -> None:
    memory = training_memory(sized(micro_batch_size=64, batch_size=64))
    assert memory.tokens == 64_000
    assert not memory.fits(80e9)
    tokens = memory.fitting_tokens(80e9)
    assert memory.fixed + tokens * memory.each_token <= 0.92 * 80e9
    assert memory.fixed + (tokens + 256) * memory.each_token > 0.92 * 80e9
    assert memory.fitting_tokens(80e9, recomputed=True) > tokens
    assert memory.fitting_tokens(10e9) == 0
    bounded = training_memory(sized(micro_batch_tokens=tokens))
    assert bounded.fits(80e9)


def test_full_precision_takes_twice_as_much() -> None:
    half, full = training_memory(sized()), training_memory(sized(precision="fp32"))
    assert full.weights == 2 * half.weights
    assert full.trained == half.trained
