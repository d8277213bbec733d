"""Features: cached ones equal computed ones, within a budget, by identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.alignment.features import FeatureCache, VisionFeatures, group_size
from mordal_optuna.models.towers import Encoder, load_encoder
from mordal_optuna.pool import ModelSource

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.data import AlignmentSet

CPU = torch.device("cpu")
ONES = [1] * 8


@pytest.fixture
def encoder(zoo: Path) -> Encoder:
    return load_encoder(ModelSource("clip", str(zoo / "encoders" / "clip-t")), "fp32", CPU)


def features(vision: VisionFeatures, start: int) -> list[torch.Tensor]:
    return vision.compute(vision.prepare(range(start, start + 8), ONES))


def test_cached_features_equal_computed_ones(
    encoder: Encoder, data: AlignmentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, and without opening an image."""
    cache = FeatureCache(tmp_path, {"encoder": "clip"}, budget_bytes=1 << 30)
    without = features(VisionFeatures(encoder, data, share=8, device=CPU), 8)
    first = features(VisionFeatures(encoder, data, share=8, device=CPU, cache=cache), 8)
    monkeypatch.setattr(Encoder, "read", pytest.fail)
    found = features(VisionFeatures(encoder, data, share=8, device=CPU, cache=cache), 8)
    for one, other, third in zip(without, first, found, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_the_budget_keeps_the_first_groups(
    encoder: Encoder, data: AlignmentSet, tmp_path: Path
) -> None:
    size = sum(
        f.numel() * 4 for f in features(VisionFeatures(encoder, data, share=8, device=CPU), 0)
    )
    cache = FeatureCache(tmp_path, {}, budget_bytes=2 * size)
    vision = VisionFeatures(encoder, data, share=8, device=CPU, cache=cache)
    for start in (0, 8, 16):
        features(vision, start)
    assert [cache.get(number) is not None for number in range(3)] == [True, True, False]


def test_features_beyond_the_budget_stay_on_their_device(tmp_path: Path) -> None:
    """A move waits for the device; meta tensors cannot be moved at all."""
    cache = FeatureCache(tmp_path, {}, budget_bytes=100)
    features = torch.ones(2, 3, 4, device="meta")
    cache.put(1, features)
    with pytest.raises(NotImplementedError):
        FeatureCache(tmp_path, {}, budget_bytes=1000).put(1, features)


def test_another_identity_is_another_cache(tmp_path: Path) -> None:
    one = FeatureCache(tmp_path, {"precision": "fp32"}, budget_bytes=1 << 20)
    one.put(0, torch.ones(2, 3, 4))
    assert FeatureCache(tmp_path, {"precision": "bf16"}, budget_bytes=1 << 20).get(0) is None


def test_a_file_that_was_cut_off_is_computed_again(
    encoder: Encoder, data: AlignmentSet, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path, {}, budget_bytes=1 << 30)
    vision = VisionFeatures(encoder, data, share=8, device=CPU, cache=cache)
    expected = features(vision, 0)
    (file,) = tmp_path.glob("*/*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    found = features(vision, 0)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert cache.get(0) is not None


def test_groups_divide_a_share() -> None:
    assert [group_size(share) for share in (1, 7, 8, 16, 20, 24, 128)] == [1, 7, 8, 16, 10, 12, 16]
