"""LoRA merged for scoring: the logits of an export meanwhile, and equal bits afterwards."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.config import LoraSettings
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.models.export import merge
from mordal_optuna.models.merging import merged_meanwhile
from tests.families import random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path


def candidate(folder: Path, precision: str, cpu: torch.device) -> Vlm:
    """A candidate whose adapters change its answers."""
    parts = random_encoder(folder, "clip"), random_llm(folder, "llama")
    lora = LoraSettings(rank=4, alpha=8)
    vlm = assemble(*parts, lora=lora, precision=precision, seed=0, device=cpu)  # type: ignore[arg-type]
    torch.manual_seed(0)
    for name, parameter in vlm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2)
    return vlm


def logits(vlm: Vlm) -> torch.Tensor:
    image = vlm.model.config.image_token_id
    ids = torch.tensor([[image] * 16 + [3, 4, 5]])
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 32, 32, dtype=vlm.model.model.vision_tower.dtype)
    with torch.no_grad():
        found: torch.Tensor = vlm.model.eval()(input_ids=ids, pixel_values=pixels).logits
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_has_the_logits_of_its_export_and_then_its_own_weights(
    tmp_path: Path, precision: str, cpu: torch.device
) -> None:
    vlm = candidate(tmp_path, precision, cpu)
    weights = {name: value.clone() for name, value in vlm.model.state_dict().items()}
    before, parameters = logits(vlm), dict(vlm.model.named_parameters())
    exported = Vlm(**{**vars(vlm), "model": copy.deepcopy(vlm.model)})
    merge(exported)
    with merged_meanwhile(vlm):
        assert torch.equal(logits(vlm), logits(exported))
    assert torch.equal(logits(vlm), before)
    for name, value in vlm.model.state_dict().items():
        assert value.dtype == weights[name].dtype
        assert torch.equal(value, weights[name]), name
    after = dict(vlm.model.named_parameters())
    assert all(after[name] is parameters[name] for name in after)  # those the optimiser knows


def test_an_error_meanwhile_leaves_the_weights_as_they_were(
    tmp_path: Path, cpu: torch.device
) -> None:
    vlm = candidate(tmp_path, "bf16", cpu)
    before = logits(vlm)
    with pytest.raises(RuntimeError, match="lost"), merged_meanwhile(vlm):
        raise RuntimeError("device lost")
    assert torch.equal(logits(vlm), before)
