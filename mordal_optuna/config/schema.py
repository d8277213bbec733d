"""The study file: one frozen, typed schema. Every option of the product lives in this package.

Relative paths, in the file and on the command line, are relative to the current directory, as in
every `transformers` or `lmms-eval` command. A location that is an existing folder is local;
anything else is a hub id.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mordal_optuna.config.alignment import AlignmentSettings
from mordal_optuna.config.base import Name, NonNegative, Positive, Ratio, Section
from mordal_optuna.pool import ModelSource, Pool


def _threshold(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (number and -1 <= value <= 1):
        return value
    raise PydanticCustomError("threshold", "allowed are 'auto' and similarities from -1 to 1")


Threshold = Annotated[float | Literal["auto"], BeforeValidator(_threshold)]

Method = Literal[
    "mordal",
    "mordal-faithful",
    "grid",
    "all-at-ratio",
    "cross",
    "random",
    "popular",
    "best-parts",
]

# What `method: mordal-faithful` sets where the study file says nothing: the paper's thresholds,
# halving and curves. `FAITHFUL_SIMILARITY` and `FAITHFUL_ALIGNMENT` belong to other sections. The
# paper leaves open the rank of LoRA, the linkage, how features are pooled and how many images are
# compared: these stay ours.
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
    "finish": "full",
}
# What the methods that share these settings with `mordal` set: everyone at 1/8, curves of three
# points, and the leader trained fully.
_OTHERS = {"max_ratio": 0.125, "fit_points": 3, "finalists": 1, "finish": "full"}
PRESETS: dict[str, dict[str, object]] = {
    "mordal-faithful": FAITHFUL,
    "all-at-ratio": _OTHERS,
    "cross": _OTHERS,
}
FAITHFUL_SIMILARITY = "cka-biased"
# The paper's minibatch, and its rate, which falls to 0 over all of D: it needs D to be fixed from
# the start, and a rung's score is that of weights whose rate has not fallen yet.
FAITHFUL_ALIGNMENT = {"learning_rate": 1e-4, "schedule": "linear", "batch_size": 4}


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


class EarlyDocuments(Section):
    """Fewer documents for the first rungs.

    Attributes:
        below: rungs at less than this share of the alignment set.
        documents: how many are scored there.
    """

    below: Ratio
    documents: Positive


class TaskSettings(Section):
    """An lmms-eval task to score on.

    Attributes:
        name: its lmms-eval name.
        data: local folder with the task's data; None takes what the task's YAML names.
        revision: of the data on the hub.
        documents: score on a fixed random subset of this many documents; None scores all.
        early_documents: score the first rungs on fewer: fixed random subsets that lie inside one
            another and spread over clusters, the same for all candidates. The first entry whose
            `below` lies above a rung counts. The search knows the larger noise.
        likelihood: measure the likelihood of the reference answers at every rung as well, a
            smoother sign of progress than the score; costs another reading of the questions.
        batch_size: documents generated for at once.
    """

    name: Name
    data: Path | None = None
    revision: str | None = None
    documents: Positive | None = None
    early_documents: tuple[EarlyDocuments, ...] = ()
    likelihood: bool = True
    batch_size: Positive = 16

    @model_validator(mode="after")
    def _grow(self) -> TaskSettings:
        for first, second in pairwise(self.early_documents):
            if second.below <= first.below or second.documents < first.documents:
                msg = (
                    f"early_documents: {second.documents} documents below {second.below} follow "
                    f"{first.documents} below {first.below}; both must grow"
                )
                raise ValueError(msg)
        if self.documents and any(e.documents > self.documents for e in self.early_documents):
            msg = (
                f"early_documents: more than the {self.documents} documents of the task were "
                "given; early rungs are scored on fewer"
            )
            raise ValueError(msg)
        return self

    def documents_at(self, samples: int, full_samples: int) -> int | None:
        """How many documents a rung is scored on; None for all that the task has.

        Args:
            samples: the rung.
            full_samples: D.
        """
        ratio = samples / full_samples
        early = next((e.documents for e in self.early_documents if ratio < e.below), None)
        return early or self.documents


class RepresentationSettings(Section):
    """How models are compared before any is trained.

    Attributes:
        images: how many of the target task's images the models are compared on.
        similarity: `cka-debiased`; `cka-biased`, the paper's; `cka-minibatch`, debiased over
            minibatches of 256 images; or `mutual-knn`, shared nearest neighbours.
        batch_size: images encoded at once.
        warmup_samples: alignment samples that warm up the projector before LLMs are compared;
            fewer by default where there are few samples, see `config/adaptation.py`.
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
        method: `mordal`; `mordal-faithful`, the paper's settings for this section and, where the
            study file says nothing of them, its similarity and training recipe: biased CKA, and a
            rate of 1e-4 that falls linearly over minibatches of 4; `grid`, every candidate fully;
            `all-at-ratio`, every candidate at `max_ratio`; `cross`, one row and one column of the
            grid, completed additively; `random`, candidates fully in random order; `popular`, one
            pair fully; `best-parts`, every encoder with the popular LLM and every LLM with the
            popular encoder fully, then the best two together.
        vision_threshold: similarity above which vision encoders share a cluster; `auto` chooses
            the cut with the clearest groups, by CKA at .7 or above.
        llm_threshold: the same for LLMs, chosen for each vision cluster.
        linkage: how the distance between two clusters is measured.
        first_ratio: b, the smallest share of the alignment set that a candidate is scored at.
        max_ratio: R, the largest share before the finish. Where neither ratio is set, both are
            larger on fewer than about 4,000 samples, see `config/adaptation.py`.
        eta: factor between rungs, and how many clusters compete for one place.
        top_clusters: K, clusters that survive the halving.
        fit_points: p, rungs a curve is fitted to.
        max_fit_loss: delta, the paper's rule: a fit counts if its mean squared residual of ln
            error is below; None judges fits by the known noise and drops nobody.
        finalists: candidates that are trained further at the end; 0 trusts the curves.
        finish: how: `race`, from rung to rung, the best 1/eta at each, until one is left; or
            `full`, on the full alignment set, those that cannot be told from the leader.
        train_winner: whether the winner of a race is trained on the full alignment set; and, while
            fewer than eta are, whoever is estimated above it then.
        curve: what curves are fitted to: the `error`; or the `likelihood` of the reference
            answers, which moves where scores still sit at chance, read off as an error by how the
            two went together in the pool.
        confidence: of all intervals, 0..1.
        device_hours: stop once this much device time is spent; None sets no limit.
        popular: encoder and LLM of the popular pair; None is the first of each in the pool.
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

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {**PRESETS.get(str(given.get("method")), {}), **given}
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> SearchSettings:
        if self.first_ratio > self.max_ratio:
            msg = f"first_ratio: {self.first_ratio} must not exceed max_ratio {self.max_ratio}"
            raise ValueError(msg)
        if self.curve == "likelihood" and (
            self.max_fit_loss is not None or self.method in ("cross", "best-parts")
        ):
            msg = (
                "curve: 'likelihood' cannot be had with max_fit_loss (the paper's rule) nor with "
                "the methods 'cross' and 'best-parts', which look at errors"
            )
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
        also_score: further tasks.
        also_score_at: who is scored on them: the `winner`, or every candidate at all its `rungs`,
            in one pass with the target task, for later studies to find in the database.
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
    also_score_at: Literal["winner", "rungs"] = "winner"
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
        papers: dict[str, dict[str, Any]] = {
            "representation": {"similarity": FAITHFUL_SIMILARITY},
            "alignment": FAITHFUL_ALIGNMENT,
        }
        sections = {key: given.get(key) or {} for key in papers}
        if not all(isinstance(section, dict) for section in sections.values()):
            return given
        return given | {key: {**papers[key], **section} for key, section in sections.items()}

    @model_validator(mode="after")
    def _tasks_fit(self) -> StudySettings:
        names = [task.name for task in (self.task, *self.also_score)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            msg = f"also_score: {twice!r} is named twice; each task is scored once"
            raise ValueError(msg)
        if self.search.curve == "likelihood" and not self.task.likelihood:
            msg = "search.curve: 'likelihood' needs `likelihood: true` for the target task"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _popular_is_in_the_pool(self) -> StudySettings:
        kinds = (self.pool.vision_encoders, self.pool.llms)
        for name, models in zip(self.search.popular or (), kinds, strict=False):
            if name not in (known := [m.name for m in models]):
                msg = f"search.popular: {name!r} is not in the pool; it has {', '.join(known)}"
                raise ValueError(msg)
        return self

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
