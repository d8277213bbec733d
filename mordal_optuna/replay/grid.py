"""Grid files: the whole learning curve of every candidate, to replay searches without a GPU.

Symbols:
    M, L   number of vision encoders, number of LLMs
    D      number of alignment samples of a full alignment
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mordal_optuna.errors import GridError, NoGridError
from mordal_optuna.pool import Candidate
from mordal_optuna.search.curves import Measurement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Similarity = Annotated[float, Field(allow_inf_nan=False)]
Matrix = tuple[tuple[Similarity, ...], ...]
# Characters of a path that an error shows.
_SHOWN = 200
_MEASURED = ("score", "train_seconds", "eval_seconds", "stderr")
_LIKELIHOODS = ("nll", "nll_stderr", "p_correct", "p_correct_stderr")
_NOTES = ("documents", "estimated")
# What to do about a file that `mordal grid-file` wrote of a search.
_FILL = "`mordal grid-file --fill` writes estimates in the place of what a study did not measure"


class _Part(BaseModel):
    # Unknown keys are ignored: a grid file may carry notes.
    model_config = ConfigDict(frozen=True, extra="ignore")


class GridCurve(_Part):
    """One candidate's measurements, in columns, as the file has them.

    This class is the file's format alone. `Grid.measurements` gives the same numbers as
    `Measurement` objects, and all other code uses those.

    Attributes:
        encoder: name of the vision encoder.
        llm: name of the LLM.
        samples: number of alignment samples at each rung, ascending; the last is D.
        score: score at each rung, 0..1.
        train_seconds: device-seconds of training from the start up to each rung.
        eval_seconds: device-seconds of the evaluation at each rung.
        stderr: standard error of each score. If it is missing, that of a share of
            `test_documents` is used.
        nll: mean of -ln p of the reference answers at each rung, in nats; None, for a rung or for
            all, if not measured.
        nll_stderr: standard error of each `nll`; None if not measured.
        p_correct: mean over documents of the reference answer's likelihood p at each rung, 0..1;
            None if not measured.
        p_correct_stderr: standard error of each `p_correct`; None if not measured.
        documents: number of documents behind each score; None for the file's `test_documents`.
        estimated: whether each score is an estimate of a study that did not measure it; None if
            all scores were measured.
    """

    encoder: str
    llm: str
    samples: Annotated[tuple[Count, ...], Field(min_length=1)]
    score: tuple[Score, ...]
    train_seconds: tuple[Seconds, ...]
    eval_seconds: tuple[Seconds, ...]
    stderr: tuple[Seconds, ...] | None = None
    nll: tuple[Seconds | None, ...] | None = None
    nll_stderr: tuple[Seconds | None, ...] | None = None
    p_correct: tuple[Score | None, ...] | None = None
    p_correct_stderr: tuple[Seconds | None, ...] | None = None
    documents: tuple[Count, ...] | None = None
    estimated: tuple[bool, ...] | None = None

    @property
    def candidate(self) -> Candidate:
        """The pair that the curve belongs to."""
        return Candidate(self.encoder, self.llm)

    def measurements(self, documents: int) -> tuple[Measurement, ...]:
        """The columns as one measurement for each rung.

        Args:
            documents: number of documents behind each score, where the curve does not say it.
        """
        counts = self.documents or (documents,) * len(self.samples)
        likelihoods = [getattr(self, key) or (None,) * len(self.samples) for key in _LIKELIHOODS]
        rows = zip(
            self.samples,
            self.score,
            self.stderr or map(_share_stderr, self.score, counts),
            counts,
            self.train_seconds,
            self.eval_seconds,
            *likelihoods,
            strict=True,
        )
        return tuple(
            Measurement(
                samples,
                score,
                stderr,
                count,
                train,
                evaluation,
                **dict(zip(_LIKELIHOODS, row, strict=True)),
            )
            for samples, score, stderr, count, train, evaluation, *row in rows
        )


def _share_stderr(share: float, count: int) -> float:
    """Standard error of a share of `count` independent documents."""
    return float(np.sqrt(share * (1 - share) / count))


class Grid(_Part):
    """A grid: measured learning curves of all pairs of a pool on one task.

    Attributes:
        task: name of the task.
        full_samples: D.
        test_documents: number of documents behind each score.
        encoders: names of the vision encoders.
        llms: names of the LLMs.
        vision_similarity: CKA of the vision encoders, M x M; None if they were not compared.
        llm_similarity: CKA of the LLMs, L x L, by the encoder whose embeddings the LLMs were fed.
        warmup_seconds: device-seconds of a projector's warm-up and of the LLM's features, by
            "encoder|llm".
        curves: curve of each candidate.
        feature_seconds: device-seconds of the encoders' features and of all similarities.
    """

    task: str
    full_samples: Count
    test_documents: Count
    encoders: Annotated[tuple[str, ...], Field(min_length=1)]
    llms: Annotated[tuple[str, ...], Field(min_length=1)]
    vision_similarity: Matrix | None = None
    llm_similarity: dict[str, Matrix] = Field(default_factory=dict)
    warmup_seconds: dict[str, Seconds] = Field(default_factory=dict)
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
    def _by_candidate(self) -> dict[Candidate, tuple[Measurement, ...]]:
        return {curve.candidate: curve.measurements(self.test_documents) for curve in self.curves}

    def measurements(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """All measurements of a candidate, by ascending samples."""
        return self._by_candidate[candidate]

    def measurement(self, candidate: Candidate, samples: int) -> Measurement:
        """The measurement of a candidate at a rung.

        Args:
            candidate: pair of the pool.
            samples: number of alignment samples at the rung.

        Raises:
            GridError: if the file has no score at that rung.
        """
        curve = self.measurements(candidate)
        for measurement in curve:
            if measurement.samples == samples:
                return measurement
        raise GridError(
            f"a score of {candidate} at {samples} samples was asked for; the file has "
            f"{', '.join(str(measurement.samples) for measurement in curve)}"
        )

    def truth(self, candidate: Candidate) -> float:
        """The score after a full alignment."""
        return self.measurements(candidate)[-1].score

    def seconds_per_sample(self, candidate: Candidate) -> float:
        """Mean device-seconds of training per sample over a full alignment."""
        return self.measurements(candidate)[-1].train_seconds / self.full_samples

    @cached_property
    def grid_seconds(self) -> float:
        """Cost of the grid: device-seconds to train every pair on D samples and score it once."""
        return sum(c.train_seconds[-1] + c.eval_seconds[-1] for c in self.curves)

    @property
    def full_run_seconds(self) -> float:
        """Mean cost of one pair of the grid; 0 if the file lists no costs."""
        return self.grid_seconds / len(self.curves)

    @property
    def estimated(self) -> int:
        """Number of scores that are estimates and not measurements."""
        return sum(sum(curve.estimated or ()) for curve in self.curves)

    @property
    def scores(self) -> int:
        """Number of scores, those that are estimates included."""
        return sum(len(curve.samples) for curve in self.curves)

    def similarity_of_encoders(self) -> Matrix:
        """CKA of the vision encoders, M x M.

        Raises:
            GridError: if the file does not have this matrix.
        """
        if self.vision_similarity is None:
            raise GridError(
                "the similarity of the encoders was asked for; the file has none "
                "(`vision_similarity`), so methods that compare models cannot be replayed on it; "
                "`mordal grid-file --compared-in NAME` takes it from a study that has compared "
                "the same models"
            )
        return self.vision_similarity

    def similarity_of_llms(self, encoder: str) -> Matrix:
        """CKA of the LLMs, L x L.

        Args:
            encoder: name of the encoder whose embeddings the LLMs were fed.

        Raises:
            GridError: if the file does not have this matrix.
        """
        if encoder not in self.llm_similarity:
            raise GridError(
                f"the similarity of the LLMs fed by {encoder!r} was asked for; the file has "
                f"{', '.join(sorted(self.llm_similarity)) or 'none'}"
            )
        return self.llm_similarity[encoder]

    def warmup(self, candidate: Candidate) -> float:
        """Device-seconds of a pair's warm-up, before the LLMs are compared.

        Raises:
            GridError: if the file does not have this cost.
        """
        key = f"{candidate.vision_encoder}|{candidate.llm}"
        if key not in self.warmup_seconds:
            raise GridError(f"warmup_seconds has no {key!r}, whose cost was asked for")
        return self.warmup_seconds[key]


def read_grid(path: Path) -> Grid:
    """Read and check a grid file.

    Args:
        path: JSON file in the format of `Grid`.

    Raises:
        NoGridError: if the file is not valid JSON, or none with curves.
        GridError: if the file is missing, or breaks the format.
    """
    shown = str(path) if len(str(path)) <= _SHOWN else f"{str(path)[:_SHOWN]}..."
    named = f"grid file {shown!r}"
    content: Any = None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or "curves" not in content:
            raise NoGridError(f"{shown!r} is no grid file: it has no `curves`")
        return Grid.model_validate(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GridError(f"{named} does not exist") from error
    except IsADirectoryError as error:
        raise GridError(f"{named} is a folder; it must be a JSON file") from error
    except OSError as error:
        raise GridError(f"{named} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise GridError(f"{named}: {_sentence(error, content)}") from error
    except ValueError as error:
        raise NoGridError(f"{named} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise GridError(f"{named} is nested too deeply") from error


def read_grids(paths: Sequence[Path]) -> tuple[list[Grid], list[str]]:
    """Read the grid files among some files.

    Args:
        paths: files, at least one.

    Returns:
        The grids, and for each file that holds something else, a sentence that names it.

    Raises:
        GridError: if a file is missing or breaks the format, or no file holds a grid.
    """
    grids, others = [], []
    for path in paths:
        try:
            grids.append(read_grid(path))
        except NoGridError as error:
            if len(paths) == 1:
                raise
            others.append(str(error))
    if not grids:
        raise GridError(f"none of the {len(paths)} files is a grid file; first: {others[0]}")
    return grids, others


def _sentence(error: ValidationError, content: Any) -> str:
    """The first problem of a file, with the pair whose curve has it."""
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    location = problem["loc"]
    key = ".".join(str(part) for part in location) or "the file"
    if len(location) > 2 and location[0] == "curves":
        curve = content["curves"][location[1]]
        key += f" ({curve.get('encoder')} + {curve.get('llm')})"
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


def _unknown(name: str, kind: str, names: tuple[str, ...], where: str) -> list[str]:
    if name in names:
        return []
    return [f"{where} names the {kind} {name!r}; the file lists {', '.join(names)}"]


def _matrix_problems(grid: Grid) -> list[str]:
    named: dict[str, tuple[Matrix, int]] = {}
    if grid.vision_similarity is not None:
        named["vision_similarity"] = (grid.vision_similarity, len(grid.encoders))
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
    for key in (*_MEASURED, *_LIKELIHOODS, *_NOTES):
        values = getattr(curve, key)
        if values is not None and len(values) != count:
            return [f"{name} has {count} samples and {len(values)} {key}; they must be as many"]
    if any(later <= earlier for earlier, later in pairwise(curve.samples)):
        return [f"{name} has the samples {list(curve.samples)}; they must ascend"]
    if curve.samples[-1] != grid.full_samples:
        return [
            f"{name} ends at {curve.samples[-1]} samples; it must end at full_samples, "
            f"{grid.full_samples}; {_FILL}"
        ]
    if any(later < earlier for earlier, later in pairwise(curve.train_seconds)):
        return [f"{name} has train_seconds that fall; they accumulate from the start"]
    return []


def _coverage_problems(grid: Grid) -> list[str]:
    seen = [curve.candidate for curve in grid.curves]
    problems = [f"{c} has two curves; one is allowed" for c in set(seen) if seen.count(c) > 1]
    without = [c for c in grid.candidates if c not in seen]
    problems += [
        f"{c} has no curve, like {len(without) - 1} others of the {len(grid.candidates)} pairs; "
        f"every pair needs one; {_FILL}"
        for c in without
    ]
    every = sorted({samples for curve in grid.curves for samples in curve.samples})
    for curve in grid.curves:
        missing = [samples for samples in every if samples not in curve.samples]
        if missing:
            problems.append(
                f"the curve of {curve.candidate} has no score at {missing[0]} samples, where "
                f"other curves have one; all must have the same rungs; {_FILL}"
            )
    return problems
