"""A stand-in for `decord`, which lmms-eval's `llava_hf` imports for videos only."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def fake_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import decord` work where the package is missing."""
    stub = ModuleType("decord")
    stub.__spec__ = ModuleSpec("decord", None)
    stub.VideoReader = stub.cpu = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decord", stub)
