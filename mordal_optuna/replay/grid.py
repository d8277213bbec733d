"""Grid files: every candidate's whole learning curve, so that a search is replayed without a GPU.

Symbols:
    M, L   encoders, LLMs
    D      samples of a full alignment
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mordal_optuna.errors import GridError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from pathlib import Path

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Matrix = tuple[tuple[float, ...], ...]


class _Part(BaseModel):
    # Keys that are not read are left alone: a grid file may carry notes of its own.
    model_config = ConfigDict(frozen=True, extra="ignore")


class GridCurve(_Part):
    """One candidate's scores.

    Attributes:
        encoder: its vision encoder.
        llm: its LLM.
        samples: rungs, ascending, the last being D.
        score: at each rung, 0..1.
        train_seconds: device-seconds from the start up to each rung.
        eval_seconds: device-seconds of each evaluation.
        stderr: standard error of each score; where it is not given, that of a share of
            `test_documents`.
        nll: mean of -ln p of the reference answers at each rung, in nats; None where the file
            has none.
        nll_stderr: its standard error.
    """

    encoder: str
    llm: str
    samples: Annotated[tuple[Count, ...], Field(min_length=1)]
    score: tuple[Score, ...]
    train_seconds: tuple[Seconds, ...]
    eval_seconds: tuple[Seconds, ...]
    stderr: tuple[Seconds, ...] | None = None
    nll: tuple[Seconds, ...] | None = None
    nll_stderr: tuple[Seconds, ...] | None = None

    @property
    def candidate(self) -> Candidate:
        """The pair."""
        return Candidate(self.encoder, self.llm)


class Grid(_Part):
    """A grid: the ground truth of a pool on one task.

    Attributes:
        task: name of the task.
        full_samples: D.
        test_documents: documents behind each score.
        encoders: names of the vision encoders.
        llms: names of the LLMs.
        vision_similarity: M x M.
        llm_similarity: L x L, by the encoder whose embeddings were fed.
        warmup_seconds: device-seconds of a projector's warm-up and the LLM's features, by
            "encoder|llm".
        curves: one a candidate.
        feature_seconds: device-seconds of the encoders' features and all similarities.
    """

    task: str
    full_samples: Count
    test_documents: Count
    encoders: Annotated[tuple[str, ...], Field(min_length=1)]
    llms: Annotated[tuple[str, ...], Field(min_length=1)]
    vision_similarity: Matrix
    llm_similarity: dict[str, Matrix]
    warmup_seconds: dict[str, Seconds]
    curves: tuple[GridCurve, ...]
    feature_seconds: Seconds = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in (
            *_name_problems(self),
            *_matrix_problems(self),
            *(p for curve in self.curves for p in _curve_problems(curve, self)),
            *_coverage_problems(self),
        ):
            raise ValueError(problem)  # the first is enough; the next may follow from it
        return self

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every pair, encoder by encoder."""
        return tuple(Candidate(v, m) for v in self.encoders for m in self.llms)

    @cached_property
    def _by_candidate(self) -> dict[Candidate, GridCurve]:
        return {curve.candidate: curve for curve in self.curves}

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """What a search would have measured.

        Raises:
            GridError: if the file has no score there.
        """
        curve = self._by_candidate[candidate]
        if samples not in curve.samples:
            raise GridError(
                f"a score of {candidate} at {samples} samples was asked for; the file has "
                f"{', '.join(map(str, curve.samples))}"
            )
        at = curve.samples.index(samples)
        score = curve.score[at]
        share = float(np.sqrt(score * (1 - score) / self.test_documents))
        return Measurement(
            samples=samples,
            score=score,
            stderr=curve.stderr[at] if curve.stderr else share,
            documents=self.test_documents,
            train_seconds=curve.train_seconds[at],
            eval_seconds=curve.eval_seconds[at],
            nll=curve.nll[at] if curve.nll else None,
            nll_stderr=curve.nll_stderr[at] if curve.nll_stderr else None,
        )

    def truth(self, candidate: Candidate) -> float:
        """The score after a full alignment."""
        return self._by_candidate[candidate].score[-1]

    def seconds_per_sample(self, candidate: Candidate) -> float:
        """Device-seconds of training on one sample, averaged over a full alignment."""
        return self._by_candidate[candidate].train_seconds[-1] / self.full_samples

    @cached_property
    def grid_seconds(self) -> float:
        """Cost of the grid: every pair trained to r = 1 and scored once."""
        return sum(c.train_seconds[-1] + c.eval_seconds[-1] for c in self.curves)

    @property
    def full_run_seconds(self) -> float:
        """Mean cost of one pair of the grid; 0 where the file knows no costs."""
        return self.grid_seconds / len(self.curves)

    def similarity_of_llms(self, encoder: str) -> Matrix:
        """L x L, fed with an encoder's embeddings.

        Raises:
            GridError: if the file does not have it.
        """
        if encoder not in self.llm_similarity:
            raise GridError(
                f"the similarity of the LLMs fed by {encoder!r} was asked for; the file has "
                f"{', '.join(sorted(self.llm_similarity)) or 'none'}"
            )
        return self.llm_similarity[encoder]

    def warmup(self, candidate: Candidate) -> float:
        """Device-seconds of the warm-up before the LLMs are compared.

        Raises:
            GridError: if the file does not have it.
        """
        key = f"{candidate.vision_encoder}|{candidate.llm}"
        if key not in self.warmup_seconds:
            raise GridError(f"warmup_seconds has no {key!r}, whose cost was asked for")
        return self.warmup_seconds[key]


