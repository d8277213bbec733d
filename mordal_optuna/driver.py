"""A study file becomes an Optuna study with an objective, and runs to its own end.

Stages: embedded pool (if the study file asks for one), checks, comparison of the models, search,
further scores. What a stage has finished is found again in the storage or on disk, so an
interrupted study goes on where it was; a finished one is read back without loading torch.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock, Timeout
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mordal_optuna.config import StudySettings
from mordal_optuna.errors import (
    BusyError,
    ConfigError,
    InputsChangedError,
    MordalError,
    SearchError,
)
from mordal_optuna.processes.launch import launched
from mordal_optuna.progress import Silent
from mordal_optuna.search.attributes import (
    FULL_SAMPLES,
    FURTHER_SCORES,
    IDENTITY,
    REPRESENTATION,
    STOPPED_BECAUSE,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.methods import COMPARING, build_plan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.study.claims import ClaimStore, study_storage
from mordal_optuna.study.failures import clear_failures
from mordal_optuna.study.leases import LEASE_SECONDS
from mordal_optuna.study.objective import Objective
from mordal_optuna.study.result import (
    Representation,
    StudyResult,
    read_result,
    store_representation,
    stored_representation,
)
from mordal_optuna.study.resuming import begin, configured, with_way_on
from mordal_optuna.study.runs import alone_on
from mordal_optuna.study.warnings import doubts_before, store_facts
from mordal_optuna.study.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study

    from mordal_optuna.config import StudySettings
    from mordal_optuna.pool import Candidate
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.plan import Plan
    from mordal_optuna.workbench.workbench import Workbench


def run_study(settings: StudySettings, progress: Progress) -> StudyResult:
    """Run a study to its end, or go on with it; read it back if it has ended.

    Args:
        settings: the study.
        progress: is told of stages, bars and notes.

    Raises:
        ConfigError: if the study file asks for what cannot be had.
        StudyMismatchError: if a study of this name has begun with another configuration.
        InputsChangedError: if data, a task or a model changed since it began.
        BusyError: if another process works in the same folder, or on the same study.
        MordalError: if a model, the data or a task cannot be used.
    """
    settings.workdir.mkdir(parents=True, exist_ok=True)
    with alone_in(settings.workdir):
        study = open_study(settings)
        if not is_finished(study, settings):
            with alone_on(settings.storage_url(), settings.study):
                _work(study, settings, progress)
        elif launched() > 1:
            from mordal_optuna.workbench.workbench import join_processes

            join_processes(settings)[1].broadcast(None)
        return stored_result(study, settings)


def follow_study(settings: StudySettings) -> None:
    """Train and evaluate a share of what the launch's leading process asks for, to its end.

    Args:
        settings: the same study as there.

    Raises:
        MordalError: if this process cannot do what the leading one can.
    """
    from mordal_optuna.workbench.workbench import join_processes, open_workbench

    # As the leading process has them, which alone knows what the study began with.
    given: StudySettings | None = join_processes(settings)[1].broadcast(None)
    if given:
        open_workbench(given, Silent()).follow()


def retry_failed(settings: StudySettings, names: Sequence[str] = ()) -> dict[Candidate, str]:
    """Let failed candidates of a study be tried again, and the study go on if it had ended.

    Args:
        settings: the study.
        names: of candidates, ENCODER + LLM; all that failed by default.

    Returns:
        The candidates that were cleared, with the reason of their last failure.

    Raises:
        ConfigError: if a name is none of the pool.
        SearchError: if there is no failure to clear.
    """
    chosen = named_candidates(settings, names)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    return clear_failures(open_study(settings), chosen)


def named_candidates(settings: StudySettings, names: Sequence[str]) -> list[Candidate]:
    """The candidates that `--candidate` names.

    Args:
        settings: the study.
        names: of candidates, ENCODER + LLM.

    Raises:
        ConfigError: if a name is none of the pool.
    """
    known = {str(candidate): candidate for candidate in settings.models().candidates}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            [
                f"--candidate: got {name!r}; it must be ENCODER + LLM of the pool, such as "
                f"{next(iter(known))!r}"
                for name in unknown
            ]
        )
    return [known[name] for name in names]


def open_study(settings: StudySettings) -> Study:
    """Create the study, or open it if it has begun with the same configuration, or not begun.

    Raises:
        ConfigError: if the database cannot be used; no password is shown.
        StudyMismatchError: if it has begun with another one.
    """
    with _storage_errors(settings.storage_url()):
        study = optuna.create_study(
            study_name=settings.study,
            storage=study_storage(settings.storage_url()),
            direction="maximize",
            load_if_exists=True,
        )
        configured(study, settings)
    return study


@contextmanager
def _storage_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, ImportError) as error:
        shown = make_url(address).render_as_string(hide_password=True)
        kind = type(getattr(error, "orig", None) or error).__name__
        problem = (
            f"storage: {shown!r} cannot be used ({kind}); it must be a database you may write to"
        )
        raise ConfigError([problem]) from None  # the cause's text can hold the password


def is_finished(study: Study, settings: StudySettings) -> bool:
    """Whether nothing is left to do but to read the result."""
    scored = study.user_attrs.get(FURTHER_SCORES)
    wanted = bool(settings.also_score)
    return has_stopped(study) and (scored is not None or not wanted)


def stored_result(study: Study, settings: StudySettings) -> StudyResult:
    """The result as far as the storage knows it.

    Raises:
        SearchError: if no candidate was scored yet.
    """
    settings = configured(study, settings)
    plan = study_plan(settings, study.user_attrs[FULL_SAMPLES], stored_representation(study))
    return read_result(study, plan, method=settings.search.method, task=settings.task.name)


def load_study(settings: StudySettings) -> StudyResult:
    """What a study has found so far; runs nothing and loads no torch.

    Args:
        settings: the study.

    Raises:
        ConfigError: if the database cannot be used; no password is shown.
        SearchError: if there is no such study, or it has no score yet.
    """
    with _storage_errors(settings.storage_url()):
        storage = study_storage(settings.storage_url())
        names = optuna.get_all_study_names(storage)
        found = (
            optuna.load_study(study_name=settings.study, storage=storage)
            if settings.study in names
            else None
        )
    if found is None or FULL_SAMPLES not in found.user_attrs:
        raise SearchError(f"study {settings.study!r} has no score yet; run it first")
    return stored_result(found, settings)


def study_plan(
    settings: StudySettings, full_samples: int, representation: Representation | None
) -> Plan:
    """The plan a study file asks for.

    Args:
        settings: the study.
        full_samples: D.
        representation: the comparison of the models; None where the method needs none.

    Raises:
        ConfigError: if the ratios leave too few rungs.
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
        )
    except SearchError as error:
        raise ConfigError([f"search: {error}"]) from error


