"""The jobs' files, one or two per job, from which the grid files are assembled.

<pairs>/<job>.json     measurements; written last
<pairs>/train-*.npz    values of single documents, rungs x documents by task, and -ln p of their
                       reference answers as TASK/nll
<features>/<job>.npz   features by task; too large to be committed, and quickly recomputed
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mordal_optuna.files.atomic import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One step of making the grid.

    Attributes:
        kind: `encode` computes an encoder's features of all images, `compare` compares a pair
            before it is trained, `train` trains a pair to all rungs.
        encoder: name of the encoder.
        llm: name of the LLM; empty for `encode`.
        seed: random seed of `train`.
        schedule: learning-rate schedule of `train`; empty for the study's.
    """

    kind: Literal["encode", "compare", "train"]
    encoder: str
    llm: str = ""
    seed: int = 0
    schedule: str = ""

    @property
    def name(self) -> str:
        """Name of the job's files, without a suffix."""
        pair = f"{self.encoder}+{self.llm}" if self.llm else self.encoder
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.kind}-{pair}{seed}" + (f"-{self.schedule}" if self.schedule else "")


@dataclass(frozen=True)
class Files:
    """Folders of the jobs' files.

    Attributes:
        pairs: folder of files that can be committed.
        features: folder of features.
    """

    pairs: Path
    features: Path

    def done(self, job: Job) -> bool:
        """Whether all files of a job exist."""
        has_features = job.kind == "train" or (self.features / f"{job.name}.npz").is_file()
        return has_features and (self.pairs / f"{job.name}.json").is_file()

    def write(self, job: Job, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a job's files atomically, the arrays first.

        Args:
            job: the job.
            content: measurements, as JSON values.
            arrays: arrays by name.
        """
        with (
            atomic_write(self._folder(job) / f"{job.name}.npz") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        with atomic_write(self.pairs / f"{job.name}.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def read(self, job: Job) -> dict[str, Any]:
        """A job's measurements."""
        path = self.pairs / f"{job.name}.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def array(self, job: Job, name: str) -> np.ndarray:
        """One of a job's arrays."""
        with np.load(self._folder(job) / f"{job.name}.npz") as stored:
            return np.asarray(stored[name])

    def _folder(self, job: Job) -> Path:
        """Folder of a job's arrays."""
        return self.pairs if job.kind == "train" else self.features
