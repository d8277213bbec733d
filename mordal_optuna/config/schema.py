"""The study file: one frozen, typed schema. Every option of the product lives here, once.

Relative paths, in the file and on the command line, are relative to the current directory, as in
every `transformers` or `lmms-eval` command. A location that is an existing folder is local;
anything else is a hub id.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

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


class Section(BaseModel):
    """Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(Section):
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


class PoolSettings(Section):
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


class ZooSettings(Section):
    """An embedded pool to build before the study.

    Attributes:
        recipe: which of the pools this package can pretrain.
        folder: where its models, alignment set and tasks are put.
        workers: processes that pretrain at the same time; 0 works in this process.
    """

    recipe: Literal["quickstart", "tiny"]
    folder: Path
    workers: NonNegative = 2


class LoraSettings(Section):
    """LoRA on every linear layer of the LLM.

    Attributes:
        rank: rank of the update.
        alpha: scale numerator; the update is scaled by alpha / rank.
        dropout: dropout on the adapter's input, 0..1.
    """

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class DatasetSettings(Section):
    """Alignment data as a `datasets` dataset, such as TRL's users have.

    Attributes:
        path: a local folder or file (Parquet, JSON, `save_to_disk`), or a hub id.
        name: the dataset's configuration.
        split: which of its splits.
        revision: on the hub.
        streaming: read it in its own order, without storing it first; `samples` must be given.
        messages: column of turns, each with `role` and `content`.
        images: column of an image or a list of images; None for text alone.
    """

    path: Annotated[str, Field(min_length=1)]
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = False
    messages: str = "messages"
    images: str | None = "images"


