"""Manifests of checkpoints: read back as written, and the newest claim's one counts."""

from __future__ import annotations

import pytest

from mordal_optuna.alignment.manifests import (
    Manifest,
    digest_of,
    generation_of,
    in_order,
    manifest_name,
)
from mordal_optuna.processes.guard import Token


def test_a_manifest_is_read_back_and_a_changed_one_is_refused() -> None:
    manifest = Manifest({"trained": "ab" * 32}, {"samples": 8}, Token("s", 3))
    content = manifest.to_json()
    assert Manifest.from_json(content) == manifest
    with pytest.raises(ValueError, match="digest"):
        Manifest.from_json({**content, "facts": {"samples": 16}})
    assert content["self"] == digest_of({k: v for k, v in content.items() if k != "self"})


def test_a_higher_generation_counts_and_then_a_higher_trial() -> None:
    """Numbers are compared, not digits; a manifest of an older version comes first."""
    tokens = (None, Token("s", 2), Token("s", 10), Token("s", 123456789))
    names = [manifest_name(generation, t) for generation in (0, 1, 12345) for t in tokens]
    assert names[0] == "checkpoint.json"
    assert len(set(names)) == len(names)
    others = ["checkpoint.json.tmp", "checkpoint-x.json", "trained-ab.safetensors", "run.json"]
    assert in_order([*reversed(names), *others]) == names
    assert [generation_of(name) for name in names] == [0] * 4 + [1] * 4 + [12345] * 4


def test_no_two_claims_write_the_same_name() -> None:
    assert manifest_name(0, Token("s", 1)) != manifest_name(0, Token("t", 1))
    assert "/" not in manifest_name(0, Token("../../x", 1))
