"""Rows enter and leave a batch; answers and likelihoods are those of batches of one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.evaluation.decoding import Decoded, Decoder, Limits
from mordal_optuna.models.assemble import Vlm, assemble
from tests.evaluation.test_answers import question
from tests.families import LLMS, random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mordal_optuna.evaluation.reading import Prompt

# Lengths differ by more than the sliding window of 8 tokens below.
TEXTS = [" ".join(["what is this ?", *["red box"] * n]) for n in (9, 7, 7, 4, 1, 0, 0, 6)]
COLORS = ("red", "red", "blue", "red", "blue", "blue", "green", "green")
# No token of the vocabulary.
NEVER = frozenset({10_000})
SLIDING = ("mistral", "gemma2", "gemma3")


def read(vlm: Vlm) -> list[Prompt]:
    from mordal_optuna.evaluation.reading import PromptReader

    reader = PromptReader(vlm.model, vlm.processor, adds_special_tokens=False)
    return [
        reader.read(question(text, color), "no a red" if n % 2 else "yes")
        for n, (text, color) in enumerate(zip(TEXTS, COLORS, strict=True))
    ]


def decoded(vlm: Vlm, prompts: list[Prompt], size: int, stops: frozenset[int]) -> list[Decoded]:
    decoder = Decoder(vlm.model, Limits(stops, 12), size=size, pad=0)
    return sorted(decoder.run(iter(prompts)), key=lambda one: one.number)


def alone(vlm: Vlm, prompts: list[Prompt], stops: frozenset[int]) -> list[Decoded]:
    """Transformers' own generation of each prompt, which keeps its own kind of cache."""
    import torch

    rows = []
    for number, prompt in enumerate(prompts):
        assert prompt.pixels
        ids = torch.tensor([prompt.ids])
        output = vlm.model.generate(
            input_ids=ids,
            pixel_values=prompt.pixels.values,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=sorted(stops),
            pad_token_id=0,
            suppress_tokens=[vlm.model.config.image_token_id],
        )
        rows.append(Decoded(number, output[0, ids.shape[1] :].tolist(), None))
    return rows


def ends(rows: list[Decoded], stop: int) -> list[int]:
    """Length of each answer if a token stops it."""
    return [(row.tokens.index(stop) if stop in row.tokens else 11) + 1 for row in rows]


def best_stop(rows: list[Decoded]) -> int:
    """The token at which the answers stop at the most different lengths."""
    said = sorted({token for row in rows for token in row.tokens})
    return max(said, key=lambda token: len(set(ends(rows, token))))


@pytest.mark.parametrize("kind", LLMS)
def test_rows_that_come_and_go_change_no_answer(
    tmp_path: Path, kind: str, cpu: torch.device
) -> None:
    """For every family, also where a window covers less than a prompt."""
    changed: dict[str, Any] = {"sliding_window": 8} if kind in SLIDING else {}
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, kind, **changed)
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    vlm.model.eval()
    prompts = read(vlm)
    stops = frozenset({best_stop(alone(vlm, prompts, NEVER))})
    expected = alone(vlm, prompts, stops)
    found = {size: decoded(vlm, prompts, size, stops) for size in (1, 3, 8)}
    for rows in found.values():
        assert [row.tokens for row in rows] == [row.tokens for row in expected]
        likelihoods = [row.likelihood for row in found[1]]
        assert [row.likelihood for row in rows] == pytest.approx(likelihoods, rel=1e-4)


def test_a_place_that_is_free_is_used(tmp_path: Path, cpu: torch.device) -> None:
    """Steps with 4 places are fewer than in batches of 4 that wait for their longest answer."""
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, "llama")
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    vlm.model.eval()
    given = [replace(prompt, reference=None) for prompt in read(vlm)]
    rows = alone(vlm, given, NEVER)
    stop = best_stop(rows)
    lengths = ends(rows, stop)
    short, long = lengths.index(min(lengths)), lengths.index(max(lengths))
    assert lengths[short] < lengths[long]
    steps: list[int] = []
    vlm.model.register_forward_pre_hook(
        lambda _, __, given: steps.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    # One long answer in every four.
    decoded(vlm, [given[n] for n in (long, short, short, short) * 4], 4, frozenset({stop}))
    assert steps.count(1) < 4 * (lengths[long] - 1)


def test_an_image_is_not_encoded_again_for_the_next_prompts(
    tmp_path: Path, cpu: torch.device
) -> None:
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, "llama")
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    vlm.model.eval()
    images: list[int] = []
    vlm.model.model.vision_tower.register_forward_hook(
        lambda _, __, out: images.append(len(out.last_hidden_state))
    )
    prompts = [p for _, p in sorted(zip(COLORS, read(vlm), strict=True), key=lambda pair: pair[0])]
    decoded(vlm, prompts, 2, NEVER)
    assert sum(images) == 3
