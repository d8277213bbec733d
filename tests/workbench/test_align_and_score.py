"""Measuring a candidate: which documents at which rung, all tasks in one pass, nothing twice."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.alignment import timing
from mordal_optuna.alignment.files import CheckpointFiles
from mordal_optuna.alignment.session import AlignmentSession
from mordal_optuna.alignment.train import Trainer
from mordal_optuna.config import parse_study
from mordal_optuna.errors import LeaseLostError, TaskError
from mordal_optuna.evaluation import model as evaluation_model
from mordal_optuna.pool import Candidate
from mordal_optuna.processes.guard import Token
from mordal_optuna.progress import Silent
from mordal_optuna.search import documents
from mordal_optuna.search.curves import Measurement
from mordal_optuna.study.claims import ClaimStore
from mordal_optuna.study.times import PARTS
from mordal_optuna.workbench import align_and_score
from mordal_optuna.workbench.score_store import ScoreStore
from mordal_optuna.workbench.workbench import open_workbench
from tests.evaluation.fake_decord import fake_decord
from tests.evaluation.seven import SEVEN

if TYPE_CHECKING:
    from collections.abc import Callable


PAIR = Candidate("clip-t", "llama-t")


@pytest.fixture
def content(study_content: dict[str, Any]) -> dict[str, Any]:
    """The first rung on 6 of 16 documents; the further task scored at all rungs."""
    task = study_content["task"] | {"early_documents": [{"below": 0.2, "documents": 6}]}
    return study_content | {"task": task, "also_score_at": "rungs"}


def measured(content: dict[str, Any], *rungs: int) -> list[Measurement]:
    settings = parse_study(content)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    bench = open_workbench(settings, Silent())
    return [bench.measure(PAIR, samples) for samples in rungs]


def test_early_rungs_are_scored_on_fewer_documents(content: dict[str, Any]) -> None:
    """The measurement holds their number and the larger noise."""
    early, late = measured(content, 8, 16)
    assert (early.documents, late.documents) == (6, 16)
    assert early.log_noise >= (0.5 / 6) / 1.0
    assert early.nll is not None
    assert (late.nll_stderr or 0) > 0


def test_automatic_numbers_of_documents_count_the_tasks_of_a_rung(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dearer documents, as the tasks here are too small to be cut."""
    monkeypatch.setattr(documents, "DOCUMENT_COST", 5.0)
    content["task"]["early_documents"] = "auto"
    both = measured(content, 8)[0].documents
    alone = measured(content | {"also_score_at": "winner"}, 8)[0].documents
    samples = content["alignment"]["samples"]
    assert (alone, both) == tuple(documents.early_documents(8, samples, 16, n) for n in (1, 2))
    assert both is not None
    assert alone is not None
    assert both < alone < 16


def test_all_tasks_are_scored_in_one_pass_for_other_studies_to_find(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study on the second task, in the same database, neither trains nor answers anything."""
    passes: list[set[str]] = []
    answer = evaluation_model.MordalVLM.generate_until

    def noted(self: Any, requests: list[Any]) -> list[Any]:
        passes.append({str(request.args[4]) for request in requests})
        return answer(self, requests)

    monkeypatch.setattr(evaluation_model.MordalVLM, "generate_until", noted)
    first = measured(content, 8)[0]
    assert passes == [{"mordal_scenes", "scienceqa_img"}]

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(AlignmentSession, "advance", refuse)
    other = content | {"study": "other", "task": content["also_score"][0], "also_score": []}
    (found,) = measured(other, 8)
    assert len(passes) == 1
    assert found.documents == 8
    assert found.nll is not None
    read: list[int] = []
    manifest = CheckpointFiles.manifest

    def reading(self: CheckpointFiles, run: str, samples: int) -> Any:
        read.append(samples)
        return manifest(self, run, samples)

    monkeypatch.setattr(CheckpointFiles, "manifest", reading)
    again = measured(content, 8)[0]
    assert read == [8, 8]  # where the rung is stored, and the scores
    assert (again.train_spent, again.eval_spent) == (0.0, 0.0)
    spent = {name: getattr(first, name) for name in ("train_spent", "eval_spent", "time")}
    assert replace(again, **spent) == first


def test_scores_of_answers_that_were_generated_otherwise_are_not_reused(
    study_content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is scored again without training; scores of equal generation stay valid."""
    content = study_content | {"also_score": []}
    older = measured(content, 8)[0]
    assert older.eval_spent

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "_gradients", refuse)
    assert measured(content, 8)[0].eval_spent == 0.0
    with monkeypatch.context() as patch:
        patch.setattr(align_and_score, "generation_mark", lambda _: "0123abcd")
        assert (measured(content, 8)[0].eval_spent or 0) > 0
        assert measured(content, 8)[0].eval_spent == 0.0
    assert measured(content, 8)[0].eval_spent == 0.0


