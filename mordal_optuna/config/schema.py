"""Schema of the study file: all options of a study, with their defaults.

Relative paths, in the file and on the command line, are relative to the current directory, as in
`transformers` and `lmms-eval` commands. A location that is an existing folder is local; any other
location is a hub id.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from datetime import date  # noqa: TC003 - as above
from pathlib import Path  # noqa: TC003 - as above
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from mordal_optuna.config.alignment import AlignmentSettings
from mordal_optuna.config.base import Name, NonNegative, Positive, Ratio, Section, Seed
from mordal_optuna.config.evaluation import EvaluationSettings
from mordal_optuna.config.models import PoolSettings  # noqa: TC001 - as above
from mordal_optuna.config.places import (
    CheckpointSettings,
    Command,
    RuntimeSettings,
    ZooSettings,
)
from mordal_optuna.config.storage import database_address
from mordal_optuna.config.tasks import TaskSettings, WeightedTask  # noqa: TC001 - as above
from mordal_optuna.pool import ImageAspect, Pool, with_system
from mordal_optuna.search.methods.catalogue import METHODS, method_defaults


def _threshold(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and -1 <= value <= 1):
        return value
    raise PydanticCustomError("threshold", "allowed are 'auto' and similarities from -1 to 1")


Threshold = Annotated[float | Literal["auto"], BeforeValidator(_threshold)]


def _method(value: Any) -> Any:
    if isinstance(value, str) and value in METHODS:
        return value
    *names, last = map(repr, METHODS)
    raise PydanticCustomError("method", f"Input should be {', '.join(names)} or {last}")


# Name of a search method, see `mordal_optuna.search.methods.catalogue`.
Method = Annotated[str, BeforeValidator(_method)]

# The paper's settings for the `search` section.
FAITHFUL = METHODS["mordal-faithful"].defaults["search"]


class RepresentationSettings(Section):
    """How models are compared before any candidate is trained.

    Attributes:
        images: number of the target task's images on which models are compared, at least 4. Of
            several target tasks, each gives an equal share.
        similarity: similarity measure. `cka-debiased`: unbiased estimator of CKA. `cka-biased`:
            the paper's estimator. `cka-minibatch`: unbiased, averaged over minibatches of 256
            images. `mutual-knn`: share of common nearest neighbours.
        batch_size: number of images encoded at once.
        warmup_samples: number of alignment samples that warm up the projector before LLMs are
            compared. The default is smaller on small alignment sets, see `config/adaptation.py`.
    """

    images: Annotated[int, Field(ge=4)] = 512
    similarity: Literal["cka-debiased", "cka-biased", "cka-minibatch", "mutual-knn"] = (
        "cka-debiased"
    )
    batch_size: Positive = 32
    warmup_samples: Positive = 1280


class StopSettings(Section):
    """When the method `joint` ends before its budget is spent.

    Attributes:
        expected_regret: the search ends once the expected score of the best pair exceeds that of
            the leader by at most this, 0 to 1; None never ends it.
        probability: the search ends once the leader is the best pair with at least this
            probability, 0 to 1; None never ends it.
    """

    expected_regret: Annotated[float, Field(ge=0, le=1)] | None = 0.005
    probability: Annotated[float, Field(ge=0, le=1)] | None = None


class SearchSettings(Section):
    """How the pool is searched.

    Attributes:
        method: name of the search method. `search/methods/catalogue.py` lists the methods, and the
            defaults that each changes in this and other sections.
        vision_threshold: similarity above which vision encoders share a cluster, -1 to 1; `auto`
            chooses the threshold that separates clusters most clearly, for CKA at least 0.7.
        llm_threshold: similarity above which LLMs share a cluster, -1 to 1; `auto` chooses a
            threshold for each vision cluster.
        linkage: distance between clusters in hierarchical clustering.
        first_ratio: b, share of the alignment set at the lowest rung, above 0 and at most 1.
        max_ratio: R, largest share of the alignment set before the finish, at most 1. If neither
            ratio is set, both are larger below about 4,000 samples, see `config/adaptation.py`.
        eta: factor between rungs, and number of clusters that compete for one place; at least 2.
        top_clusters: K, number of clusters that survive the halving.
        fit_points: p, number of rungs that a curve is fitted to, at least 2.
        max_fit_loss: delta in the paper's rule: a curve is used if the mean squared residual of
            ln(error) is below delta. None weighs curves by the known noise instead and excludes no
            candidate.
        finalists: number of candidates that are trained further at the end; 0 picks the winner by
            the curves.
        finish: how finalists are decided. `race`: the best 1/eta at each rung are promoted until
            one is left. `full`: candidates within noise of the best are trained on the full
            alignment set.
        train_winner: whether the winner of a race is trained on the full alignment set; also
            candidates that are then estimated above it, as long as fewer than eta are fully
            trained.
        curve: quantity that curves are fitted to. `error`: 1 minus the score. `likelihood`: the
            likelihood of the reference answers, which changes while scores are still at chance; it
            is converted to an error by the relation of both across the pool.
        confidence: confidence level of all intervals, between 0 and 1.
        device_hours: device hours after which the search stops; None for no limit.
        popular: names of the encoder and the LLM of the popular pair; None for the first of each
            in the pool.
        compare: models that are compared before any is trained. `all`: encoders by their features,
            LLMs through warmed-up projectors. `encoders`: encoders alone. `none`: no models.
            `auto`: what the method needs; `joint` compares LLMs only where that pays.
        ranker: how the whole pool is ranked. `joint`: by one model of all scores. `own`: pairs one
            by one, as the method itself compares them.
        start_pairs: k, pairs with each model of the larger side in the start of `joint`, at least
            1.
        start_ratio: share of the alignment set that pairs of the start are trained on, above 0 and
            at most 1; None chooses 1/8 to 1/32, so that the start costs about two full runs.
        attempts: number of failures after which a candidate is not tried again, at least 1. It
            does not affect the identity of the study.
        round_size: number of jobs that `joint` chooses at once, at least 1.
        round_lag: number of latest rounds whose scores a round of `joint` does not wait for, at
            least 0.
        score_tasks: on which of several tasks `joint` scores a rung. `all`: on all. `useful`: on
            those that are worth their cost; more may be scored later, at the newest checkpoint.
        stop: when `joint` ends before its budget is spent.
    """

    method: Method = "mordal"
    vision_threshold: Threshold = "auto"
    llm_threshold: Threshold = "auto"
    linkage: Literal["average", "complete", "single"] = "average"
    first_ratio: Ratio = 0.03
    max_ratio: Ratio = 0.0625
    eta: Annotated[int, Field(ge=2)] = 2
    top_clusters: Positive = 5
    fit_points: Annotated[int, Field(ge=2)] = 2
    max_fit_loss: Annotated[float, Field(gt=0)] | None = None
    finalists: NonNegative = 6
    finish: Literal["race", "full"] = "race"
    train_winner: bool = False
    curve: Literal["error", "likelihood"] = "error"
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    device_hours: Annotated[float, Field(gt=0)] | None = None
    popular: tuple[Name, Name] | None = None
    # Options that `joint` alone reads.
    OF_JOINT: ClassVar[tuple[str, ...]] = (
        *("start_pairs", "start_ratio", "round_size", "round_lag", "score_tasks", "stop"),
    )

    compare: Literal["auto", "all", "encoders", "none"] = "auto"
    attempts: Positive = 2
    ranker: Literal["joint", "own"] = "joint"
    start_pairs: Positive = 2
    start_ratio: Ratio | None = None
    round_size: Positive = 4
    round_lag: NonNegative = 1
    score_tasks: Literal["all", "useful"] = "all"
    stop: StopSettings = StopSettings()

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {**method_defaults(given.get("method"), "search"), **given}
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> SearchSettings:
        if self.first_ratio > self.max_ratio:
            msg = f"first_ratio: {self.first_ratio} must not exceed max_ratio {self.max_ratio}"
            raise ValueError(msg)
        if self.curve == "likelihood" and (
            self.max_fit_loss is not None or not METHODS[self.method].allows_likelihood
        ):
            excluded = [repr(name) for name, spec in METHODS.items() if not spec.allows_likelihood]
            msg = (
                "curve: 'likelihood' cannot be combined with max_fit_loss (the paper's rule) nor "
                f"with the methods {' and '.join(excluded)}, which compare errors"
            )
            raise ValueError(msg)
        return self


class StudySettings(Section):
    """A study file.

    Attributes:
        study: name of the Optuna study.
        extends: name of an earlier study in the same database whose scores are taken over, for a
            pool to which models were added, or from which some were removed; None to begin
            without any. Nothing else may differ. It does not affect the identity of the study.
        workdir: folder for checkpoints and reports.
        storage: SQLAlchemy address of the shared database; None for that of the environment
            variable MORDAL_STORAGE, or without one for a SQLite file in `workdir`.
        shared: folder or fsspec address, such as `s3://bucket/mordal`, of the files that workers
            share: the comparison of the models, and checkpoints unless they have a folder of
            their own; None for `workdir`. It does not affect the identity of the study.
        seed: random seed of projectors, the order of alignment samples, and document subsets.
        pool: vision encoders and LLMs.
        image_aspect: how images become squares, in training, scoring, comparison and export.
            `pad`: padded with the image processor's mean colour and resized, as in LLaVA-1.5, so
            that every candidate sees the whole image. `own`: by each checkpoint's own image
            processor, which may crop the image or change its proportions.
        template_date: date that chat templates take for today; None for the day on which the
            study began, or for the date of the study that it extends.
        alignment: training recipe and alignment data.
        task: target task, whose score is maximised; None if there are several.
        tasks: several target tasks, whose weighted mean score is maximised, in place of `task`.
            Every candidate is scored on all of them at each of its rungs, in one pass.
        also_score: further tasks to score on, which do not affect the search.
        also_score_at: candidates that are scored on the further tasks. `winner`: the winner only.
            `rungs`: every candidate at each of its rungs, in one pass with the target task; later
            studies reuse these scores from the database.
        task_folders: folders with lmms-eval task YAMLs, searched in addition to the shipped ones.
        evaluation: what generates the answers that are scored.
        representation: comparison of models.
        search: search method and its options.
        checkpoints: storage of checkpoints; does not affect the identity of the study.
        runtime: use of the machine; does not affect the identity of the study.
        zoo: embedded pool to build first; does not affect the identity of the study.
        on_finish: command that is run once when the study has ended or failed, by the worker that
            writes the report: a list of arguments, or a string for the shell; None for none. It
            does not affect the identity of the study. `docs/report.md` lists its variables.
    """

    study: Name
    extends: Name | None = None
    workdir: Path
    storage: str | None = None
    shared: str | None = None
    seed: Seed = 0
    pool: PoolSettings
    image_aspect: ImageAspect = "pad"
    template_date: date | None = None
    alignment: AlignmentSettings
    tasks: tuple[WeightedTask, ...] = ()
    task: Annotated[TaskSettings | None, Field(validate_default=True)] = None
    also_score: tuple[TaskSettings, ...] = ()
    also_score_at: Literal["winner", "rungs"] = "winner"
    task_folders: tuple[Path, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()
    representation: RepresentationSettings = RepresentationSettings()
    search: SearchSettings = SearchSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    zoo: ZooSettings | None = None
    on_finish: Command | None = None

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        search = given.get("search") if isinstance(given, dict) else None
        if not isinstance(search, dict):
            return given
        defaults = {key: method_defaults(search.get("method"), key) for key in cls.model_fields}
        sections = {
            key: given.get(key) or {} for key in defaults if defaults[key] and key != "search"
        }
        if not all(isinstance(section, dict) for section in sections.values()):
            return given
        return given | {key: {**defaults[key], **section} for key, section in sections.items()}

    @field_validator("task")
    @classmethod
    def _is_given(cls, task: TaskSettings | None, others: ValidationInfo) -> TaskSettings | None:
        # Invalid `tasks` are absent here, and reported by themselves.
        if task is None and others.data.get("tasks") == ():
            raise PydanticKnownError("missing")
        return task

    @model_validator(mode="after")
    def _merged_in_bf16(self) -> StudySettings:
        if self.evaluation.merged and self.alignment.precision != "bf16":
            found = self.alignment.precision
            msg = f"evaluation.merged: needs alignment.precision bf16, got {found}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _tasks_fit(self) -> StudySettings:
        if self.task and self.tasks:
            msg = "tasks: given beside `task`; a study file has one of the two"
            raise ValueError(msg)
        names = [task.name for task in self.scored_tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            key = "also_score" if twice in [task.name for task in self.also_score] else "tasks"
            msg = f"{key}: {twice!r} is named twice; each task is scored once"
            raise ValueError(msg)
        if self.search.curve == "likelihood" and not all(t.likelihood for t in self.targets):
            msg = "search.curve: 'likelihood' needs `likelihood: true` for every target task"
            raise ValueError(msg)
        measured = [task.name for task in self.scored_tasks if task.likelihood]
        if measured and self.evaluation.engine != "live":
            msg = (
                f"evaluation.engine: {self.evaluation.engine!r} measures no likelihoods; set "
                f"`likelihood: false` for {', '.join(measured)}"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _extends_another(self) -> StudySettings:
        if self.extends == self.study:
            msg = (
                f"extends: {self.extends!r} is the study's own name; a study keeps its pool, so "
                "give the grown one a name of its own, such as by `--as NAME`"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _popular_is_in_the_pool(self) -> StudySettings:
        kinds = (self.pool.vision_encoders, self.pool.llms)
        for name, models in zip(self.search.popular or (), kinds, strict=False):
            names = [model.name for model in models]
            if name not in names:
                msg = f"search.popular: {name!r} is not in the pool; it has {', '.join(names)}"
                raise ValueError(msg)
        return self

    def models(self) -> Pool:
        """The pool as a plain value."""
        return Pool(
            tuple(m.encoder(self.image_aspect) for m in self.pool.vision_encoders),
            tuple(
                with_system(m.source(self.template_date), self.alignment.system_prompt)
                for m in self.pool.llms
            ),
        )

    def at_commits(self, commits: Mapping[str, str]) -> StudySettings:
        """The settings with models on the hub at fixed commits.

        Args:
            commits: commit by part, `vision_encoder:NAME` or `llm:NAME`.
        """
        parts = (("vision_encoders", "vision_encoder"), ("llms", "llm"))
        pool = {
            key: tuple(m.at_commit(commits.get(f"{p}:{m.name}")) for m in getattr(self.pool, key))
            for key, p in parts
        }
        return self.model_copy(update={"pool": self.pool.model_copy(update=pool)})

    @property
    def targets(self) -> tuple[TaskSettings, ...]:
        """The target tasks: those of `tasks`, or `task` alone."""
        return (self.task,) if self.task else self.tasks

    @property
    def scored_tasks(self) -> tuple[TaskSettings, ...]:
        """The target tasks, then the further tasks."""
        return (*self.targets, *self.also_score)

    @property
    def tasks_per_rung(self) -> int:
        """Number of tasks that every rung is scored on."""
        further = len(self.also_score) if self.also_score_at == "rungs" else 0
        return len(self.targets) + further

    @property
    def task_weights(self) -> dict[str, float]:
        """Weight of each target task by its name; empty if there is only one target task."""
        return {t.name: t.weight for t in self.tasks} if len(self.tasks) > 1 else {}

    def storage_url(self) -> str:
        """SQLAlchemy address of the database; the default is filled in."""
        return database_address(self.storage, self.workdir)[0]

    @property
    def storage_key(self) -> str:
        """Key or environment variable that gave the database's address, for messages."""
        return database_address(self.storage, self.workdir)[1]

    def fingerprint(self) -> dict[str, Any]:
        """The settings that identify a study: all except the machine and locations of results."""
        exclude: dict[str, Any] = dict.fromkeys(
            ("runtime", "checkpoints", "workdir", "storage", "shared", "zoo", "extends"), True
        )
        exclude["on_finish"] = True
        exclude["template_date"] = True  # stored by itself, see `study/resuming.py`
        # Studies of versions without the method `joint` stored no options of it.
        excluded = set() if self.search.method == "joint" else set(SearchSettings.OF_JOINT)
        if self.search.compare == "auto":
            excluded.add("compare")
        if self.search.score_tasks == "all":  # the only choice in older versions
            excluded.add("score_tasks")
        # A ranking may be made in several ways; how often a failure is retried changes no score.
        exclude["search"] = {*excluded, "ranker", "attempts"}
        # Studies of versions without `tasks` stored no such key.
        exclude["task" if self.tasks else "tasks"] = True
        # Nor the two options below, where all pixels were those of the checkpoints' processors.
        if self.image_aspect == "own":
            exclude["image_aspect"] = True
        encoders = enumerate(self.pool.vision_encoders)
        plain = {n: {"image_size"} for n, model in encoders if model.image_size is None}
        exclude["pool"] = {"vision_encoders": plain}
        exclude["evaluation"] = True  # as in studies of versions without engines
        stored = self.model_dump(mode="json", exclude=exclude)
        if self.evaluation.is_identity:
            stored["evaluation"] = self.evaluation.stored()
        stored["pool"]["llms"] = [llm.fingerprint() for llm in self.pool.llms]
        left_out = {*AlignmentSettings.SPEED, "skip_unusable"}  # which decides no number
        if self.alignment.recipe == method_defaults(self.search.method, "alignment").get("recipe"):
            left_out.add("recipe")  # the method's name says it
        stored["alignment"] = self.alignment.stored(left_out)
        return stored

    def checkpoint_folder(self) -> str:
        """Folder or address of the checkpoints; the default is filled in."""
        return self.checkpoints.folder or f"{self.shared_folder()}/checkpoints"

    def shared_folder(self) -> str:
        """Folder or address of what workers share; the default is filled in."""
        return self.shared.rstrip("/") if self.shared else str(self.workdir)

    def with_scratch(self, folder: Path) -> StudySettings:
        """The settings of a worker whose own files are elsewhere; the shared ones stay.

        Args:
            folder: folder of the files that no other worker uses.
        """
        kept = {"storage": self.storage_url(), "shared": self.shared_folder()}
        return self.model_copy(update={**kept, "workdir": folder})
