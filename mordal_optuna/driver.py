"""From a study file to a finished study; the only module that joins `study` and `workbench`.

Stages: embedded pool (if the study file has one), checks, comparison of the models, search,
further scores. Results of a stage are kept in the storage or on disk, so an interrupted study
continues from them, and a finished study is read without loading torch.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock, Timeout

from mordal_optuna.config import StudySettings
from mordal_optuna.errors import (
    BusyError,
    ConfigError,
    InputsChangedError,
    SearchError,
)
from mordal_optuna.processes.launch import launched_world_size
from mordal_optuna.search.attributes import (
    FULL_SAMPLES,
    FURTHER_SCORES,
    IDENTITY,
    REPRESENTATION,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.methods.comparing import compares_models
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.failures import clear_failures
from mordal_optuna.study.growing import check_growth, compared_before, extend
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.opening import opening
from mordal_optuna.study.ownership import LEASE_SECONDS, alone_on
from mordal_optuna.study.result import (
    Representation,
    StudyResult,
    read_result,
    store_representation,
    stored_representation,
)
from mordal_optuna.study.resuming import begin, resumed_settings, with_advice, with_template_date
from mordal_optuna.study.task_results import mean_of
from mordal_optuna.study.task_studies import TaskStudies
from mordal_optuna.study.warnings import store_facts, warnings_before_training
from mordal_optuna.study.worker import Worker
from mordal_optuna.workbench.commits import pinned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.workbench.workbench import Workbench


def run_study(settings: StudySettings, progress: Progress) -> StudyResult:
    """Run a study to its end, or continue it; only read the result if it is finished.

    Args:
        settings: the study file's settings.
        progress: receives progress updates.

    Returns:
        The result: winner, ranking, costs and scores on further tasks.

    Raises:
        ConfigError: if the study file asks for something that is not available here.
        StudyMismatchError: if a study of this name exists with another configuration.
        InputsChangedError: if data, a task or a model has changed since the study began.
        BusyError: if another process works in the same folder, or on the same study.
        MordalError: if a model, the data or a task cannot be used.
    """
    settings.workdir.mkdir(parents=True, exist_ok=True)
    with alone_in(settings.workdir):
        study = open_study(settings)
        if not is_finished(study, settings):
            with alone_on(settings.storage_url(), settings.study):
                _work(study, settings, progress)
        elif launched_world_size() > 1:
            from mordal_optuna.workbench.following import end_launch

            end_launch(settings.runtime.device)
        return stored_result(study, settings)


def follow_study(settings: StudySettings) -> None:
    """Ranks above 0: take part in the training and scoring of a launch until rank 0 is done.

    Args:
        settings: the same study file's settings as on rank 0.

    Raises:
        MordalError: if the workbench cannot be opened.
    """
    from mordal_optuna.workbench.following import follow_launch

    follow_launch(settings.runtime.device)


def retry_failed(settings: StudySettings, names: Sequence[str] = ()) -> dict[Candidate, str]:
    """Clear the failures of candidates, so that the next run tries them again.

    A study that had ended is no longer finished afterwards.

    Args:
        settings: the study file's settings.
        names: candidates to clear, each as `ENCODER + LLM`; empty clears all that failed.

    Returns:
        The reason of the last failure, by candidate that was cleared.

    Raises:
        ConfigError: if a name is not a candidate of the pool.
        SearchError: if there is no failure to clear.
    """
    chosen = named_candidates(settings, names)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    return clear_failures(open_study(settings), chosen)


def named_candidates(settings: StudySettings, names: Sequence[str]) -> list[Candidate]:
    """The candidates that `--candidate` names.

    Args:
        settings: the study file's settings.
        names: names of candidates, each as `ENCODER + LLM`.

    Returns:
        The candidates, in the order of the names.

    Raises:
        ConfigError: if a name is not a candidate of the pool.
    """
    candidates = {str(candidate): candidate for candidate in settings.models().candidates}
    unknown = [name for name in names if name not in candidates]
    if unknown:
        raise ConfigError(
            [
                f"--candidate: got {name!r}; it must be ENCODER + LLM of the pool, such as "
                f"{next(iter(candidates))!r}"
                for name in unknown
            ]
        )
    return [candidates[name] for name in names]


def open_study(settings: StudySettings) -> Study:
    """Open the Optuna study; create it if it does not exist.

    Args:
        settings: the study file's settings.

    Raises:
        ConfigError: if the database or the study to extend cannot be used; hides the password.
        StudyMismatchError: if the study has begun with another configuration.
    """
    with opening(settings.storage_url(), key=settings.storage_key):
        storage = study_storage(settings.storage_url())
        check_growth(storage, settings)
        study = optuna.create_study(
            study_name=settings.study,
            storage=storage,
            direction="maximize",
            load_if_exists=True,
        )
        resumed_settings(study, settings)
    return study


def is_finished(study: Study, settings: StudySettings) -> bool:
    """Whether the search has ended and the further tasks are scored.

    Args:
        study: the Optuna study.
        settings: the study file's settings.
    """
    scored = study.user_attrs.get(FURTHER_SCORES) is not None
    return has_stopped(study) and (scored or not settings.also_score)


def stored_result(study: Study, settings: StudySettings) -> StudyResult:
    """Read the result from the storage, final or so far.

    Args:
        study: the Optuna study.
        settings: the study file's settings.

    Raises:
        SearchError: if no candidate has a score yet.
    """
    settings = resumed_settings(study, settings)
    plan = study_plan(settings, study.user_attrs[FULL_SAMPLES], stored_representation(study))
    weights = settings.task_weights
    task = mean_of(weights) if weights else settings.targets[0].name
    return read_result(study, plan, method=settings.search.method, task=task, tasks=weights)


def load_study(settings: StudySettings) -> StudyResult:
    """Read the result of a study so far; trains nothing and loads no torch.

    Args:
        settings: the study file's settings.

    Returns:
        The result; final if the search has ended.

    Raises:
        ConfigError: if the database cannot be used; the message hides the password.
        SearchError: if the study does not exist, or has no score yet.
    """
    with opening(settings.storage_url(), key=settings.storage_key):
        storage = study_storage(settings.storage_url())
        names = optuna.get_all_study_names(storage)
        study = (
            optuna.load_study(study_name=settings.study, storage=storage)
            if settings.study in names
            else None
        )
    if study is None or FULL_SAMPLES not in study.user_attrs:
        raise SearchError(f"study {settings.study!r} has no score yet; run it first")
    return stored_result(study, settings)


def study_plan(
    settings: StudySettings, full_samples: int, representation: Representation | None
) -> Plan:
    """The search plan that a study file describes.

    Args:
        settings: the study file's settings.
        full_samples: D, the number of samples of one full alignment.
        representation: comparison of the models; None if the method does not use one.

    Raises:
        ConfigError: if the ratios of the study file give too few rungs.
    """
    pool = settings.models()
    tree = (
        representation.tree
        if representation
        else ClusterTree.flat(pool.encoder_names, pool.llm_names)
    )
    try:
        return build_plan(
            settings.search,
            tree,
            full_samples,
            batch_size=settings.alignment.batch_size,
            seed=settings.seed,
            spent_seconds=sum(representation.seconds.values()) if representation else 0.0,
            tasks=settings.task_weights,
        )
    except SearchError as error:
        raise ConfigError([f"search: {error}"]) from error


def _work(study: Study, settings: StudySettings, progress: Progress) -> None:
    if settings.zoo:
        _build_zoo(settings, progress)
    settings = pinned(study, with_template_date(study, resumed_settings(study, settings)))
    claims = _open_claims(study, settings)
    bench = open_bench(settings, progress, claims)
    try:
        _stages(study, bench, claims, progress)
    except InputsChangedError as error:
        advised = with_advice(error, study, settings, bench.rungs)
        bench.stop_followers(advised)
        raise advised from error
    except BaseException as error:
        bench.stop_followers(error)
        raise
    bench.stop_followers()


def open_bench(
    settings: StudySettings, progress: Progress, claims: ClaimStore | None = None
) -> Workbench:
    """Rank 0: open everything that training and scoring need, on all ranks of the launch.

    Args:
        settings: the study's settings, with the defaults that it began with.
        progress: receives progress updates.
        claims: claims under which this worker trains; None to train without claims.

    Raises:
        MordalError: if a model, the data or a task cannot be used.
    """
    # Loads torch, transformers and lmms-eval, which takes seconds: not needed before this point.
    progress.stage("loading torch, transformers and lmms-eval; checking models, data and tasks")
    from mordal_optuna.workbench.workbench import open_workbench

    return open_workbench(settings, progress, claims)


def _open_claims(study: Study, settings: StudySettings) -> ClaimStore:
    """The study's claims, with an identifier that no other study has.

    The study's name is not enough: if a study is deleted and created again, its trials start at 0,
    while checkpoints of the first one may still exist.
    """
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(IDENTITY, uuid.uuid4().hex)
    identity = study.user_attrs[IDENTITY]
    return ClaimStore(settings.storage_url(), settings.study, identity=identity)


def _stages(study: Study, bench: Workbench, claims: ClaimStore, progress: Progress) -> None:
    settings = bench.settings
    study_plan(settings, bench.full_samples, None)  # raises now if the rungs are impossible
    begin(study, settings, bench.inputs, progress)
    extend(study, settings, bench.inputs, progress)
    study.set_user_attr(FULL_SAMPLES, bench.full_samples)
    store_facts(study, bench.facts)
    for warning in warnings_before_training(bench.facts, bench.full_samples):
        progress.warn(warning)
    if compares_models(settings.search) and REPRESENTATION not in study.user_attrs:
        progress.stage("comparing models: features, warm-up, CKA, clusters")
        store_representation(study, bench.compare(compared_before(study, settings)))
    if not has_stopped(study):
        progress.stage("searching: align, score, extrapolate")
        _search(settings, bench, claims, progress)
    if settings.also_score:
        progress.stage("scoring the winner on further tasks")
        _score_further(study, settings, bench)


def _search(
    settings: StudySettings, bench: Workbench, claims: ClaimStore, progress: Progress
) -> None:
    storage = study_storage(settings.storage_url())
    study = optuna.load_study(study_name=settings.study, storage=storage)
    plan = study_plan(settings, bench.full_samples, stored_representation(study))
    study.sampler = CkaClusterSampler(plan, seed=settings.seed)
    study.pruner = LogLinearHalvingPruner(plan)
    objective = Objective(plan, bench.measure, claims=claims, progress=progress)
    tasks = None
    if settings.task_weights:
        url = settings.storage_url()
        tasks = TaskStudies(study, plan, settings.task_weights, storage=storage, address=url)
    # No other `mordal run` works on the study (see `alone_on`), but the user's workers may.
    Worker(
        study,
        plan,
        objective,
        claims,
        patience_seconds=LEASE_SECONDS,
        progress=progress,
        task_studies=tasks,
    ).run()


def _score_further(study: Study, settings: StudySettings, bench: Workbench) -> None:
    winner = stored_result(study, settings).winner
    scores: list[dict[str, Any]] = bench.score_further(winner.candidate, winner.samples)
    study.set_user_attr(FURTHER_SCORES, scores)


def has_stopped(study: Study) -> bool:
    """Whether the search has ended."""
    # None if failures were cleared after the end, since attributes cannot be deleted.
    return study.user_attrs.get(STOPPED_BECAUSE) is not None


def _build_zoo(settings: StudySettings, progress: Progress) -> None:
    from mordal_optuna.zoo.build import build, missing
    from mordal_optuna.zoo.quickstart import recipe_named

    assert settings.zoo is not None
    chosen = recipe_named(settings.zoo.recipe)
    made = [Path(part.path) for part in chosen.parts()]
    _check_zoo_models(
        settings,
        {path.name for path in made if path.parent.name == "encoders"},
        {path.name for path in made if path.parent.name == "llms"},
    )
    if missing(chosen, settings.zoo.folder):
        progress.stage("building the embedded pool: tiny models pretrained on this machine")
        build(chosen, settings.zoo.folder, progress, workers=settings.zoo.workers)


def _check_zoo_models(settings: StudySettings, encoders: set[str], llms: set[str]) -> None:
    assert settings.zoo is not None
    problems = []
    for kind, names, folder in (
        ("vision_encoders", encoders, settings.zoo.folder / "encoders"),
        ("llms", llms, settings.zoo.folder / "llms"),
    ):
        for model in getattr(settings.pool, kind):
            place = Path(model.location)
            if settings.zoo.folder in place.parents and (
                place.parent != folder or place.name not in names
            ):
                problems.append(
                    f"pool.{kind}.{model.name}.location: {model.location!r} is not made by the "
                    f"zoo recipe {settings.zoo.recipe!r}; it makes "
                    + ", ".join(repr(str(folder / name)) for name in sorted(names))
                )
    if problems:
        raise ConfigError(problems)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that run or export a study in it.

    Args:
        folder: existing folder.

    Raises:
        BusyError: if another process has locked it.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"in {str(folder)!r}", "wait for it to end, or give this study another workdir"
        ) from error
    try:
        yield
    finally:
        lock.release()
