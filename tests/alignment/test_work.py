"""Counted operations are those that torch computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mordal_optuna.alignment.work import Work
from mordal_optuna.config import LoraSettings
from mordal_optuna.models.assemble import assemble
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def test_operations_are_those_of_the_formula(tmp_path: Path) -> None:
    """By counting what torch computes: forward and backward through the matrices alone."""
    parts = tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "llama")
    lora = LoraSettings(rank=4, alpha=8)
    vlm = assemble(*parts, lora=lora, precision="fp32", seed=0, device=CPU)
    work = Work.per_token(vlm)
    llm = vlm.model.model.language_model
    width, tokens, targets = llm.config.hidden_size, 7, 5
    with FlopCounterMode(display=False) as counter:
        embedded = torch.randn(1, tokens, width, requires_grad=True)
        hidden = llm(inputs_embeds=embedded, use_cache=False).last_hidden_state
        vlm.model.lm_head(hidden[0, :targets]).sum().backward()
    attention = sum(
        count
        for name, count in counter.get_flop_counts()["Global"].items()
        if "bmm" in str(name) or "attention" in str(name)
    )
    counted = counter.get_total_flops() - attention
    assert counted == pytest.approx(work.of(tokens, targets, 0), rel=0.02)
    assert work.of(tokens, targets, 2) - work.of(tokens, targets, 0) == (
        6 * 2 * vlm.image_tokens * sum(p.numel() for p in projector(vlm))
    )


def projector(vlm: Any) -> list[torch.nn.Parameter]:
    return list(vlm.model.model.multi_modal_projector.parameters())
