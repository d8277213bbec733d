"""LLMs of chat families as they are scored: where answers end, and which settings count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from mordal_optuna.alignment.conversation import IGNORED, Conversations
from mordal_optuna.alignment.samples import Sample
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.pool import TemplateOptions
from tests.families import random_encoder
from tests.families.chat import MESSAGES, turn
from tests.families.chats import CHATS

import_lmms_eval()

from lmms_eval.protocol import ChatMessages  # noqa: E402 - after the guarded import

from mordal_optuna.evaluation.answers import Answer, Answerer  # noqa: E402
from mordal_optuna.evaluation.model import MordalVLM  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = Image.new("RGB", (32, 32), "red")


def candidate(folder: Path, name: str, **settings: Any) -> Vlm:
    """A bf16 candidate, in which `overfit` trains the whole LLM."""
    llm = replace(
        CHATS[name].save(folder, **settings), template=TemplateOptions(date="2026-01-02")
    )
    parts = random_encoder(folder, "clip"), llm
    return assemble(*parts, lora=None, precision="bf16", seed=0, device=torch.device("cpu"))


def overfit(vlm: Vlm, steps: int = 40, answer: str = "red") -> float:
    """Train on a conversation of one turn until its answer is known; the last loss."""
    conversations = Conversations(vlm, max_length=1000)
    sample = Sample("s", (MESSAGES[0], turn("assistant", answer)))  # type: ignore[arg-type]
    ids, labels = conversations.expand(conversations.encode(sample))
    pixels = vlm.processor.image_processor([PICTURE], return_tensors="pt")["pixel_values"]
    model = vlm.model.train().float()  # as small steps would be lost in bf16
    parts = (model.model.language_model, model.lm_head)
    trained = list({p: None for part in parts for p in part.parameters()})
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    wanted = torch.tensor(labels)[1:]
    loss = torch.tensor(0.0)
    for _ in range(steps):
        logits = model(input_ids=torch.tensor(ids)[None], pixel_values=pixels).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.to(torch.bfloat16).eval()
    model.model.multi_modal_projector.float()  # as `assemble` leaves it
    return float(loss.detach())


def said(vlm: Vlm, reference: str = "red") -> Answer:
    """The answer to the first question, with the settings that scoring uses."""
    parts = [{"type": "image", "url": PICTURE}, {"type": "text", "text": "What color is it?"}]
    asked = ChatMessages(messages=[{"role": "user", "content": parts}])  # type: ignore[arg-type]
    lm = MordalVLM.from_live(vlm.model, vlm.processor, tasks=[])
    options = lm._generation({"max_new_tokens": 12})
    (answer,) = Answerer(vlm.model, vlm.processor).answer([asked], options, [reference])
    return answer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma-2-it", "gemma-3-it", "phi-3.5-mini", "qwen3"])
def test_an_overfitted_llm_says_its_answer_and_stops(tmp_path: Path, name: str) -> None:
    """Gemma and Phi-3 end a turn with another token than the tokenizer's eos."""
    vlm = candidate(tmp_path, name)
    assert overfit(vlm) < 0.1
    answer = said(vlm)
    assert answer.text.strip() == "red"
    assert not answer.cut
    assert (answer.likelihood or 0) < 1.0 < (said(vlm, "north").likelihood or 0)


@pytest.mark.slow
def test_no_setting_of_the_llm_but_its_stop_tokens_changes_an_answer(tmp_path: Path) -> None:
    """A penalty on "color", which is in the question, or a least length would; both come back."""
    vlm = candidate(tmp_path, "qwen2.5-instruct", repetition_penalty=5.0)
    assert vlm.model.generation_config.repetition_penalty in (None, 1.0)
    assert overfit(vlm, answer="color") < 0.1
    own = vlm.model.generation_config
    own.repetition_penalty, own.min_new_tokens = 5.0, 8
    assert said(vlm).text.strip() == "color"
    assert vlm.model.generation_config is own
    assert own.repetition_penalty == 5.0
