"""The study file: one frozen, typed schema. Every option of the product lives here, once.

Relative paths, in the file and on the command line, are relative to the current directory, as in
every `transformers` or `lmms-eval` command. A location that is an existing folder is local;
anything else is a hub id.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mordal_optuna.errors import ConfigError
from mordal_optuna.pool import ModelSource, Pool

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Ratio = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]


def _threshold(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and -1 <= value <= 1):
        return value
    raise PydanticCustomError("threshold", "allowed are 'auto' and similarities from -1 to 1")


Threshold = Annotated[float | Literal["auto"], BeforeValidator(_threshold)]

Method = Literal["mordal", "mordal-faithful", "grid", "all-at-ratio", "cross", "random"]

# What `method: mordal-faithful` sets where the study file says nothing: the paper's settings.
FAITHFUL = {
    "vision_threshold": 0.7,
    "llm_threshold": 0.8,
    "first_ratio": 0.03,
    "max_ratio": 0.125,
    "eta": 2,
    "top_clusters": 3,
    "fit_points": 3,
    "max_fit_loss": 5e-5,
    "finalists": 0,
}
FAITHFUL_SIMILARITY = "cka-biased"

# "name" or "owner/name", as the hub allows; anything else can only be a folder.
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Section):
    """One model of the pool.

    Attributes:
        name: how the study, its plots and its reports call it.
        location: a local folder or a hub id.
        revision: commit, tag or branch on the hub.
        trust_remote_code: allow the model's own code to run.
    """

    name: Name
    location: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    trust_remote_code: bool = False

    def source(self) -> ModelSource:
        """The same as a plain value."""
        return ModelSource(self.name, self.location, self.revision, self.trust_remote_code)


class PoolSettings(_Section):
    """The vision encoders and the LLMs to choose from."""

    vision_encoders: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]
    llms: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_duplicates(self) -> PoolSettings:
        for key in ("vision_encoders", "llms"):
            models = getattr(self, key)
            names = [model.name for model in models]
            places = [(model.location, model.revision) for model in models]
            for number, model in enumerate(models):
                if names.index(model.name) < number or places.index(places[number]) < number:
                    msg = (
                        f"{key}: {model.name!r} at {model.location!r} appears twice; "
                        "each model is listed once, under one name"
                    )
                    raise ValueError(msg)
        return self


class ZooSettings(_Section):
    """An embedded pool to build before the study.

    Attributes:
        recipe: which of the pools this package can pretrain.
        folder: where its models, alignment set and tasks are put.
        workers: processes that pretrain at the same time; 0 works in this process.
    """

    recipe: Literal["quickstart", "tiny"]
    folder: Path
    workers: NonNegative = 2


class LoraSettings(_Section):
    """LoRA on every linear layer of the LLM.

    Attributes:
        rank: rank of the update.
        alpha: scale numerator; the update is scaled by alpha / rank.
        dropout: dropout on the adapter's input, 0..1.
    """

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class AlignmentSettings(_Section):
    """How a candidate is aligned.

    Attributes:
        conversations: JSON file in LLaVA's conversation format.
        images: folder its image names are relative to.
        samples: D, the size of one full alignment; None takes the whole file in whole batches.
        batch_size: samples per optimiser step over all processes.
        micro_batch_size: samples per forward pass of one process.
        learning_rate: peak rate of AdamW; constant after the warm-up.
        warmup_samples: samples over which the rate rises linearly from 0.
        weight_decay: of AdamW.
        max_gradient_norm: gradients are clipped to this norm.
        lora: the adapter on the LLM; None trains the projector alone.
        precision: dtype of the forward pass and the frozen weights.
        max_length: longest sequence in tokens, image tokens included.
    """

    conversations: Path
    images: Path
    samples: Positive | None = None
    batch_size: Positive = 128
    micro_batch_size: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    warmup_samples: NonNegative = 2048
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    lora: LoraSettings | None = LoraSettings()
    precision: Literal["fp32", "bf16"] = "bf16"
    max_length: Positive = 2048

    @model_validator(mode="after")
    def _whole_batches(self) -> AlignmentSettings:
        if self.samples is not None and self.samples % self.batch_size:
            msg = (
                f"samples: {self.samples} is not a whole number of batches of {self.batch_size}; "
                f"{self.samples // self.batch_size * self.batch_size} is"
            )
            raise ValueError(msg)
        return self


class TaskSettings(_Section):
    """An lmms-eval task to score on.

    Attributes:
        name: its lmms-eval name.
        data: local folder with the task's data; None takes what the task's YAML names.
        documents: score on a fixed random subset of this many documents; None scores all.
        batch_size: documents generated for at once.
    """

    name: Name
    data: Path | None = None
    documents: Positive | None = None
    batch_size: Positive = 16


class RepresentationSettings(_Section):
    """How models are compared before any is trained.

    Attributes:
        images: how many of the target task's images the models are compared on.
        similarity: `cka-debiased`; `cka-biased`, the paper's; `cka-minibatch`, debiased over
            minibatches of 256 images; or `mutual-knn`, shared nearest neighbours.
        batch_size: images encoded at once.
        warmup_samples: alignment samples that warm up the projector before LLMs are compared.
    """

    images: Annotated[int, Field(ge=4)] = 512
    similarity: Literal["cka-debiased", "cka-biased", "cka-minibatch", "mutual-knn"] = (
        "cka-debiased"
    )
    batch_size: Positive = 32
    warmup_samples: Positive = 1280


class SearchSettings(_Section):
    """How the pool is searched.

    Attributes:
        method: `mordal`; `mordal-faithful`, the paper's own settings; `grid`, every candidate
            fully; `all-at-ratio`, every candidate at `max_ratio`; `cross`, one row and one column
            of the grid, completed additively; `random`, candidates fully in random order.
        vision_threshold: similarity above which vision encoders share a cluster; `auto` chooses
            the cut with the clearest groups.
        llm_threshold: the same for LLMs, chosen for each vision cluster.
        linkage: how the distance between two clusters is measured.
        first_ratio: b, the smallest share of the alignment set that a candidate is scored at.
        max_ratio: R, the largest share before the finish.
        eta: factor between rungs, and how many clusters compete for one place.
        top_clusters: K, clusters that survive the halving.
        fit_points: p, rungs a curve is fitted to.
        max_fit_loss: delta, the paper's rule: a fit counts if its mean squared residual of ln
            error is below; None judges fits by the known noise and drops nobody.
        finalists: candidates trained on the full alignment set at the end; 0 trusts the curves.
        confidence: of all intervals, 0..1.
        device_hours: stop once this much device time is spent; None sets no limit.
    """

    method: Method = "mordal"
    vision_threshold: Threshold = "auto"
    llm_threshold: Threshold = "auto"
    linkage: Literal["average", "complete", "single"] = "average"
    first_ratio: Ratio = 0.03
    max_ratio: Ratio = 0.125
    eta: Annotated[int, Field(ge=2)] = 2
    top_clusters: Positive = 3
    fit_points: Annotated[int, Field(ge=2)] = 3
    max_fit_loss: Annotated[float, Field(gt=0)] | None = None
    finalists: NonNegative = 1
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    device_hours: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("method") == "mordal-faithful":
            return {**FAITHFUL, **given}
        return given

    @model_validator(mode="after")
    def _ratios_ascend(self) -> SearchSettings:
        if self.first_ratio > self.max_ratio:
            msg = f"first_ratio: {self.first_ratio} must not exceed max_ratio {self.max_ratio}"
            raise ValueError(msg)
        return self


class RuntimeSettings(_Section):
    """The machine.

    Attributes:
        device: torch device; `auto` takes the accelerator where there is one.
        threads: CPU threads of torch; more than the free cores slows small models down.
    """

    device: str = "auto"
    threads: Positive = 1


class StudySettings(_Section):
    """A whole study file.

    Attributes:
        study: name of the Optuna study.
        workdir: folder for checkpoints and the report.
        storage: SQLAlchemy address of the shared database; None is a SQLite file in `workdir`.
        seed: of the projector, the order of the alignment samples, and all subsets.
        pool: the models.
        alignment: the training recipe.
        task: the target task.
        also_score: further tasks the winner is scored on.
        task_folders: folders with the user's own lmms-eval task YAMLs, beside the shipped ones.
        representation: the comparison of models.
        search: the search.
        runtime: the machine; not part of what identifies a study.
        zoo: an embedded pool to build first.
    """

    study: Name
    workdir: Path
    storage: str | None = None
    seed: NonNegative = 0
    pool: PoolSettings
    alignment: AlignmentSettings
    task: TaskSettings
    also_score: tuple[TaskSettings, ...] = ()
    task_folders: tuple[Path, ...] = ()
    representation: RepresentationSettings = RepresentationSettings()
    search: SearchSettings = SearchSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    zoo: ZooSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        search = given.get("search") if isinstance(given, dict) else None
        if not isinstance(search, dict) or search.get("method") != "mordal-faithful":
            return given
        representation = given.get("representation") or {}
        if not isinstance(representation, dict):
            return given
        return {**given, "representation": {"similarity": FAITHFUL_SIMILARITY, **representation}}

    def models(self) -> Pool:
        """The pool as plain values."""
        return Pool(
            tuple(m.source() for m in self.pool.vision_encoders),
            tuple(m.source() for m in self.pool.llms),
        )

    def storage_url(self) -> str:
        """Address of the database, with the default filled in."""
        return self.storage or f"sqlite:///{(self.workdir / 'study.db').as_posix()}"

    def fingerprint(self) -> dict[str, Any]:
        """What makes two runs the same study: everything but the machine and the places on it."""
        return self.model_dump(mode="json", exclude={"runtime", "workdir", "storage", "zoo"})


def read_study(path: Path, *, method: str | None = None) -> StudySettings:
    """Read and check a study file.

    Args:
        path: a YAML file.
        method: search by this method instead of the file's, as a study of its own.

    Returns:
        The settings, every default filled in.

    Raises:
        ConfigError: with one sentence per problem: key, value, what is allowed.
    """
    if not path.is_file():
        raise ConfigError([f"study file {str(path)!r} does not exist"])
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ConfigError([f"study file {str(path)!r} is not valid YAML: {where}"]) from error
    if not isinstance(content, dict):
        raise ConfigError(
            [f"study file {str(path)!r} must hold a mapping of keys, such as `study:`"]
        )
    return parse_study(with_method(content, method) if method else content)


def with_method(content: dict[str, Any], method: str) -> dict[str, Any]:
    """A study file's content with another method, under a name of its own.

    Raises:
        ConfigError: if there is no such method.
    """
    if method not in get_args(Method):
        raise ConfigError([f"--method: got {method!r}; allowed are {', '.join(get_args(Method))}"])
    search = content.get("search") or {}
    if not isinstance(search, dict) or search.get("method", "mordal") == method:
        return content
    changed = {**content, "search": {**search, "method": method}}
    if isinstance(content.get("study"), str):
        changed["study"] = f"{content['study']}-{method}"
    return changed


def parse_study(content: dict[str, Any]) -> StudySettings:
    """Check a study given as a nested mapping.

    Raises:
        ConfigError: with one sentence per problem: key, value, what is allowed.
    """
    try:
        settings = StudySettings.model_validate(content)
    except ValidationError as error:
        # A misspelt key first: it is often why another one is missing.
        found = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
        raise ConfigError([_sentence(problem) for problem in found]) from error
    problems = _missing_folders(settings)
    if problems:
        raise ConfigError(problems)
    return settings


def differences(stored: dict[str, Any], given: dict[str, Any], prefix: str = "") -> list[str]:
    """One line per key whose value differs between two fingerprints."""
    lines = []
    for key in sorted(stored.keys() | given.keys()):
        old, new, name = stored.get(key), given.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{name}.")
        elif old != new:
            lines.append(f"{name}: stored {old!r}, given {new!r}")
    return lines


def _sentence(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "study file"
    value = problem["input"]
    if problem["type"] == "extra_forbidden":
        return (
            f"{key}: unknown key (value {value!r}); allowed here: {_allowed_keys(problem['loc'])}"
        )
    if problem["type"] == "missing":
        return f"{key}: missing; this key is required"
    if problem["type"] == "value_error":
        inner = str(problem["ctx"]["error"])
        return f"{key}.{inner}" if problem["loc"] else inner
    if problem["type"] == "too_short":
        return f"{key}: empty; at least one entry is required"
    message = problem["msg"]
    return f"{key}: got {value!r}; {message[0].lower()}{message[1:]}"


def _allowed_keys(location: tuple[int | str, ...]) -> str:
    section: Any = StudySettings
    for part in location[:-1]:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part].annotation)
    return ", ".join(sorted(section.model_fields))


def _section_of(annotation: Any) -> Any:
    """The section class inside an annotation such as `tuple[ModelSettings, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section_of(part) for part in getattr(annotation, "__args__", ()))
    return next((section for section in inner if section is not None), None)


def _missing_folders(settings: StudySettings) -> list[str]:
    """Places that can be neither found now nor made by the zoo, nor be hub ids."""
    made = settings.zoo.folder if settings.zoo else None
    problems = []
    for kind in ("vision_encoders", "llms"):
        for model in getattr(settings.pool, kind):
            place = Path(model.location)
            if not (place.is_dir() or _below(place, made) or _HUB_ID.match(model.location)):
                problems.append(
                    f"pool.{kind}.{model.name}.location: {model.location!r} is no existing folder "
                    "and no hub id such as 'owner/name'"
                )
    places: list[tuple[str, Path | None]] = [
        ("alignment.conversations", settings.alignment.conversations),
        ("alignment.images", settings.alignment.images),
        ("task.data", settings.task.data),
        *((f"also_score.{task.name}.data", task.data) for task in settings.also_score),
        *((f"task_folders.{n}", folder) for n, folder in enumerate(settings.task_folders)),
    ]
    for key, needed in places:
        if needed is not None and not needed.exists() and not _below(needed, made):
            problems.append(f"{key}: {str(needed)!r} does not exist; it must be an existing path")
    return problems


def _below(place: Path, folder: Path | None) -> bool:
    return folder is not None and folder.absolute() in place.absolute().parents
