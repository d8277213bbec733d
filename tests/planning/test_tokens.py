"""Tokens counted by `tokenizers` alone are those that training counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.planning.data import read_data
from mordal_optuna.planning.models import read_models
from mordal_optuna.planning.places import Hub
from mordal_optuna.planning.tokens import assumed, count_tokens
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from pathlib import Path


def counted(content: dict[str, Any]) -> dict[str, Any]:
    """Tokens by LLM."""
    settings = parse_study(content)
    facts = {m.name: m for m in read_models(settings, Hub())}
    data = read_data(settings)
    return {s.name: count_tokens(s, facts[s.name], data, 200) for s in settings.models().llms}


@pytest.mark.slow
def test_tokens_are_those_of_training(study_content: dict[str, Any], zoo: Path) -> None:
    """Sample by sample, with transformers' tokenizer and a whole candidate's conversations."""
    import torch

    from mordal_optuna.alignment.conversation import IGNORED, Conversations
    from mordal_optuna.models.assemble import assemble

    found = counted(study_content)
    settings = parse_study(study_content)
    data, pool = read_data(settings), settings.models()
    for llm in pool.llms:
        vlm = assemble(
            pool.vision_encoders[0],
            llm,
            lora=None,
            precision="fp32",
            seed=0,
            device=torch.device("cpu"),
        )
        reader = Conversations(vlm, max_length=200)
        rows = [reader.encode(sample) for sample in data.looked_at]
        lengths = found[llm.name].lengths(vlm.image_tokens, 200)
        assert lengths.tolist() == [row.length for row in rows]
        targets = [int((reader.expand(row)[1][1:] != IGNORED).sum()) for row in rows]
        assert found[llm.name].targets.tolist() == targets


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CHATS))
def test_chat_templates_are_rendered_as_in_training(
    study_content: dict[str, Any], tmp_path: Path, name: str
) -> None:
    from mordal_optuna.alignment.conversation import Conversations
    from mordal_optuna.models.generation import load_chat

    source = CHATS[name].save(tmp_path)
    study_content["pool"]["llms"] = [{"name": "m", "location": source.location}]
    found = counted(study_content)["m"]
    settings = parse_study(study_content)
    chat = load_chat(settings.models().llms[0])
    image = chat.tokenizer.convert_tokens_to_ids("<image>")
    reader = Conversations.of_chat(chat, image, max_length=4096)
    rows = [reader.encode(sample) for sample in read_data(settings).looked_at]
    assert found.text.tolist() == [len(row.ids) - row.images for row in rows]


def test_assumed_tokens_fit_into_short_sequences(study_content: dict[str, Any]) -> None:
    data = read_data(parse_study(study_content))
    assert assumed(data, 2048).text[0] == 224
    short = assumed(data, 128)
    assert short.text[0] == 32
    assert not short.counted
    assert np.all(short.lengths(576, 128) == 128)
    assert short.cut(576, 128) == 1.0
