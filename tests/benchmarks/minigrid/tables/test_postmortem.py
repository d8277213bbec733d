"""Each way of losing the best pair, made on purpose, is recognised."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.minigrid.tables.bootstrap import full_data
from benchmarks.minigrid.tables.methods import light_replay
from benchmarks.minigrid.tables.postmortem import (
    decision,
    exchanged,
    post_mortem,
    settled,
    survives,
)
from mordal_optuna.config import SearchSettings
from mordal_optuna.pool import Candidate
from mordal_optuna.replay.grid import Grid
from mordal_optuna.replay.light import run_light
from mordal_optuna.replay.run import method_settings, pool_tree, set_up
from mordal_optuna.search.plan import PooledPlan

if TYPE_CHECKING:
    from benchmarks.minigrid.tables.data import TaskData

SAMPLES = [512, 1024, 2048, 4096, 8192, 16384]
ENCODERS, LLMS = ("e0", "e1", "e2", "e3"), ("m0", "m1", "m2", "m3")
# Two families a side; the first of each is its medoid.
ALIKE = np.where(np.arange(4)[:, None] // 2 == np.arange(4)[None] // 2, 0.9, 0.1)
BEST = Candidate("e1", "m1")


def scores(level: float) -> list[float]:
    """Log-linear, ending at 1 - level."""
    return [1 - min(level * (n / SAMPLES[-1]) ** -0.1, 1.0) for n in SAMPLES]


def made(changed: dict[tuple[str, str], list[float]], stderr: float = 0.003) -> Grid:
    """All pairs fair, but for some; of four clusters of four one falls at the first rung."""
    similarity = ALIKE + (1 - ALIKE) * np.eye(4)
    # clusters differ a little, so that it is known which falls: the one of e0 and m0
    fair = {(e, m): scores(0.5 + 0.01 * ((e < "e2") + (m < "m2"))) for e in ENCODERS for m in LLMS}
    return Grid.model_validate(
        {
            "task": "made",
            "full_samples": SAMPLES[-1],
            "test_documents": 1000,
            "encoders": ENCODERS,
            "llms": LLMS,
            "vision_similarity": similarity.tolist(),
            "llm_similarity": {e: similarity.tolist() for e in ENCODERS},
            "warmup_seconds": {f"{e}|{m}": 1.0 for e in ENCODERS for m in LLMS},
            "curves": [
                {
                    "encoder": e,
                    "llm": m,
                    "samples": SAMPLES,
                    "score": (fair | changed)[e, m],
                    "train_seconds": [n / 10 for n in SAMPLES],
                    "eval_seconds": [1.0] * len(SAMPLES),
                    "stderr": [stderr] * len(SAMPLES),
                }
                for e in ENCODERS
                for m in LLMS
            ],
        }
    )


# Three of the four clusters survive, and one pair is trained fully.
SETTINGS = SearchSettings(
    max_ratio=0.125, fit_points=3, top_clusters=3, finalists=1, finish="full"
)


def verdict(grid: Grid, **options: object) -> str:
    settings = SETTINGS.model_copy(update=options)
    plan, tree = set_up(grid, "mordal", settings, 0, None).plan, pool_tree(grid, settings)
    assert isinstance(plan, PooledPlan)
    assert len(tree.clusters) == 4
    best = max(grid.candidates, key=grid.truth)
    return decision(grid, plan, tree, run_light(plan, grid), best)


def test_a_medoid_that_blooms_late_is_lost_by_the_halving() -> None:
    late = [0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
    assert verdict(made({("e0", "m0"): late})) == "halving: eliminated at r = 1/32"


def test_a_late_bloomer_would_not_have_helped_as_medoid() -> None:
    late = [0.1, 0.2, 0.3, 0.5, 0.7, 0.9]
    found = verdict(made({("e1", "m1"): late}))
    assert found == "halving: even as its cluster's medoid, eliminated at r = 1/32"


def test_an_encoder_unlike_its_medoid_is_the_encoders_clusters_fault() -> None:
    """All pairs of e1 are good; e0 is the medoid of their cluster."""
    found = verdict(made({("e1", m): scores(0.2) for m in ("m0", "m1")}))
    assert found == "clusters of the encoders: the medoid e0 + m0 was eliminated at r = 1/32"


def test_an_llm_unlike_its_medoid_is_the_llms_clusters_fault() -> None:
    found = verdict(made({(e, "m1"): scores(0.2 + 0.01 * (e == "e0")) for e in ("e0", "e1")}))
    assert found == "clusters of the LLMs: the medoid e0 + m0 was eliminated at r = 1/32"


def test_a_pair_that_is_good_only_together_is_lost_by_both() -> None:
    found = verdict(made({("e1", "m1"): scores(0.2)}))
    assert found.startswith("clusters of the encoders and the LLMs: the medoid e0 + m0")


def test_a_curve_that_bends_after_the_last_rung_is_the_curves_fault() -> None:
    bent = [*scores(0.9)[:-1], 0.97]  # a leader so far ahead that no interval reaches it
    grid = made({("e2", "m2"): scores(0.05), ("e3", "m3"): bent}, stderr=0.0005)
    found = verdict(grid)
    assert found == "curves: wrongly judged worse than the leader"


def test_a_tie_that_was_not_trained_is_lost_by_the_finish() -> None:
    grid = made({("e2", "m2"): scores(0.40), ("e3", "m3"): [*scores(0.405)[:-1], 0.62]})
    assert verdict(grid) == "finish: within noise of the leader, but not trained fully"


def test_elimination_in_the_race_and_a_missing_place_are_named() -> None:
    grid = made({("e2", "m2"): scores(0.40), ("e3", "m3"): [*scores(0.405)[:-1], 0.62]})
    assert verdict(grid, finish="race", finalists=2) == "race: eliminated at r = 1/4"
    found = verdict(grid, finish="race", finalists=1)
    assert found == "curves: its estimate was too low for a place in the race"


def test_exchanged_pairs_have_each_others_curves_and_their_own_names() -> None:
    grid = made({("e1", "m1"): scores(0.2)})
    other = exchanged(grid, Candidate("e0", "m0"), BEST)
    assert other.truth(Candidate("e0", "m0")) == grid.truth(BEST)
    assert other.truth(BEST) == grid.truth(Candidate("e0", "m0"))
    assert exchanged(grid, BEST, BEST) == grid
    plan = set_up(grid, "mordal", SETTINGS, 0, None).plan
    assert isinstance(plan, PooledPlan)
    assert survives(grid, plan, Candidate("e0", "m0"), BEST)
    assert not survives(grid, plan, Candidate("e0", "m0"), Candidate("e0", "m0"))


def test_points_lost_add_up_along_the_stages(tasks: tuple[TaskData, ...]) -> None:
    for data in tasks:
        found = post_mortem(data, replicates=20)
        replayed = light_replay(data.grid, "mordal", truths=full_data(data).truth)
        assert found.regret == pytest.approx(replayed.regret)
        assert found.halving + found.curves + found.finish == pytest.approx(found.regret)
        assert bool(found.decision) == (found.regret > 0)
        assert found.halving >= 0
        assert found.curves >= 0


def test_the_best_pair_is_that_of_the_truth(tasks: tuple[TaskData, ...]) -> None:
    """Further runs that are perfect make a pair the best whose own run is not."""
    data = tasks[0]
    pair = min((0, 3, 6), key=lambda n: data.scores[n, -1])  # those with three runs
    further = data.further_values.copy()
    further[np.array(data.further_pairs) == pair] = 1
    found = post_mortem(replace(data, further_values=further), replicates=5)
    assert data.scores[:, -1].argmax() != pair
    assert found.best == str(data.grid.candidates[pair])


def test_stages_are_smaller_and_smaller(tasks: tuple[TaskData, ...]) -> None:
    grid = tasks[0].grid
    plan = set_up(grid, "mordal", method_settings("mordal"), 0, None).plan
    assert isinstance(plan, PooledPlan)
    search = run_light(plan, grid)
    rivals = plan.finish_candidates(search.history)
    assert set(rivals) <= set(settled(plan, search)) <= set(grid.candidates)
