"""A pool that grows: a study that extends an earlier one takes over what was measured there.

Optuna fixes the choices of a categorical parameter, so a study keeps its pool. A longer or shorter
pool is searched by a successor in the same storage. Before its first trial, each trial of the
earlier study that has scores of a pair of the new pool is added to it, as a finished trial with
the choices of the new pool and without costs. The earlier study stays as it is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mordal_optuna.config import adapted, growth_problems
from mordal_optuna.errors import ConfigError, InputsChangedError, SearchError
from mordal_optuna.files.inputs import Inputs
from mordal_optuna.pool import Candidate
from mordal_optuna.search.attributes import (
    ANSWERS,
    CARRIED,
    CONFIG,
    CONTINUES,
    EXTENDS,
    FAILURE,
    FULL_SAMPLES,
    INPUTS,
    INTERRUPTED,
    LOST_SECONDS,
    PAIR,
    RUNGS,
    STOOD_BACK,
    stored_value,
)
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.history import candidate_of
from mordal_optuna.search.merging import further_parameters, is_score, scored_samples
from mordal_optuna.search.space import PairSpace
from mordal_optuna.study.claims import study_storage
from mordal_optuna.study.ownership import open_runs, owned
from mordal_optuna.study.result import stored_representation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optuna import Study
    from optuna.storages import BaseStorage

    from mordal_optuna.config import StudySettings
    from mordal_optuna.progress import Progress
    from mordal_optuna.search.space import PoolNames

_POLL_SECONDS = 0.5
# Attributes that belong to the earlier study: its failures, and costs that no score came from. A
# pair that failed there is tried again.
_LEFT = frozenset((FAILURE, INTERRUPTED, LOST_SECONDS, CONTINUES, PAIR))


@dataclass(frozen=True)
class Compared:
    """What an earlier study has compared and paid for.

    Attributes:
        encoders: names of the vision encoders whose features it computed.
        fed: encoder and LLM of each pair whose warmed-up projector and features it computed.
    """

    encoders: frozenset[str] = frozenset()
    fed: frozenset[Candidate] = frozenset()


def check_growth(storage: BaseStorage, settings: StudySettings) -> None:
    """Refuse to extend a study that does not fit, before anything is created or loaded.

    Args:
        storage: storage of both studies.
        settings: settings of the study file.

    Raises:
        ConfigError: if the earlier study does not exist, has another configuration, or the study
            has begun without it.
    """
    if settings.extends is None:
        return
    earlier = earlier_study(storage, settings.extends)
    names = optuna.get_all_study_names(storage)
    if settings.study in names:
        study = optuna.load_study(study_name=settings.study, storage=storage)
        begun = study.user_attrs.get(EXTENDS)
        if begun and begun["study"] == settings.extends:
            return
        if begun or study.get_trials(deepcopy=False):
            how = f"as one that extends {begun['study']!r}" if begun else "on its own"
            raise ConfigError(
                [
                    f"extends: got {settings.extends!r}, but study {settings.study!r} has begun "
                    f"{how}; give the grown study another name, by `--as NAME`"
                ]
            )
    stored, full = stored_value(earlier.user_attrs, CONFIG), earlier.user_attrs.get(FULL_SAMPLES)
    if stored is None or full is None:
        raise ConfigError(
            [
                f"extends: study {settings.extends!r} has measured nothing; allowed is a study "
                "that `mordal run` has begun"
            ]
        )
    found = growth_problems(stored, adapted(settings, full)[0].fingerprint())
    if found:
        raise ConfigError(
            [
                f"extends: study {settings.extends!r} differs from this file in more than the "
                f"models that are added or removed, which is all that may differ: "
                f"{'; '.join(found)}"
            ]
        )


def extend(study: Study, settings: StudySettings, inputs: Inputs, progress: Progress) -> None:
    """Take over the scores of the study that a study extends; done once, and safe to repeat.

    Args:
        study: study that has just begun, or was interrupted while it took over scores.
        settings: settings of the study.
        inputs: digests of the present inputs.
        progress: receives a note about what was taken over.

    Raises:
        ConfigError: if the earlier study no longer exists.
        InputsChangedError: if data, a task or a model has changed since the earlier study began.
        StoreError: if the database cannot be used.
    """
    begun = study.user_attrs.get(EXTENDS) or {"study": settings.extends, "complete": False}
    if begun["study"] is None or begun["complete"]:
        return
    earlier = earlier_study(study_storage(settings.storage_url()), begun["study"])
    changes = Inputs(stored_value(earlier.user_attrs, INPUTS) or {}).changes(inputs)
    if changes:
        raise InputsChangedError(earlier.study_name, changes, "put it back to extend the study")
    study.set_user_attr(EXTENDS, begun)
    pool = settings.models()
    names = ClusterTree.flat(pool.encoder_names, pool.llm_names)
    carry_over(earlier, study, names, address=settings.storage_url())
    study.set_user_attr(EXTENDS, {**begun, "complete": True})
    carried = [t for t in study.get_trials(deepcopy=False) if CARRIED in t.user_attrs]
    scores = {(candidate_of(t), samples) for t in carried for samples in scored_samples(t)}
    pairs = len({candidate for candidate, _ in scores})
    progress.note(
        f"{len(scores)} scores of {pairs} pairs carried over from study {earlier.study_name!r}"
    )


def compared_before(study: Study, settings: StudySettings) -> Compared:
    """What the study that a study extends has compared; nothing if it extends none.

    Args:
        study: the study.
        settings: settings of the study.

    Raises:
        ConfigError: if the earlier study no longer exists.
    """
    begun = study.user_attrs.get(EXTENDS)
    if begun is None:
        return Compared()
    earlier = earlier_study(study_storage(settings.storage_url()), begun["study"])
    representation = stored_representation(earlier)
    if representation is None:
        return Compared()
    tree = representation.tree
    return Compared(
        frozenset(tree.vision_encoders),
        frozenset(
            Candidate(medoid, llm) for medoid in representation.llm_similarity for llm in tree.llms
        ),
    )


def carry_over(
    earlier: Study,
    study: Study,
    pool: PoolNames,
    *,
    address: str,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Add the scored trials of an earlier study to a new one, those of the new pool's pairs.

    Each is added once, however often and by however many workers this is called; a call returns
    once all are added. It must return before the first trial of the new study begins.

    Args:
        earlier: study to take over from; it is not changed.
        study: study of the same direction, whose pool may have more models, or fewer.
        pool: pool of the new study, such as its plan.
        address: SQLAlchemy address of a database that all workers share, which holds the lock.
        sleep: function that waits for a number of seconds.

    Raises:
        SearchError: if the studies have different directions.
        StoreError: if the database cannot be used.
    """
    if earlier.direction != study.direction:
        raise SearchError(
            f"study {study.study_name!r} has direction {study.direction.name}; to take over from "
            f"{earlier.study_name!r} it must have {earlier.direction.name}"
        )
    rows = open_runs(address)
    while True:
        with owned(rows, f"{study.study_name} [carried]") as lease:
            if lease is not None:
                _add_missing(earlier, study, pool, lease.check)
                return
        sleep(_POLL_SECONDS)


