"""The pair as parameters: names in small pools, numbers in large ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest

from mordal_optuna.search.attributes import STOPPED_BECAUSE
from mordal_optuna.search.clusters import CandidateCluster, ClusterTree, Group
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import History, candidate_of
from mordal_optuna.search.methods.mordal import MordalPlan
from mordal_optuna.search.pruner import LogLinearHalvingPruner
from mordal_optuna.search.sampler import CkaClusterSampler
from mordal_optuna.search.space import LARGE, PairSpace, suggest_pair
from mordal_optuna.study.objective import Objective
from tests.search.synthetic import FULL, RUNGS, plan

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.pool import Candidate

SIDE = LARGE + 20


def large_plan() -> MordalPlan:
    """Names of 40 characters, clusters of sixty by sixty."""
    encoders = [f"organisation/a-vision-encoder-number-{n:04d}" for n in range(SIDE)]
    llms = [f"organisation/a-language-model-number-{n:04d}" for n in range(SIDE)]
    cut = [
        [Group(tuple(names[n : n + 60])) for n in range(0, SIDE, 60)] for names in (encoders, llms)
    ]
    clusters = tuple(CandidateCluster(v, m) for v in cut[0] for m in cut[1])
    tree = ClusterTree(tuple(encoders), tuple(llms), clusters)
    return MordalPlan(tree, RUNGS, FULL, top_clusters=1)


def study(chosen: MordalPlan, storage: str | None = None) -> optuna.Study:
    return optuna.create_study(
        storage=storage,
        direction="maximize",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )


def measure(candidate: Candidate, samples: int) -> Measurement:
    level = 0.2 + 0.001 * int(candidate.vision_encoder[-4:]) + 0.0005 * int(candidate.llm[-4:])
    return Measurement(samples, 1 - level * (samples / FULL) ** -0.2)


def test_small_pools_are_categorical_over_names() -> None:
    assert set(PairSpace(["a"], ["x"]).distributions) == {"vision_encoder", "llm"}
    trial = study(plan()).ask()  # type: ignore[arg-type]
    pair = suggest_pair(trial, plan())
    assert trial.params == {"vision_encoder": pair.vision_encoder, "llm": pair.llm}


def test_a_large_pool_is_asked_for_by_number_or_by_name() -> None:
    chosen = large_plan()
    own = study(chosen)
    by_number = own.ask()
    pair = suggest_pair(by_number, chosen)
    assert chosen.vision_encoders[by_number.params["vision_encoder_index"]] == pair.vision_encoder
    assert chosen.llms[by_number.params["llm_index"]] == pair.llm
    assert candidate_of(own.trials[0]) == pair == chosen.jobs(History())[0].candidate
    by_name = own.ask()
    encoder = by_name.suggest_categorical("vision_encoder", chosen.vision_encoders)
    llm = by_name.suggest_categorical("llm", chosen.llms)
    found = candidate_of(own.trials[1])
    assert found is not None
    assert (found.vision_encoder, found.llm) == (encoder, llm)
    assert found == chosen.jobs(History())[1].candidate


def test_a_large_search_stores_little_and_goes_on_from_its_database(tmp_path: Path) -> None:
    chosen, path = large_plan(), tmp_path / "study.db"
    first = study(chosen, f"sqlite:///{path}")
    empty = path.stat().st_size
    first.optimize(Objective(chosen, measure), n_trials=20)
    assert (path.stat().st_size - empty) / 20 < 6000  # bytes a trial
    again = optuna.load_study(
        study_name=first.study_name,
        storage=f"sqlite:///{path}",
        sampler=CkaClusterSampler(chosen),
        pruner=LogLinearHalvingPruner(chosen),
    )
    seen = [candidate_of(t) for t in again.trials]
    again.optimize(Objective(chosen, measure), n_trials=1)
    assert candidate_of(again.trials[-1]) not in seen[4:]
    assert STOPPED_BECAUSE not in again.user_attrs


def test_names_and_numbers_of_a_candidate_agree() -> None:
    chosen = large_plan()
    space = PairSpace(chosen.vision_encoders, chosen.llms)
    candidate = chosen.jobs(History())[-1].candidate
    values = space.values(candidate)
    assert set(values) == set(space.distributions)
    assert chosen.vision_encoders[values["vision_encoder_index"]] == values["vision_encoder"]
    assert space.named({k: v for k, v in values.items() if k.endswith("_index")}) == candidate
    assert space.named({"llm": candidate.llm}) == (None, candidate.llm)
    assert space.named({}) == (None, None)
    with pytest.raises(KeyError):
        space.values(type(candidate)("nobody", candidate.llm))
