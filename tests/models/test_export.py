"""Export: whole or not at all, LoRA merged once, and a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import ModelError
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.models.export import ModelCard, check_folder, export, merge, merged_copy
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.pool import ModelSource


@pytest.fixture
def parts(tmp_path: Path) -> tuple[ModelSource, ModelSource]:
    return tiny.encoder(tmp_path, "clip"), tiny.llm(tmp_path, "llama")


@pytest.fixture
def vlm(parts: tuple[ModelSource, ModelSource], cpu: torch.device) -> Vlm:
    """A candidate whose LoRA changes the logits."""
    lora = LoraSettings(rank=4, alpha=8)
    vlm = assemble(*parts, lora=lora, precision="fp32", seed=0, device=cpu)
    with torch.no_grad():
        for name, parameter in vlm.trainable().items():
            if "lora_B" in name:
                parameter.fill_(0.01)
    vlm.model.eval()
    return vlm


def logits(vlm: Vlm) -> torch.Tensor:
    with torch.no_grad():
        return vlm.model(input_ids=torch.tensor([[3, 4, 5]])).logits


def test_merging_keeps_the_logits_and_a_second_time_changes_nothing(vlm: Vlm) -> None:
    before = logits(vlm)
    merge(vlm)
    assert not any("lora" in name for name, _ in vlm.model.named_parameters())
    merged = logits(vlm)
    assert torch.allclose(before, merged, atol=1e-5)
    merge(vlm)
    assert torch.equal(merged, logits(vlm))


def test_a_folder_must_be_new_or_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    folder = tmp_path / "folder"
    folder.mkdir()
    check_folder(folder)
    (folder / "file").touch()
    with pytest.raises(ModelError, match="is not empty"):
        check_folder(folder)
    with pytest.raises(ModelError, match="is a file"):
        check_folder(folder / "file")


def test_an_export_that_fails_leaves_nothing_and_can_be_repeated(
    vlm: Vlm,
    parts: tuple[ModelSource, ModelSource],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "exports" / "vlm"
    card = ModelCard(*parts, 1536, "test data", "0123", 7, {"batch_size": 8}, ("57.5 % on ai2d",))

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(vlm.processor, "save_pretrained", full)
        with pytest.raises(OSError, match="no space left"):
            export(vlm, folder, card)
    assert list(folder.parent.iterdir()) == []
    folder.mkdir()
    assert export(vlm, folder, card) == []
    assert [path.name for path in folder.parent.iterdir()] == ["vlm"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    for shown in ("# clip + llama", "57.5 % on ai2d", "- seed: 7", "1,536"):
        assert shown in text


def test_a_merged_copy_leaves_the_candidate_to_be_trained(vlm: Vlm) -> None:
    before = {name: p.detach().clone() for name, p in vlm.model.named_parameters()}
    own = logits(vlm)
    copied = merged_copy(vlm)
    assert not any("lora" in name for name, _ in copied.model.named_parameters())
    assert torch.allclose(own, logits(copied), atol=1e-5)
    after = dict(vlm.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(own, logits(vlm))