class AlignmentSettings(Section):
    """How a candidate is aligned.

    Attributes:
        conversations: JSON file in LLaVA's conversation format.
        images: folder its image names are relative to.
        dataset: alignment data of another form, instead of `conversations` and `images`.
        skip_broken_images: share of samples, 0..1, that may be left out because an image is
            missing or cannot be decoded; 0 refuses any.
        samples: D, the size of one full alignment; None takes all there are, in whole batches.
        batch_size: samples per optimiser step over all processes.
        learning_rate: peak rate of AdamW.
        warmup_samples: samples over which the rate rises linearly from 0.
        schedule: what follows the warm-up, and what a rung's score is of. `constant`: a constant
            rate, the running weights. `ema`: a constant rate, a running average of the weights.
            `cooldown`: a constant rate on the trunk; for each rung a branch whose rate falls to 0
            over the last samples before it. `linear`: a rate that falls to 0 over all D samples,
            as LLaVA is trained.
        average_width: of `ema`, the standard deviation of the averaged samples' positions, as a
            share of all samples so far.
        cooldown: of `cooldown`, the branch's length as a share of the rung.
        weight_decay: of AdamW.
        max_gradient_norm: gradients are clipped to this norm.
        lora: the adapter on the LLM; None trains the projector alone.
        precision: dtype of the forward pass and the frozen weights.
        max_length: longest sequence in tokens, image tokens included.
        too_long: what happens to a longer one: `refuse` the data, or `cut` its end, as LLaVA does,
            as long as an answer is left.
        micro_batch_size: samples per forward pass of one process; halved when memory runs out.
        batching: `grouped` pads samples of like length; `packed` joins a micro-batch to one row
            without padding, best with flash attention, where the LLM's architecture can (OPT's
            cannot and is padded).
        attention: how the LLM computes attention; `auto` leaves it to transformers.
        gradient_checkpointing: recompute activations instead of keeping them.
    """

    # How fast and where, not what: these shape no result but for rounding.
    SPEED: ClassVar = frozenset(
        {"micro_batch_size", "batching", "attention", "gradient_checkpointing"}
    )

    conversations: Path | None = None
    images: Path | None = None
    dataset: DatasetSettings | None = None
    skip_broken_images: Annotated[float, Field(ge=0, lt=1)] = 0.0
    samples: Positive | None = None
    batch_size: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    warmup_samples: NonNegative = 2048
    schedule: Literal["constant", "ema", "cooldown", "linear"] = "constant"
    average_width: Annotated[float, Field(gt=0, lt=0.28)] = 0.1
    cooldown: Ratio = 0.2
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    lora: LoraSettings | None = LoraSettings()
    precision: Literal["fp32", "bf16"] = "bf16"
    max_length: Positive = 2048
    too_long: Literal["refuse", "cut"] = "refuse"
    micro_batch_size: Positive = 8
    batching: Literal["grouped", "packed"] = "grouped"
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> AlignmentSettings:
        if (self.dataset is None) == (self.conversations is None):
            msg = "conversations: give either `conversations` (with `images`) or `dataset`"
            raise ValueError(msg)
        if self.dataset is None and self.images is None:
            msg = "images: missing; `conversations` name images relative to this folder"
            raise ValueError(msg)
        if self.dataset and self.dataset.streaming and self.samples is None:
            msg = "samples: missing; a stream has no known size, so it must be given"
            raise ValueError(msg)
        if self.dataset and self.dataset.streaming and self.skip_broken_images:
            msg = (
                f"skip_broken_images: {self.skip_broken_images} cannot be obeyed for a stream, "
                "whose images are seen only while training; 0 is allowed"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _whole_batches(self) -> AlignmentSettings:
        if self.samples is not None and self.samples % self.batch_size:
            msg = (
                f"samples: {self.samples} is not a whole number of batches of {self.batch_size}; "
                f"{self.samples // self.batch_size * self.batch_size} is"
            )
            raise ValueError(msg)
        return self


class TaskSettings(Section):
    """An lmms-eval task to score on.

    Attributes:
        name: its lmms-eval name.
        data: local folder with the task's data; None takes what the task's YAML names.
        revision: of the data on the hub.
        documents: score on a fixed random subset of this many documents; None scores all.
        batch_size: documents generated for at once.
    """

    name: Name
    data: Path | None = None
    revision: str | None = None
    documents: Positive | None = None
    batch_size: Positive = 16


class RepresentationSettings(Section):
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


class SearchSettings(Section):
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


class CheckpointSettings(Section):
    """Where trained parts are kept, and how many of them.

    Attributes:
        folder: a local folder, or any fsspec address such as `s3://bucket/mordal`; None is
            `checkpoints` in the work folder.
        keep: of each candidate, `all` rungs or the `latest` two.
    """

    folder: str | None = None
    keep: Literal["all", "latest"] = "all"


class RuntimeSettings(Section):
    """The machine.

    Attributes:
        device: torch device; `auto` takes the accelerator where there is one.
        threads: CPU threads of torch; more than the free cores slows small models down.
        data_threads: threads that decode images beside the training.
        feature_cache_gb: disk space for the encoders' features of the alignment set, which all
            LLMs share, in 10^9 bytes; the first samples are kept. 0 computes them every time.
        trackers: Accelerate's experiment trackers, such as `tensorboard` or `wandb`.
    """

    device: str = "auto"
    threads: Positive = 1
    data_threads: Positive = 2
    feature_cache_gb: Annotated[float, Field(ge=0)] = 10.0
    trackers: tuple[Name, ...] = ()


class StudySettings(Section):
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
        checkpoints: where trained parts are kept; not part of what identifies a study.
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
    checkpoints: CheckpointSettings = CheckpointSettings()
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
        exclude: dict[str, Any] = dict.fromkeys(
            ("runtime", "checkpoints", "workdir", "storage", "zoo"), True
        )
        exclude["alignment"] = set(AlignmentSettings.SPEED)
        return self.model_dump(mode="json", exclude=exclude)

    def checkpoint_folder(self) -> str:
        """Where trained parts are kept, with the default filled in."""
        return self.checkpoints.folder or str(self.workdir / "checkpoints")