def read_grid(path: Path) -> Grid:
    """Read and check a grid file.

    Raises:
        GridError: with one sentence that names what is wrong.
    """
    if not path.is_file():
        raise GridError(f"grid file {str(path)!r} does not exist")
    try:
        return Grid.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GridError(f"grid file {str(path)!r} is not valid JSON: {error}") from error
    except ValidationError as error:
        raise GridError(f"grid file {str(path)!r}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    key = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "missing":
        return f"{key} is missing; this key is required"
    message = problem["msg"]
    return f"{key}: got {problem['input']!r}; {message[0].lower()}{message[1:]}"


def _name_problems(grid: Grid) -> list[str]:
    problems = []
    for kind, names in (("encoders", grid.encoders), ("llms", grid.llms)):
        twice = [name for n, name in enumerate(names) if name in names[:n]]
        problems += [f"{kind} lists {name!r} twice; each model is listed once" for name in twice]
    for curve in grid.curves:
        problems += _unknown(curve.encoder, "encoder", grid.encoders, "a curve")
        problems += _unknown(curve.llm, "llm", grid.llms, "a curve")
    for name in grid.llm_similarity:
        problems += _unknown(name, "encoder", grid.encoders, "llm_similarity")
    for key in grid.warmup_seconds:
        encoder, bar, llm = key.partition("|")
        if not bar:
            problems.append(f"warmup_seconds has the key {key!r}; keys are 'encoder|llm'")
            continue
        problems += _unknown(encoder, "encoder", grid.encoders, "warmup_seconds")
        problems += _unknown(llm, "llm", grid.llms, "warmup_seconds")
    return problems


def _unknown(name: str, kind: str, known: tuple[str, ...], where: str) -> list[str]:
    if name in known:
        return []
    return [f"{where} names the {kind} {name!r}; the file lists {', '.join(known)}"]


def _matrix_problems(grid: Grid) -> list[str]:
    named = {"vision_similarity": (grid.vision_similarity, len(grid.encoders))}
    for encoder, matrix in grid.llm_similarity.items():
        named[f"llm_similarity of {encoder!r}"] = (matrix, len(grid.llms))
    return [
        f"{name} has rows of {sorted({len(row) for row in matrix})} values in {len(matrix)} rows; "
        f"it must be {size} x {size}"
        for name, (matrix, size) in named.items()
        if len(matrix) != size or any(len(row) != size for row in matrix)
    ]


def _curve_problems(curve: GridCurve, grid: Grid) -> list[str]:
    name, count = f"the curve of {curve.candidate}", len(curve.samples)
    for key in ("score", "train_seconds", "eval_seconds", "stderr", "nll", "nll_stderr"):
        values = getattr(curve, key)
        if values is not None and len(values) != count:
            return [f"{name} has {count} samples and {len(values)} {key}; they must be as many"]
    if any(later <= earlier for earlier, later in pairwise(curve.samples)):
        return [f"{name} has the samples {list(curve.samples)}; they must ascend"]
    if curve.samples[-1] != grid.full_samples:
        return [
            f"{name} ends at {curve.samples[-1]} samples; it must end at full_samples, "
            f"{grid.full_samples}"
        ]
    if any(later < earlier for earlier, later in pairwise(curve.train_seconds)):
        return [f"{name} has train_seconds that fall; they accumulate from the start"]
    return []


def _coverage_problems(grid: Grid) -> list[str]:
    seen = [curve.candidate for curve in grid.curves]
    problems = [f"{c} has two curves; one is allowed" for c in set(seen) if seen.count(c) > 1]
    problems += [
        f"{c} has no curve; every pair needs one" for c in grid.candidates if c not in seen
    ]
    every = sorted({samples for curve in grid.curves for samples in curve.samples})
    for curve in grid.curves:
        missing = [samples for samples in every if samples not in curve.samples]
        if missing:
            problems.append(
                f"the curve of {curve.candidate} has no score at {missing[0]} samples, where "
                "other curves have one; all must have the same rungs"
            )
    return problems
