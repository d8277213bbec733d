"""Digests of files and of model folders depend on content, not on locations or times."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from mordal_optuna.files import digests
from mordal_optuna.files.digests import FileDigests, ModelFolder, cache_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with one file of each kind."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "README.md"):
        (folder / name).write_text("{}")
    template = {"chat_template": "{{ a }}", "eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(template))
    save_file({"w": torch.zeros(8)}, folder / "model.safetensors")
    return folder


def changed(folder: Path, before: ModelFolder) -> set[str]:
    """Aspects of a folder that changed; `unchanged` must agree."""
    now = ModelFolder(folder, FileDigests())
    if now.digests != before.digests:
        assert not before.unchanged(8)
    return {
        a
        for a in now.digests.keys() | before.digests
        if now.digests.get(a) != before.digests.get(a)
    }


@pytest.mark.parametrize(
    ("file", "content", "aspect"),
    [
        ("config.json", '{"a": 1}', "configuration"),
        ("preprocessor_config.json", '{"a": 1}', "image processor"),
        ("tokenizer.json", '{"a": 1}', "tokenizer"),
        ("tokenizer_config.json", '{"chat_template": "x", "eos_token": "<s>"}', "chat template"),
        ("tokenizer_config.json", '{"chat_template": "{{ a }}", "eos_token": "x"}', "tokenizer"),
        ("chat_template.jinja", "x", "chat template"),
        ("modeling_x.py", "x", "code"),
        ("merges.txt", "x", "tokenizer"),
        ("odd.json", "{}", "odd.json"),
        ("model-2.safetensors", "x", "weights"),
        ("README.md", "x", None),
        ("LICENSE.txt", "x", None),
    ],
)
def test_a_change_of_a_model_is_named_by_what_the_file_is_for(
    model: Path, file: str, content: str, aspect: str | None
) -> None:
    """Files that transformers does not read change nothing."""
    before = ModelFolder(model, FileDigests())
    (model / file).write_text(content)
    assert changed(model, before) == ({aspect} if aspect else set())


def test_a_copied_or_touched_model_is_the_same(model: Path, tmp_path: Path) -> None:
    before = ModelFolder(model, FileDigests())
    assert before.unchanged(8)
    os.utime(model / "config.json", ns=(1, 1))
    assert not before.unchanged(8)
    model.rename(tmp_path / "elsewhere")
    assert not changed(tmp_path / "elsewhere", before)


def test_a_file_is_read_again_only_where_it_looks_changed(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = digests._whole

    def noted(path: Path) -> str:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(digests, "_whole", noted)
    files = FileDigests()
    first = files.of(model / "config.json")
    assert files.of(model / "config.json") == first
    assert read == ["config.json"]
    (model / "config.json").write_text('{"b": 2}')
    assert files.of(model / "config.json") != first
    assert read == ["config.json"] * 2


@pytest.mark.parametrize("name", ["first", "middle", "last"])
def test_any_trained_tensor_of_a_large_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Blocks of each tensor are read from large files."""
    monkeypatch.setattr(digests, "_WHOLE_BYTES", 0)
    file = tmp_path / "model.safetensors"
    tensors = {key: torch.zeros(10_000) for key in ("first", "middle", "last")}
    save_file(tensors, file)
    before = FileDigests().of(file)
    assert FileDigests().of(file) == before
    tensors[name] += 1e-3
    save_file(tensors, file)
    assert FileDigests().of(file) != before


def test_every_state_of_local_data_has_a_separate_cache(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    for place in (tmp_path, tmp_path / "a.json"):
        (tmp_path / "a.json").write_text("[]")
        before = cache_folder(place)
        assert cache_folder(place) == before
        (tmp_path / "a.json").write_text("[1]")
        assert cache_folder(place) != before
