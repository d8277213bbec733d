"""The grid's own files: one or two for every job, from which the grid files are put together.

<pairs>/<job>.json     what was measured; written last
<pairs>/train-*.npz    values of single documents, rungs x documents by task, and -ln p of their
                       reference answers as TASK/nll
<features>/<job>.npz   features, by task; too large to be committed, and quickly made again
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One step of making the grid.

    Attributes:
        kind: `encode` an encoder's view of all images, `compare` a pair before it is trained,
            `train` a pair to all rungs.
        encoder: by name.
        llm: by name; empty for `encode`.
        seed: of `train`.
        schedule: of the learning rate, of `train`; empty for the study's own.
    """

    kind: Literal["encode", "compare", "train"]
    encoder: str
    llm: str = ""
    seed: int = 0
    schedule: str = ""

    @property
    def name(self) -> str:
        """Of its files."""
        pair = f"{self.encoder}+{self.llm}" if self.llm else self.encoder
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.kind}-{pair}{seed}" + (f"-{self.schedule}" if self.schedule else "")


@dataclass(frozen=True)
class Files:
    """Where they are.

    Attributes:
        pairs: folder of what can be committed.
        features: folder of features.
    """

    pairs: Path
    features: Path

    def done(self, job: Job) -> bool:
        """Whether all that a job writes is there."""
        kept = job.kind == "train" or (self.features / f"{job.name}.npz").is_file()
        return kept and (self.pairs / f"{job.name}.json").is_file()

    def write(self, job: Job, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Keep what a job found, its arrays first; each file is whole or not there."""
        folder = self.pairs if job.kind == "train" else self.features
        for place in (self.pairs, folder):
            place.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{job.name}.npz"
        np.savez_compressed(scratch, **arrays)  # type: ignore[arg-type]
        scratch.replace(folder / f"{job.name}.npz")
        scratch = self.pairs / f".{job.name}.json"
        scratch.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        scratch.replace(self.pairs / f"{job.name}.json")

    def read(self, job: Job) -> dict[str, Any]:
        """What a job measured."""
        path = self.pairs / f"{job.name}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def array(self, job: Job, name: str) -> np.ndarray:
        """One of a job's arrays."""
        folder = self.pairs if job.kind == "train" else self.features
        with np.load(folder / f"{job.name}.npz") as stored:
            return np.asarray(stored[name])
