"""Batches of conversations: each image is encoded once; answers are those of batches of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.models.assemble import Vlm, assemble
from tests.families import LLMS, random_encoder, random_llm

import_lmms_eval()

from lmms_eval.protocol import ChatMessages  # noqa: E402 - after the guarded import

from mordal_optuna.evaluation.answers import Answer, Answerer  # noqa: E402
from mordal_optuna.evaluation.decoding import Decoded, Limits  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ("what is this ?", "red ?", "is this a red box ? yes no", "a box ?")
REFERENCES = ("red box", "yes", "no a red", "a")
OPTIONS: dict[str, Any] = {"max_new_tokens": 6, "num_beams": 1, "do_sample": False}


def question(text: str, *colors: str, first: bool = True) -> ChatMessages:
    """Pictures and a text, the pictures first or last."""
    pictures = [{"type": "image", "url": Image.new("RGB", (40, 40), color)} for color in colors]
    parts = [*pictures, {"type": "text", "text": text}]
    return ChatMessages(messages=[{"role": "user", "content": parts if first else parts[::-1]}])  # type: ignore[arg-type]


def answered(vlm: Vlm, asked: list[ChatMessages], size: int, **options: Any) -> list[Answer]:
    """Answers in batches of `size`."""
    model = Answerer(vlm.model, vlm.processor)
    chosen = OPTIONS | {"eos_token_id": 1, "pad_token_id": 0} | options
    return [
        answer
        for n in range(0, len(asked), size)
        for answer in model.answer(asked[n : n + size], chosen, REFERENCES[n : n + size])
    ]


@pytest.mark.parametrize(
    ("tokens", "limit", "cut"),
    [
        ([5, 6, 7], 3, True),
        ([5, 6, 1], 3, False),  # the stop token came last
        ([5, 1, 0], 3, False),  # padding, as `generate` returns it
        ([5, 6, 7], 4, False),
        ([5], 1, False),  # a letter alone: no room for a stop token
    ],
)
def test_an_answer_is_cut_that_has_not_ended_at_the_token_limit(
    plain: Vlm, tokens: list[int], limit: int, *, cut: bool
) -> None:
    model = Answerer(plain.model, plain.processor)
    limits = Limits(frozenset({1}), limit)
    assert model._answer(Decoded(0, tokens, None), limits).cut == cut


def check_equal(together: list[Answer], alone: list[Answer]) -> None:
    assert [a.text for a in together] == [a.text for a in alone]
    found = [a.likelihood for a in together]
    assert found == pytest.approx([a.likelihood for a in alone], rel=1e-4)


@pytest.mark.parametrize("kind", LLMS)
def test_two_pictures_with_two_questions_each(
    tmp_path: Path, kind: str, cpu: torch.device
) -> None:
    """For every family of LLMs, answers and likelihoods equal those of batches of one."""
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, kind)
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=cpu)
    vlm.model.eval()
    asked = [question(t, c) for t, c in zip(TEXTS, ("red", "blue", "red", "blue"), strict=True)]
    towers: list[int] = []
    vlm.model.model.vision_tower.register_forward_hook(
        lambda _, __, out: towers.append(len(out.last_hidden_state))
    )
    together = answered(vlm, asked, 4)
    assert towers == [2]  # each picture once, for the answers and for the likelihoods
    check_equal(together, answered(vlm, asked, 1))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = tmp_path_factory.mktemp("plain")
    parts = random_encoder(folder, "clip"), random_llm(folder, "llama")
    device = torch.device("cpu")
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=device)
    vlm.model.eval()
    return vlm


@pytest.mark.parametrize(
    "asked",
    [
        [question(t, "red", first=False) for t in TEXTS],
        [question(t, *("red", "blue")[: 1 + n % 2]) for n, t in enumerate(TEXTS)],
        [question(t, *(["red"] if n % 2 else [])) for n, t in enumerate(TEXTS)],
        [question(t) for t in TEXTS],
    ],
    ids=["picture last", "one or two pictures", "some without a picture", "text alone"],
)
def test_prompts_that_do_not_begin_alike(plain: Vlm, asked: list[ChatMessages]) -> None:
    check_equal(answered(plain, asked, 4), answered(plain, asked, 1))


def test_beams_are_searched_as_one_by_one(plain: Vlm) -> None:
    asked = [question(t, "red") for t in TEXTS]
    check_equal(answered(plain, asked, 4, num_beams=2), answered(plain, asked, 1, num_beams=2))


def test_bf16_answers_and_finds_references_about_as_likely(
    tmp_path: Path, plain: Vlm, cpu: torch.device
) -> None:
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, "llama")
    vlm = assemble(*parts, lora=None, precision="bf16", seed=0, device=cpu)
    vlm.model.eval()
    asked = [question(t, c) for t, c in zip(TEXTS, ("red", "blue", "red", "blue"), strict=True)]
    low, full = answered(vlm, asked, 4), answered(plain, asked, 4)
    assert [a.likelihood for a in low] == pytest.approx([a.likelihood for a in full], rel=0.05)
    assert all(a.tokens == b.tokens for a, b in zip(low, full, strict=True))


def test_logits_of_a_prompt_give_the_first_token_of_the_answer(plain: Vlm) -> None:
    """In a batch as in a batch of one."""
    asked = [question(t, c) for t, c in zip(TEXTS, ("red", "blue", "red", "blue"), strict=True)]
    model = Answerer(plain.model, plain.processor)
    states, logits = model.read(asked)
    assert states.shape == (4, 32)
    alone = [model.read([one]) for one in asked]
    assert torch.allclose(states, torch.cat([s for s, _ in alone]), atol=1e-5)
    assert torch.allclose(logits, torch.cat([found for _, found in alone]), atol=1e-4)
    said = answered(plain, asked, 4, max_new_tokens=1)
    tokenizer = plain.processor.tokenizer
    first = tokenizer.batch_decode(logits.argmax(-1)[:, None], skip_special_tokens=True)
    assert [a.text for a in said] == first


def test_a_prompt_is_rendered_once_and_once_more_with_its_reference(
    plain: Vlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small models every further rendering takes a twentieth of a score's time."""
    asked = [question(t, c) for t, c in zip(TEXTS, ("red", "blue", "red", "blue"), strict=True)]
    render, prompts = plain.processor.apply_chat_template, []

    def counted(messages: Any, **options: Any) -> str:
        prompts.append(options["add_generation_prompt"])
        return render(messages, **options)

    monkeypatch.setattr(plain.processor, "apply_chat_template", counted)
    answered(plain, asked, 4)
    assert sorted(prompts) == [False] * 4 + [True] * 4
