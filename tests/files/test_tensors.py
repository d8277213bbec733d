"""The tensor store: content by name, cut-off files count as absent, names of older versions."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import fsspec
import pytest
import torch
from safetensors.numpy import save_file

from mordal_optuna.alignment.features import FeatureCache
from mordal_optuna.errors import ConfigError
from mordal_optuna.files.tensors import Stored, TensorStore, address
from mordal_optuna.representation.cache import ComputedStore

if TYPE_CHECKING:
    from pathlib import Path


def test_tensors_and_metadata_are_read_back(tmp_path: Path) -> None:
    store = TensorStore(tmp_path / "store")
    assert store.get("a") is None
    tensor = torch.arange(6.0).view(2, 3).T  # not contiguous
    store.put("a", Stored({"x": tensor}, {"seconds": "1.5"}))
    stored = store.get("a")
    assert stored
    assert torch.equal(stored.tensors["x"], tensor)
    assert stored.metadata == {"seconds": "1.5"}
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a.safetensors"]


def test_a_file_that_was_cut_off_counts_as_absent_and_is_replaced(tmp_path: Path) -> None:
    store = TensorStore(tmp_path)
    for content in (b"", b"cut off", bytes(64)):
        (tmp_path / "a.safetensors").write_bytes(content)
        assert store.get("a") is None
    store.put("a", Stored({"x": torch.ones(2)}))
    assert store.get("a")


def test_an_address_is_the_beginning_of_a_sha_256_of_the_identity() -> None:
    text = json.dumps({"a": 1, "b": [2]}, sort_keys=True)
    whole = hashlib.sha256(text.encode()).hexdigest()
    assert address({"b": [2], "a": 1}, 24) == whole[:24]
    assert address({"b": [3], "a": 1}, 24) != whole[:24]


def test_files_of_earlier_versions_are_found(tmp_path: Path) -> None:
    """Names, keys and metadata as they were when features and projectors had a store each."""
    identity = {"encoder": {"weights": "ab"}, "batch_size": 4}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    features = torch.arange(12.0).view(2, 2, 3)
    folder = tmp_path / digest[:24]
    folder.mkdir()
    save_file({"features": features.numpy()}, folder / "00000003.safetensors")
    found = FeatureCache(tmp_path, identity, budget_bytes=1 << 20).get(3)
    assert found is not None
    assert torch.equal(found, features)
    metadata = {"seconds": '{"warmup": 2.0}', "identity": json.dumps(identity, sort_keys=True)}
    arrays = {"features": features.double().numpy()}
    save_file(arrays, tmp_path / f"{digest[:32]}.safetensors", metadata=metadata)
    computed = ComputedStore(tmp_path).get(identity)
    assert computed
    assert computed.seconds == {"warmup": 2.0}
    assert (computed.arrays["features"] == arrays["features"]).all()


def test_a_store_behind_an_address_is_as_one_on_disk() -> None:
    """Content and metadata are read back; a file that was cut off counts as absent."""
    store = TensorStore("memory://tensors/store")
    assert not store.has("a")
    assert store.get("a") is None
    store.put("a", Stored({"x": torch.ones(2)}, {"seconds": "1.5"}))
    assert store.has("a")
    stored = TensorStore("memory://tensors/store").get("a")
    assert stored
    assert torch.equal(stored.tensors["x"], torch.ones(2))
    assert stored.metadata == {"seconds": "1.5"}
    with fsspec.open("memory://tensors/store/a.safetensors", "wb") as file:
        file.write(b"cut off")
    assert store.get("a") is None
    with pytest.raises(ConfigError, match="shared: 'nosuch://x' cannot be opened"):
        TensorStore("nosuch://x")