def test_only_the_winner_is_scored_on_further_tasks_by_default(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    answer = evaluation_model.MordalVLM.generate_until

    def noted(self: Any, requests: list[Any]) -> list[Any]:
        passes.append(len(requests))
        return answer(self, requests)

    monkeypatch.setattr(evaluation_model.MordalVLM, "generate_until", noted)
    measured(content | {"also_score_at": "winner"}, 8)
    assert passes == [6]


def test_a_checkpoint_trained_under_a_claim_has_its_token(content: dict[str, Any]) -> None:
    """And not at all once another worker has the candidate."""
    settings = parse_study(content)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    claims = ClaimStore(settings.storage_url(), settings.study, identity="this one")
    bench = open_workbench(settings, Silent(), claims)
    files = CheckpointFiles(settings.checkpoint_folder())
    with claims.hold(PAIR, 7):
        bench.measure(PAIR, 8)
        (run,) = files.runs()
        assert files.manifest(run, 8).token == Token("this one", 7)
        claims.release(PAIR)  # as another worker does that thinks this one dead
        with pytest.raises(LeaseLostError):
            bench.measure(PAIR, 16)
    assert files.rungs(run) == [8]


def test_more_early_documents_than_there_are_is_refused_at_start(content: dict[str, Any]) -> None:
    content["task"]["early_documents"] = [{"below": 0.2, "documents": 17}]
    with pytest.raises(TaskError, match="17 documents asked for; it is scored on 16"):
        measured(content)


def test_the_share_of_drawn_answers_is_stored_with_the_study(
    study_content: dict[str, Any], tmp_path: Path
) -> None:
    """MMMU's; a model that was hardly trained writes no letters."""
    data = SEVEN["mmmu_val"][0](tmp_path / "mmmu")
    task = {"name": "mmmu_val", "data": str(data)}
    (found,) = measured(study_content | {"task": task, "also_score": []}, 8)
    assert found.guessed
    assert found.to_json()["guessed"] == found.guessed
    (scenes,) = measured(study_content | {"study": "b", "also_score": []}, 8)
    assert "guessed" not in scenes.to_json()


def test_training_that_an_outage_interrupted_starts_again_from_its_checkpoint(
    study_content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a cool-down, whose weights are not those that training continues from."""
    recipe = study_content["alignment"] | {"schedule": "cooldown", "cooldown": 0.5}
    digests = []
    for name, fails_at in (("undisturbed", None), ("broken off", 24)):
        content = study_content | {"workdir": str(tmp_path / name), "alignment": recipe}
        settings = parse_study(content | {"also_score": []})
        settings.workdir.mkdir(parents=True)
        bench = open_workbench(settings, Silent())
        if fails_at:
            with monkeypatch.context() as patch:
                patch.setattr(Trainer, "_gradients", failing_at(fails_at))
                with pytest.raises(OSError, match="input/output error"):
                    bench.measure(PAIR, 32)
        bench.measure(PAIR, 32)
        files = CheckpointFiles(settings.checkpoint_folder())
        digests.append(files.manifest(files.runs()[0], 32).digest)
    assert digests[0] == digests[1]


def failing_at(samples: int) -> Callable[..., Any]:
    """Gradients up to a position, where the disk fails."""
    gradients = Trainer._gradients

    def failing(self: Trainer, *given: Any) -> Any:
        if self.samples == samples:
            raise OSError(errno.EIO, "input/output error")
        return gradients(self, *given)

    return failing


def test_several_target_tasks_are_scored_in_one_pass_over_one_training(
    study_content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each on its own documents; the scores found later by a study on one of them."""
    passes: list[set[str]] = []
    answer = evaluation_model.MordalVLM.generate_until

    def noted(self: Any, requests: list[Any]) -> list[Any]:
        passes.append({str(request.args[4]) for request in requests})
        return answer(self, requests)

    monkeypatch.setattr(evaluation_model.MordalVLM, "generate_until", noted)
    scenes = study_content.pop("task") | {"early_documents": [{"below": 0.2, "documents": 6}]}
    tasks = [scenes | {"weight": 3}, *study_content["also_score"]]
    several = study_content | {"tasks": tasks, "also_score": []}
    (found,) = measured(several, 8)
    assert passes == [{"mordal_scenes", "scienceqa_img"}]
    assert {name: m.documents for name, m in found.by_task.items()} == {
        "mordal_scenes": 6,
        "scienceqa_img": 8,
    }
    first, second = found.by_task.values()
    assert found.score == pytest.approx((3 * first.score + second.score) / 4)
    assert found.train_seconds == first.train_seconds > 0
    assert found.train_spent == pytest.approx(2 * (first.train_spent or 0))
    assert found.eval_seconds == pytest.approx(first.eval_seconds + second.eval_seconds)
    assert first.answers
    assert first.answers != second.answers
    (alone,) = measured(study_content | {"study": "other", "task": scenes, "also_score": []}, 8)
    assert len(passes) == 1
    assert (alone.score, alone.answers) == (first.score, first.answers)
    assert not alone.by_task


@pytest.mark.long
def test_an_engine_scores_as_the_live_model_does_and_under_a_key_of_its_own(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By lmms-eval's `llava_hf`, between the rungs of a training that goes on unchanged."""
    fake_decord(monkeypatch)
    tasks = {
        "task": content["task"] | {"likelihood": False},
        "also_score": [task | {"likelihood": False} for task in content["also_score"]],
    }
    live = measured(content | tasks, 8, 16)
    scored: list[int] = []
    scores = align_and_score.score_by_engine

    def noted(*arguments: Any, **options: Any) -> Any:
        scored.append(len(arguments[2]))
        return scores(*arguments, **options)

    monkeypatch.setattr(align_and_score, "score_by_engine", noted)
    engine = content | tasks | {"study": "engine", "evaluation": {"engine": "llava_hf"}}
    found = measured(engine, 8, 16)
    assert scored == [2, 2], "the live model's scores, in the same database, are not used"
    assert [m.score for m in found] == [m.score for m in live]
    assert [m.differing for m in found] == [0.0, 0.0]
    assert [m.differing for m in live] == [None, None]
    again = measured(engine | {"study": "again"}, 8)
    assert scored == [2, 2], "the engine's own scores are found"
    assert again[0].differing == 0.0
    # Trained anew, with the engine between the rungs, to the very same weights.
    fresh = engine | {"checkpoints": {"folder": str(Path(content["workdir"]) / "other")}}
    fresh |= {"storage": f"sqlite:///{Path(content['workdir']) / 'other.db'}"}
    assert [m.score for m in measured(fresh, 8, 16)] == [m.score for m in live]
    folders = [Path(content["workdir"]) / name for name in ("checkpoints", "other")]
    weights = [sorted(p.read_bytes() for p in f.rglob("trained*")) for f in folders]
    assert weights[0] == weights[1] != []


def test_a_rung_stores_where_its_time_went(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts add up to what the measurement took; a rung that is only looked up took nothing."""
    # Measuring a CPU's peak takes .1 s, once, and is part of no rung.
    monkeypatch.setattr(timing, "peak_operations", lambda *_: 1e12)
    settings = parse_study(content)
    settings.workdir.mkdir(parents=True, exist_ok=True)
    bench = open_workbench(settings, Silent())
    begun = perf_counter()
    first = bench.measure(PAIR, 8)
    took = perf_counter() - begun
    assert first.time.keys() >= {*PARTS, "tokens", "computed", "operations", "possible"}
    assert 0.9 * took <= sum(first.time[part] for part in PARTS) <= took + 0.01
    assert first.train_spent is not None
    trained = ("loading", "checking", "encoding", "training", "waiting")
    assert sum(first.time[part] for part in trained) <= first.train_spent + 0.01
    details = json.loads(json.dumps(first.to_json()))
    assert Measurement.from_json(details, samples=8, score=first.score).time == first.time
    again = bench.measure(PAIR, 8)
    assert "tokens" not in again.time
    assert sum(again.time.values()) < 0.5 * took


def test_several_tasks_store_the_time_once(content: dict[str, Any]) -> None:
    """With the mean over the tasks, since a pair is trained once for all."""
    tasks = [content["task"], *content["also_score"]]
    several = {k: v for k, v in content.items() if k not in ("task", "also_score")}
    (mean,) = measured(several | {"tasks": tasks}, 8)
    assert mean.time["training"] > 0
    assert not any(one.time for one in mean.by_task.values())


def test_rungs_scored_with_merged_weights_are_trained_as_without(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such scores have the key of an export's, and the export finds them."""
    content["alignment"] = content["alignment"] | {"precision": "bf16"}
    stored: list[str] = []
    put = ScoreStore.put

    def noted(store: ScoreStore, checkpoint: str, *rest: Any) -> None:
        stored.append(checkpoint)
        put(store, checkpoint, *rest)

    monkeypatch.setattr(ScoreStore, "put", noted)
    digests = []
    for merged in (False, True):
        stored.clear()
        study = content | {"workdir": str(tmp_path / str(merged))}
        study |= {"evaluation": {"merged": merged}}
        measured(study, 8, 16)
        assert {key.endswith(":merged") for key in stored} == {merged}
        files = CheckpointFiles(parse_study(study).checkpoint_folder())
        (run,) = files.runs()
        digests.append([files.manifest(run, rung).digest for rung in (8, 16)])
    assert digests[0] == digests[1]


def test_trackers_get_scores_costs_and_what_is_known_of_the_pair(content: dict[str, Any]) -> None:
    """At the rung's samples, in the pair's run; only of the pair that was measured last."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = parse_study(content | {"runtime": {"device": "cpu", "trackers": ["tensorboard"]}})
    settings.workdir.mkdir(parents=True)
    bench = open_workbench(settings, Silent())
    found = bench.measure(PAIR, 8)
    bench.track(PAIR, {"rank": 2}, 8)
    bench.track(Candidate("clip-t", "mistral-t"), {"rank": 1}, 8)
    (folder,) = (settings.workdir / "logs").iterdir()
    assert folder.name == "tiny-clip-t-llama-t"
    events = EventAccumulator(str(folder))
    events.Reload()
    values = {tag: events.Scalars(tag)[-1] for tag in events.Tags()["scalars"]}
    assert {event.step for event in values.values()} == {8}
    shown = {tag: event.value for tag, event in values.items()}
    assert set(shown) >= {"loss", "score/scienceqa_img", "stderr/scienceqa_img", "rank"}
    assert shown["score/mordal_scenes"] == pytest.approx(found.score)
    assert shown["stderr/mordal_scenes"] == pytest.approx(found.stderr)
    assert shown["nll/mordal_scenes"] == pytest.approx(found.nll)
    assert shown["device_seconds/training"] == pytest.approx(found.train_seconds)
    assert shown["device_seconds/scoring"] == pytest.approx(found.eval_seconds, rel=1e-3)
    assert shown["rank"] == 2
