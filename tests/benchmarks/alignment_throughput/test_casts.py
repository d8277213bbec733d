"""The counting script: LoRA in one dtype casts weights and norms alone."""

from __future__ import annotations

from benchmarks.alignment_throughput.casts import of_a_layer, pairs_of
from benchmarks.alignment_throughput.parts import TINY


def test_a_layer_of_a_llama_casts_only_its_weights_and_its_norms() -> None:
    """Of 64 casts, 28 are of inputs of LoRA; 28 of LoRA's weights and 8 of two norms are left."""
    pairs = pairs_of(TINY)
    before, numbers, kept = of_a_layer(pairs, "PEFT's own")
    assert before == 64
    for kind in ("in one dtype", "fused"):
        after, fewer_numbers, less_kept = of_a_layer(pairs, kind)
        assert after == 36
        assert fewer_numbers == 8 * TINY.llm["hidden_size"] < numbers
        assert less_kept < kept
