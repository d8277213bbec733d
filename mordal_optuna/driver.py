"""From a study file to a finished study; the only module that joins `study` and `workbench`.

Stages: embedded pool (if the study file has one), checks, comparison of the models, search,
further scores. Results of a stage are kept in the storage or on disk, so an interrupted study
continues from them, and a finished study is read without loading torch.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import optuna

from mordal_optuna.alignment.tracking import check_trackers
from mordal_optuna.errors import ConfigError, InputsChangedError
from mordal_optuna.files.folders import make_folder
from mordal_optuna.files.locking import alone_in
from mordal_optuna.models.hub import check_local
from mordal_optuna.processes.launch import launched_world_size
from mordal_optuna.search.attributes import (
    FULL_SAMPLES,
    FURTHER_SCORES,
    IDENTITY,
    REPRESENTATION,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.methods.comparing import compares_models
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.failures import clear_failures
from mordal_optuna.study.growing import check_growth, compared_before, extend
from mordal_optuna.study.loading import displayed, load_begun
from mordal_optuna.study.membership import Alone
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.opening import opening
from mordal_optuna.study.origin import present_versions, store_origin
from mordal_optuna.study.ownership import LEASE_SECONDS, alone_on
from mordal_optuna.study.planning import study_plan
from mordal_optuna.study.presence import Presence
from mordal_optuna.study.result import (
    StudyResult,
    read_result,
    store_representation,
    stored_representation,
)
from mordal_optuna.study.resuming import (
    begin,
    forget_refused_start,
    has_spent,
    resumed_settings,
    with_advice,
    with_template_date,
)
from mordal_optuna.study.task_studies import TaskStudies
from mordal_optuna.study.tracked import tracked_standing
from mordal_optuna.study.warnings import store_facts, warnings_before_training
from mordal_optuna.study.worker import Worker
from mordal_optuna.workbench.commits import pinned
from mordal_optuna.workbench.embedded import build_zoo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.processes.stopping import StopRequest
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.curves import Measurement
    from mordal_optuna.search.history import History
    from mordal_optuna.search.tasks import PartialMeasurement
    from mordal_optuna.workbench.workbench import Workbench


def run_study(
    settings: StudySettings, progress: Progress, stop: StopRequest | None = None
) -> StudyResult:
    """Run a study to its end, or continue it; only read the result if it is finished.

    Args:
        settings: the study file's settings.
        progress: receives progress updates.
        stop: whether this process was asked to end; None if nobody asks.

    Returns:
        The result: winner, ranking, costs and scores on further tasks.

    Raises:
        ConfigError: if the study file asks for something that is not available here.
        StudyMismatchError: if a study of this name exists with another configuration.
        InputsChangedError: if data, a task or a model has changed since the study began.
        BusyError: if another process works in the same folder, or on the same study.
        Preempted: if this process was asked to end.
        MordalError: if a model, the data or a task cannot be used.
    """
    make_folder(settings.workdir)
    with alone_in(settings.workdir):
        study = open_study(settings)
        if not is_finished(study, settings):
            address, devices = settings.storage_url(), launched_world_size()
            with (
                alone_on(address, settings.study),
                Presence(address, settings.study, devices=devices) as present,
            ):
                work(study, settings, progress, Alone(present.does), stop)
        elif launched_world_size() > 1:
            from mordal_optuna.workbench.following import end_launch

            end_launch(settings.runtime.device)
        return stored_result(study, settings)


def follow_study(settings: StudySettings, stop: StopRequest | None = None) -> None:
    """Ranks above 0: take part in the training and scoring of a launch until rank 0 is done.

    Args:
        settings: the same study file's settings as on rank 0.
        stop: whether this process was asked to end; None if nobody asks.

    Raises:
        MordalError: if the workbench cannot be opened.
    """
    from mordal_optuna.workbench.following import follow_launch

    follow_launch(settings.runtime.device, stop)


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
    make_folder(settings.workdir)
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
    return read_result(study, plan, **displayed(settings))


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
    return stored_result(load_begun(settings), settings)


def work(
    study: Study,
    settings: StudySettings,
    progress: Progress,
    member: Alone,
    stop: StopRequest | None = None,
) -> None:
    """Do all stages of a study that has not ended, alone or beside others.

    Args:
        study: the Optuna study.
        settings: the study file's settings.
        progress: receives progress updates.
        member: this process among those that work on the study.
        stop: whether this process was asked to end; None if nobody asks.

    Raises:
        MordalError: as `run_study`.
    """
    if settings.zoo:
        build_zoo(settings, progress)
    with member.turn("begin"):
        begun = member.has_begun
        if not (begun or has_spent(study)):
            forget_refused_start(study)
        settings = resumed_settings(study, settings, begun=begun)
        settings = with_template_date(study, settings, begun=begun)
        settings = pinned(study, settings, begun=begun)
        claims = _open_claims(study, settings)
        member.begin()
    member.does("opening models, data and tasks")
    bench = open_bench(settings, progress, claims, stop)
    try:
        _stages(study, bench, claims, progress, member)
    except InputsChangedError as error:
        advised = with_advice(error, study, settings, bench.rungs)
        bench.stop_followers(advised)
        raise advised from error
    except BaseException as error:
        bench.stop_followers(error)
        raise
    bench.stop_followers()


def open_bench(
    settings: StudySettings,
    progress: Progress,
    claims: ClaimStore | None = None,
    stop: StopRequest | None = None,
) -> Workbench:
    """Rank 0: open everything that training and scoring need, on all ranks of the launch.

    Args:
        settings: the study's settings, with the defaults that it began with.
        progress: receives progress updates.
        claims: claims under which this worker trains; None to train without claims.
        stop: whether this process was asked to end; None if nobody asks.

    Raises:
        MordalError: if a model, the data or a task cannot be used.
    """
    check_local(settings.models())
    check_trackers(settings.runtime.trackers)
    progress.stage("loading torch, transformers and lmms-eval; checking models, data and tasks")
    from mordal_optuna.workbench.devices import join_launch
    from mordal_optuna.workbench.workbench import open_workbench

    launch = join_launch(settings.runtime.device, stop)
    return open_workbench(settings, progress, claims, launch)


def _open_claims(study: Study, settings: StudySettings) -> ClaimStore:
    """The study's claims, with an identifier that no other study has.

    The study's name is not enough: if a study is deleted and created again, its trials start at 0,
    while checkpoints of the first one may still exist.
    """
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(IDENTITY, uuid.uuid4().hex)
    identity = study.user_attrs[IDENTITY]
    return ClaimStore(settings.storage_url(), settings.study, identity=identity)


def _stages(
    study: Study, bench: Workbench, claims: ClaimStore, progress: Progress, member: Alone
) -> None:
    settings = bench.settings
    study_plan(settings, bench.full_samples, None)  # raises now if the rungs are impossible
    with member.turn("begin"):
        begin(study, settings, bench.inputs, progress, begun=member.has_begun)
        extend(study, settings, bench.inputs, progress)
        study.set_user_attr(FULL_SAMPLES, bench.full_samples)
        store_facts(study, bench.facts)
        store_origin(study, bench.prompts, settings.targets[0].name, present_versions())
    for warning in warnings_before_training(bench.facts, bench.full_samples):
        progress.warn(warning)
    if compares_models(settings.search) and REPRESENTATION not in study.user_attrs:
        progress.stage("comparing models: features, warm-up, CKA, clusters")
        member.does("comparing models")
        compared = bench.compare(compared_before(study, settings), member.turns)
        with member.turn("comparison"):
            if REPRESENTATION not in study.user_attrs:
                store_representation(study, compared)
    if not has_stopped(study):
        progress.stage("searching: align, score, extrapolate")
        _search(settings, bench, claims, progress, member)
    if settings.also_score:
        progress.stage("scoring the winner on further tasks")
        with member.turn("further tasks"):
            member.does("scoring the winner on further tasks")
            if not is_finished(study, settings):
                _score_further(study, settings, bench)


def _search(
    settings: StudySettings,
    bench: Workbench,
    claims: ClaimStore,
    progress: Progress,
    member: Alone,
) -> None:
    from mordal_optuna.reporting.publishing import Publisher  # loads plotly, which takes a second

    url = settings.storage_url()
    storage = study_storage(url)
    study = optuna.load_study(study_name=settings.study, storage=storage)
    plan = study_plan(settings, bench.full_samples, stored_representation(study))
    study.sampler = CkaClusterSampler(
        plan, seed=settings.seed, claims=claims, keep_llm=member.turns is not None
    )
    study.pruner = LogLinearHalvingPruner(plan)

    def measure(
        candidate: Candidate, samples: int, tasks: Sequence[str] = ()
    ) -> Measurement | PartialMeasurement:
        on = f" for {', '.join(tasks)}" if tasks else ""
        member.does(f"training {candidate} to {samples:,} samples{on}")
        if tasks:
            return bench.measure_tasks(candidate, samples, tasks)
        return bench.measure(candidate, samples)

    def tracked(candidate: Candidate, history: History) -> None:
        values = tracked_standing(plan, history, candidate)
        bench.track(candidate, values, history.of(candidate).top)

    told = tracked if settings.runtime.trackers else None
    objective = Objective(plan, measure, claims=claims, progress=progress, scored=told)
    tasks = None
    if settings.task_weights:
        tasks = TaskStudies(study, plan, settings.task_weights, storage=storage, address=url)
    shown = Publisher(study, plan, address=url, **displayed(settings))
    # Other workers may be at work: those that joined, or the user's own (see `alone_on`).
    Worker(
        study,
        plan,
        objective,
        claims,
        patience_seconds=LEASE_SECONDS,
        progress=progress,
        task_studies=tasks,
        does=member.does,
        describe=shown.describe,
        published=shown.update,
    ).run()


def _score_further(study: Study, settings: StudySettings, bench: Workbench) -> None:
    winner = stored_result(study, settings).winner
    scores: list[dict[str, Any]] = bench.score_further(winner.candidate, winner.samples)
    study.set_user_attr(FURTHER_SCORES, scores)


def has_stopped(study: Study) -> bool:
    """Whether the search has ended."""
    # None if failures were cleared after the end, since attributes cannot be deleted.
    return study.user_attrs.get(STOPPED_BECAUSE) is not None
