"""Conversations become tokens and pixels; threads share the pixels of one image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from mordal_optuna.evaluation.reading import PromptReader
from tests.evaluation.test_answers import question

if TYPE_CHECKING:
    import pytest

    from mordal_optuna.models.assemble import Vlm


def reader(vlm: Vlm) -> PromptReader:
    return PromptReader(vlm.model, vlm.processor, adds_special_tokens=False)


def test_an_image_is_processed_once_though_threads_ask_for_it_at_the_same_time(
    vlm: Vlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, images = type(vlm.processor).__call__, []

    def counted(self: Any, **given: Any) -> Any:
        images.extend(given["images"])
        return process(self, **given)

    monkeypatch.setattr(type(vlm.processor), "__call__", counted)
    read = reader(vlm).read
    with ThreadPoolExecutor(4) as pool:
        asked = [question(f"red {n}", ("red", "blue")[n % 2]) for n in range(12)]
        prompts = list(pool.map(read, asked))
    assert len(images) == len({prompt.pixels for prompt in prompts}) == 2
    assert prompts[0].pixels is prompts[2].pixels


def test_tokens_are_those_of_the_processor(vlm: Vlm) -> None:
    asked = [question("red", "red"), question("what is it ?", "red"), question("a", "red", "blue")]
    read = reader(vlm).read
    for conversation, images in zip(asked, (1, 1, 2), strict=True):
        prompt = read(conversation)
        text = vlm.processor.apply_chat_template(
            conversation.to_hf_messages(), add_generation_prompt=True, tokenize=False
        )
        pictures = conversation.extract_media()[0]
        expected = vlm.processor(
            text=[text], images=pictures, add_special_tokens=False, return_tensors="pt"
        )
        assert prompt.ids == expected["input_ids"][0].tolist()
        assert prompt.pixels
        assert prompt.pixels.values is not None
        assert torch.equal(prompt.pixels.values, expected["pixel_values"])
        last = vlm.model.config.image_token_id
        assert (prompt.prefix > 0) == (images == 1)
        assert not prompt.prefix or prompt.ids[prompt.prefix - 1] == last
        assert last not in prompt.ids[prompt.prefix :] or images == 2
