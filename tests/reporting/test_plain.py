"""`mordal run --json`: the keys stay, and the numbers are those of the result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mordal_optuna.reporting.plain import to_json
from tests.reporting.results import result_with_given_up

if TYPE_CHECKING:
    from mordal_optuna.study.result import StudyResult


def test_the_result_has_the_agreed_keys(result: StudyResult) -> None:
    plain = json.loads(json.dumps(to_json(result)))
    assert set(plain) == {
        *("study", "task", "method", "full_samples", "warnings", "headline", "final", "winner"),
        *("ties", "challengers", "ranking", "costs", "stopped_because", "further_scores"),
        *("failures", "given_up", "config", "time", "unfinished", "provenance"),
    }
    assert set(plain["time"]) == {"seconds", "total", "training", "rungs", "rungs_without"}
    assert set(plain["time"]["training"]) == {
        *("tokens", "tokens_per_second", "of_peak", "padding", "waiting"),
    }
    assert set(plain["costs"]) == {
        *("features", "similarity", "warmup", "training", "evaluation", "lost", "reused"),
        *("total", "full_runs", "grid_runs"),
    }
    assert plain["further_scores"] == [
        {
            "task": "scienceqa_img",
            "value": 0.5,
            "stderr": 0.05,
            "documents": 100,
            "samples": result.full_samples,
            "guessed": None,
        }
    ]
    assert plain["failures"] == {"dino + mistral": "model 'dino': too large"}
    assert plain["costs"]["total"] == result.costs.total


def test_the_ranking_has_every_pair_with_its_measurement_and_estimate(result: StudyResult) -> None:
    plain = to_json(result)
    assert plain["winner"] == plain["ranking"][0]
    for row, estimate in zip(plain["ranking"], result.ranking, strict=True):
        pair = estimate.candidate
        assert (row["vision_encoder"], row["llm"]) == (pair.vision_encoder, pair.llm)
        assert row["group"] == result.standings[pair].group
        assert set(row["estimate"]) == {"value", "low", "high", "known"}
        assert row["estimate"]["value"] == estimate.value
        curve = result.curves.get(pair)
        assert (row["measured"] is None) is (curve is None)
        if curve:
            last = curve[-1]
            assert row["measured"] == {
                "samples": last.samples,
                "score": last.score,
                "stderr": last.stderr,
                "documents": last.documents,
            }


def test_every_pair_says_why_and_a_finished_study_is_not_unfinished(result: StudyResult) -> None:
    plain = to_json(result)
    assert plain["unfinished"] is None
    assert plain["winner"]["why"] == "the winner"
    assert all(row["why"] for row in plain["ranking"])
    assert to_json(result, {"state": "searching"})["unfinished"] == {"state": "searching"}
    assert set(plain["provenance"]) == {
        *("versions", "prompts", "prompt_task", "commits", "digests", "template_date"),
    }


def test_a_difference_is_that_of_the_pair_to_the_winner(result: StudyResult) -> None:
    """Negative if the winner scores higher; `Contrast` has the opposite sign."""
    rows = [row for row in to_json(result)["ranking"] if row["against_winner"]]
    assert rows
    standings = {str(c): standing for c, standing in result.standings.items()}
    for row in rows:
        contrast = standings[f"{row['vision_encoder']} + {row['llm']}"].contrast
        assert contrast
        assert row["against_winner"]["difference"] == -contrast.difference
        assert set(row["against_winner"]) == {"samples", "difference", "margin", "paired"}


def test_several_tasks_have_a_ranking_each(result: StudyResult, several: StudyResult) -> None:
    plain = json.loads(json.dumps(to_json(several)))
    assert set(plain) - set(to_json(result)) == {"tasks", "unbeaten"}
    for task, found in zip(plain["tasks"], several.tasks, strict=True):
        assert set(task) == {"name", "weight", "one_for_all", "best", "gain", "ranking"}
        assert len(task["ranking"]) == len(several.ranking)
        assert task["ranking"][0] == task["best"]
        assert task["best"]["estimate"]["value"] == found.best.value
        if found.gain:
            assert task["gain"]["probability"] == found.gain.probability
    assert len(plain["unbeaten"]) == len(several.unbeaten)


def test_a_pair_that_was_given_up_has_a_reason_and_no_estimate() -> None:
    plain = to_json(result_with_given_up())
    assert list(plain["given_up"]) == ["clip + llama"]
    last = plain["ranking"][-1]
    assert (last["vision_encoder"], last["llm"], last["group"]) == ("clip", "llama", "failed")
    assert (last["estimate"], last["best"], last["measured"]) == (None, None, None)
    assert "loss is nan" in last["given_up"]
    assert all(pair["given_up"] is None for pair in plain["ranking"][:-1])
