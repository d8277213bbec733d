"""Manifests of checkpoints: what a rung's files are, and which of several manifests counts.

Of several manifests the one with the highest generation counts, and among these the one with the
highest trial number. A manifest that is written under a claim has a name that no other claim uses.
A writer looks at the names, asks the database whether its claim is held, and then writes: in the
same generation if it replaces an earlier claim of its study, or else in the next one. So a worker
that was stopped right before it writes, and goes on when another one has claimed its candidate,
changes nothing, on any file system: it looked earlier and has a lower trial number, so that the
manifest of the later claim counts, whichever is written last.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mordal_optuna.processes.guard import Token

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# They become names of files.
_PART, _DIGEST = re.compile(r"[a-z]{1,64}"), re.compile(r"[0-9a-f]{64}")
# All names, and others.
PATTERN = "checkpoint*.json"
# Generation, trial number and digest of the study's identifier. Older versions wrote the shortest
# form alone; without a claim, the first manifest of a rung still has it.
_NAME = re.compile(r"checkpoint(?:-(\d{4,})(?:-(\d{8,})-[0-9a-f]{8})?)?\.json")


@dataclass(frozen=True)
class Manifest:
    """The content of a rung's manifest.

    Attributes:
        parts: SHA-256 of each part's file, by name of the part.
        facts: further JSON values that were stored with the rung.
        token: fencing token of the claim it was written under; None without a claim.
        digest: SHA-256 over the parts; rungs with the same digest hold the same numbers.
    """

    parts: Mapping[str, str]
    facts: Mapping[str, Any]
    token: Token | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the parts."""
        return digest_of(dict(self.parts))

    def to_json(self) -> dict[str, Any]:
        """The JSON content, with a digest of itself."""
        content: dict[str, Any] = {"parts": dict(self.parts), "facts": dict(self.facts)}
        if self.token:
            content["token"] = asdict(self.token)
        return {**content, "self": digest_of(content)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Manifest:
        """Read the result of `to_json`.

        Args:
            content: JSON content.

        Raises:
            ValueError: if the content does not match its digest, or names a part that could be a
                path.
        """
        written = {key: value for key, value in content.items() if key != "self"}
        if content.get("self") != digest_of(written):
            raise ValueError("another digest")
        for name, digest in written["parts"].items():
            if not (_PART.fullmatch(name) and _DIGEST.fullmatch(digest)):
                raise ValueError("a part that could be a path")
        token = written.get("token")
        return Manifest(written["parts"], written["facts"], Token(**token) if token else None)


def manifest_name(generation: int, token: Token | None) -> str:
    """Name of a manifest.

    Args:
        generation: its generation, from 0.
        token: fencing token of the claim it is written under; None without a claim.
    """
    if token:
        study = hashlib.sha256(token.study.encode()).hexdigest()[:8]
        return f"checkpoint-{generation:04d}-{token.trial:08d}-{study}.json"
    return f"checkpoint-{generation:04d}.json" if generation else "checkpoint.json"


def in_order(names: Iterable[str]) -> list[str]:
    """The names of manifests among names of files; the last one counts.

    Args:
        names: names of files, without their folder.
    """
    return sorted(filter(_NAME.fullmatch, names), key=_order)


def generation_of(name: str) -> int:
    """Generation of a manifest, from 0.

    Args:
        name: its name.
    """
    return _order(name)[0]


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON content.

    Args:
        content: JSON values by key.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _order(name: str) -> tuple[int, int, str]:
    """What manifests are sorted by: generation, trial number, name."""
    found = _NAME.fullmatch(name)
    generation, trial = found.groups() if found else (None, None)
    return int(generation or 0), int(trial) if trial else -1, name