def _add_missing(earlier: Study, study: Study, pool: PoolNames, check: Callable[[], None]) -> None:
    space = PairSpace(pool.vision_encoders, pool.llms)
    for trial in earlier.get_trials(deepcopy=False):
        candidate = candidate_of(trial)
        if candidate is None or not _is_taken_over(trial, candidate, pool):
            continue
        added = {
            t.user_attrs[CARRIED]: t.number
            for t in study.get_trials(deepcopy=False)
            if CARRIED in t.user_attrs
        }
        if trial.number not in added:
            check()
            study.add_trial(_carried(trial, candidate, space, added))


def _is_taken_over(trial: FrozenTrial, candidate: Candidate, pool: PoolNames) -> bool:
    """Whether a trial has scores of its own, or of a plain objective, for a pair of the pool."""
    known = candidate.vision_encoder in pool.vision_encoders and candidate.llm in pool.llms
    scored = any(is_score(value) for value in trial.intermediate_values.values())
    partly = bool(scored_samples(trial) - trial.intermediate_values.keys())
    return known and (scored or partly) and STOOD_BACK not in trial.user_attrs


def _carried(
    trial: FrozenTrial, candidate: Candidate, space: PairSpace, added: Mapping[int, int]
) -> FrozenTrial:
    """A trial as it is added to the new study.

    Args:
        trial: trial of the earlier study, in any state.
        candidate: its pair.
        space: parameters of the new pool.
        added: number in the new study of each trial that was added before, by its number in the
            earlier one.
    """
    attributes = {key: value for key, value in trial.user_attrs.items() if key not in _LEFT}
    attributes[CARRIED] = trial.number
    attributes[RUNGS] = {
        samples: _without_costs(details)
        for samples, details in trial.user_attrs.get(RUNGS, {}).items()
    }
    if trial.user_attrs.get(CONTINUES) in added:
        attributes[CONTINUES] = added[trial.user_attrs[CONTINUES]]
    if space.numbered:
        attributes[PAIR] = list(candidate)
    further, stored = further_parameters(trial), space.stored(candidate)
    complete, scores = trial.state == TrialState.COMPLETE, trial.intermediate_values
    return FrozenTrial(
        number=-1,  # the storage numbers it
        trial_id=-1,
        # A failed trial's scores were measured, and a running one's may be its worker's last.
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        # As Optuna's `tell`; a trial whose rungs are all scored on some tasks has no value.
        value=trial.value if complete else scores[max(scores)] if scores else None,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete or datetime.now(),  # noqa: DTZ005 - as Optuna
        params={**stored, **{p.name: p.value for p in further}},
        distributions={
            **{name: space.distributions[name] for name in stored},
            **{p.name: p.distribution for p in further},
        },
        user_attrs=attributes,
        system_attrs={k: v for k, v in trial.system_attrs.items() if k.startswith(ANSWERS)},
        intermediate_values=scores,
    )


def _without_costs(details: Mapping[str, Any]) -> dict[str, Any]:
    """Details of a score for which the present study has spent nothing."""
    kept = {name: value for name, value in details.items() if name != "time"}
    free = {**kept, "train_spent": 0.0, "eval_spent": 0.0}
    if "tasks" in details:
        free["tasks"] = {task: _without_costs(own) for task, own in details["tasks"].items()}
    return free


def earlier_study(storage: BaseStorage, name: str) -> Study:
    """The study that a study extends.

    Args:
        storage: storage of both studies.
        name: name of the earlier study.

    Raises:
        ConfigError: if the storage has no study of this name.
    """
    names = optuna.get_all_study_names(storage)
    if name not in names:
        known = ", ".join(repr(other) for other in sorted(names)) or "none"
        raise ConfigError(
            [f"extends: got {name!r}, which is no study of this database; it has {known}"]
        )
    return optuna.load_study(study_name=name, storage=storage)