def _work(study: Study, settings: StudySettings, progress: Progress) -> None:
    if settings.zoo:
        _build_zoo(settings, progress)
    settings = configured(study, settings)
    claims = _open_claims(study, settings)
    bench = open_bench(settings, progress, claims)
    try:
        _stages(study, bench, claims, progress)
    except InputsChangedError as error:
        bench.dismiss()
        raise with_way_on(error, study, settings, bench.kept) from error
    except MordalError:
        bench.dismiss()
        raise
    bench.dismiss()


def open_bench(
    settings: StudySettings, progress: Progress, claims: ClaimStore | None = None
) -> Workbench:
    """Open what training and scoring need, on all processes of the launch.

    Args:
        settings: the study.
        progress: is told of everything.
        claims: under which this process trains; None where it trains under none.

    Raises:
        MordalError: if a model, the data or a task cannot be used.
    """
    # Loads torch, transformers and lmms-eval: only now is it known that there is work to do.
    progress.stage("loading torch, transformers and lmms-eval; checking models, data and tasks")
    from mordal_optuna.workbench.workbench import join_processes, open_workbench

    if launched() > 1:
        join_processes(settings)[1].broadcast(settings)
    return open_workbench(settings, progress, claims)


def _open_claims(study: Study, settings: StudySettings) -> ClaimStore:
    """The study's claims, under a name that no other study ever has.

    Trials of a study that was deleted and created anew begin at 0 again, while its checkpoints
    may have stayed.
    """
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(IDENTITY, uuid.uuid4().hex)
    identity = study.user_attrs[IDENTITY]
    return ClaimStore(settings.storage_url(), settings.study, identity=identity)


def _stages(study: Study, bench: Workbench, claims: ClaimStore, progress: Progress) -> None:
    settings = bench.settings
    study_plan(settings, bench.full_samples, None)  # refuses impossible rungs before any cost
    begin(study, settings, bench.inputs, progress)
    study.set_user_attr(FULL_SAMPLES, bench.full_samples)
    store_facts(study, bench.facts)
    for doubt in doubts_before(bench.facts, bench.full_samples):
        progress.warn(doubt)
    if settings.search.method in COMPARING and REPRESENTATION not in study.user_attrs:
        progress.stage("comparing models: features, warm-up, CKA, clusters")
        store_representation(study, bench.compare())
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
    objective = Objective(plan, bench.measure, claims=claims)
    # Nobody else runs the study (see `alone_on`), but workers of the user's own may.
    Worker(study, plan, objective, claims, patience_seconds=LEASE_SECONDS, progress=progress).run()


def _score_further(study: Study, settings: StudySettings, bench: Workbench) -> None:
    winner = stored_result(study, settings).winner
    scores: list[dict[str, Any]] = bench.score_further(winner.candidate, winner.samples)
    study.set_user_attr(FURTHER_SCORES, scores)


def has_stopped(study: Study) -> bool:
    """Whether the search has ended."""
    # None where failures were cleared after the end: attributes cannot be deleted.
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
    """Keep other processes from working in a folder.

    Raises:
        BusyError: if one does.
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
