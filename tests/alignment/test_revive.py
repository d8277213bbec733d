"""A candidate assembled from its checkpoint alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.alignment.checkpoint import CheckpointStore
from mordal_optuna.alignment.machine import Machine
from mordal_optuna.alignment.revive import checkpoint_at, revive
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.errors import CheckpointError
from mordal_optuna.models.towers import load_encoder
from mordal_optuna.pool import ModelSource, TemplateOptions
from mordal_optuna.progress import Silent
from tests.families import random_encoder
from tests.families.chat import MESSAGES
from tests.families.chats import CHATS
from tests.foreign_encoders import open_clip

if TYPE_CHECKING:
    from mordal_optuna.alignment.data import AlignmentSet
    from mordal_optuna.config import AlignmentSettings


def trained(
    folder: Path,
    zoo: Path,
    settings: AlignmentSettings,
    data: AlignmentSet,
    size: int | None = None,
    encoder: ModelSource | None = None,
    llm: ModelSource | None = None,
) -> str:
    """A run of two rungs whose parts lie in `folder`; with a size, on padded images."""
    for kind, name in (("encoders", "clip-t"), ("llms", "llama-t")):
        shutil.copytree(zoo / kind / name, folder / name)
    clip = ModelSource(
        "clip",
        str(folder / "clip-t"),
        image_aspect="pad" if size else "own",
        image_size=size,
    )
    store = CheckpointStore(folder / "checkpoints")
    session = AlignmentSession(
        encoder or clip,
        llm or ModelSource("llama", str(folder / "llama-t")),
        settings=settings,
        seed=3,
        data=data,
        checkpoints=store,
        machine=Machine(torch.device("cpu")),
    )
    for samples in (8, 16):
        session.advance(samples, Silent())
    (run,) = store.files.runs()
    return f"{folder / 'checkpoints'}/{run}"


def test_it_is_the_candidate_that_was_scored(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """At a rung, or at the highest; every trained number as it was kept."""
    run = trained(tmp_path, zoo, settings, data)
    folder, name = run.rsplit("/", 1)
    assert checkpoint_at(run) == (folder, name, 16)
    for address, samples in ((run, 16), (f"{run}/8", 8)):
        vlm = revive(address, device=cpu)
        kept = CheckpointStore(folder).load(name, samples).trained
        assert {n: p.tolist() for n, p in vlm.trainable().items()} == {
            n: p.tolist() for n, p in kept.items()
        }


def test_it_has_the_pixels_that_it_was_trained_on(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """Padded images of another size, from what the checkpoint says of its encoder."""
    vlm = revive(trained(tmp_path, zoo, settings, data, size=40), device=cpu)
    assert vlm.processor.image_processor.do_pad
    assert vlm.encoder.read([data.pictures(0)[0]]).shape[-2:] == (40, 40)


@pytest.mark.parametrize(
    "name", ["internvit-hub", "aimv2-apple", "open-clip-vit", "vit-classifier"]
)
def test_encoders_that_are_converted_come_back(
    zoo: Path,
    settings: AlignmentSettings,
    data: AlignmentSet,
    tmp_path: Path,
    cpu: torch.device,
    name: str,
) -> None:
    """Their identity is that of the files, and their features those that were trained on."""
    if name == "open-clip-vit":
        pytest.importorskip("open_clip", reason="needs open-clip-torch, of the extra `test`")
        source = open_clip(tmp_path, name)[0]
    else:
        source = random_encoder(tmp_path, name)
    run = trained(tmp_path, zoo, settings, data, encoder=source)
    vlm = revive(run, device=cpu)
    folder, digest = run.rsplit("/", 1)
    kept = CheckpointStore(folder).load(digest, 16).trained
    assert all(torch.equal(p, kept[n]) for n, p in vlm.trainable().items())
    pixels = vlm.encoder.read([data.pictures(0)[0]])
    again = load_encoder(source, "fp32", cpu)
    assert torch.equal(again.features(pixels), vlm.encoder.features(pixels))
    weights = next(Path(source.location).glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="another vision encoder"):
        revive(run, device=cpu)


def test_the_chat_template_comes_back_with_its_options(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """Arguments and date; with another template in the LLM's files the checkpoint is refused."""
    options = TemplateOptions(arguments=(("enable_thinking", True),), date="2026-01-02")
    source = replace(CHATS["smollm3"].save(tmp_path), template=options)
    longer = settings.model_copy(update={"max_length": 600})
    run = trained(tmp_path, zoo, longer, data, llm=source)
    folder, digest = run.rsplit("/", 1)
    assert CheckpointStore(folder).load(digest, 16).sources["llm"] == source
    text = revive(run, device=cpu).processor.apply_chat_template(
        list(MESSAGES[:1]), add_generation_prompt=True, tokenize=False
    )
    assert "Today Date: 02 January 2026\nReasoning Mode: /think" in text
    assert text.endswith("<|im_start|>assistant\n")
    file = Path(source.location) / "tokenizer_config.json"
    stored = json.loads(file.read_text())
    stored["chat_template"] = stored["chat_template"].replace("Metadata", "Facts")
    file.write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match="another llm"):
        revive(run, device=cpu)


def test_an_own_template_comes_back_without_its_file(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """The checkpoint holds its text; a default that is not given is the same again."""
    given = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    source = replace(CHATS["vicuna-1.5"].save(tmp_path), template=TemplateOptions(given))
    vlm = revive(trained(tmp_path, zoo, settings, data, llm=source), device=cpu)
    assert vlm.processor.chat_template.endswith(given)


def test_an_address_without_a_checkpoint_is_refused(tmp_path: Path, cpu: torch.device) -> None:
    for address in ("owner/model", str(tmp_path), str(tmp_path / "run" / "16")):
        assert checkpoint_at(address) is None
    with pytest.raises(CheckpointError, match="holds no checkpoint; name <folder>/<run>"):
        revive(str(tmp_path), device=cpu)


def test_a_part_that_changed_is_refused(
    zoo: Path, settings: AlignmentSettings, data: AlignmentSet, tmp_path: Path, cpu: torch.device
) -> None:
    """The trained numbers mean nothing on another model."""
    run = trained(tmp_path, zoo, settings, data)
    shutil.rmtree(tmp_path / "clip-t")
    shutil.copytree(zoo / "encoders" / "dinov2-t", tmp_path / "clip-t")
    with pytest.raises(CheckpointError, match="trained on another vision encoder .*clip-t' now"):
        revive(run, device=cpu)
