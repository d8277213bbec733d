"""Building tasks: found by name, declared metric, nested subsets, problems named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mordal_optuna.config import TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.tasks import build_task, images_of_all, nested_order, task_images
from tests.evaluation.local_task import own_task, write_documents
from tests.evaluation.seven import SEVEN, built

if TYPE_CHECKING:
    from mordal_optuna.evaluation.task import Task


def test_the_shipped_task_declares_its_metric(scenes: Task) -> None:
    assert scenes.spec.metric == "exact_match,none"
    assert scenes.documents == tuple(range(16))


def test_subsets_are_random_fixed_and_nested(zoo: Path) -> None:
    def subset(documents: int, seed: int = 0) -> tuple[int, ...]:
        data = zoo / "tasks" / "scenes"
        chosen = TaskSettings(name="mordal_scenes", data=data, documents=documents)
        return build_task(chosen, [shipped("tasks")], seed=seed).documents

    small, large = subset(4), subset(10)
    assert set(small) < set(large)
    assert small == subset(4)
    assert small != (0, 1, 2, 3)
    assert small != subset(4, seed=5)


def test_a_subset_scores_the_documents_it_names(zoo: Path, scenes: Task) -> None:
    data = zoo / "tasks" / "scenes"
    chosen = TaskSettings(name="mordal_scenes", data=data, documents=5)
    part = build_task(chosen, [shipped("tasks")], seed=0)
    whole = scenes.live.dataset["test"]
    ids = [whole[index]["id"] for index in part.documents]
    assert [document["id"] for document in part.live.dataset["test"]] == ids


def test_subsets_spread_over_clusters(tmp_path: Path) -> None:
    """GQA's eight questions on four images: any four of a subset are on four images."""
    for seed in range(5):
        data = SEVEN["gqa"][0](tmp_path / str(seed))
        chosen = TaskSettings(name="gqa", data=data, documents=4)
        part = build_task(chosen, [], seed=seed)
        assert set(part.clusters or ()) == {0, 1, 2, 3}


def test_an_order_takes_one_of_every_cluster_before_the_second_of_any() -> None:
    clusters = [0, 0, 0, 0, 1, 1, 2]
    order = nested_order(7, clusters, seed=3)
    assert sorted(order) == list(range(7))
    assert {clusters[n] for n in order[:3]} == {0, 1, 2}
    assert {clusters[n] for n in order[3:5]} == {0, 1}
    assert any(nested_order(7, None, seed=s) != nested_order(7, clusters, s) for s in range(5))
    firsts = {nested_order(7, clusters, seed=seed)[0] for seed in range(40)}
    assert len(firsts) > 3  # random within a turn


def test_too_many_documents_are_refused(zoo: Path) -> None:
    chosen = TaskSettings(name="mordal_scenes", data=zoo / "tasks" / "scenes", documents=99)
    with pytest.raises(TaskError, match="99 asked for; the task has 16"):
        build_task(chosen, [shipped("tasks")], seed=0)


def test_the_error_for_an_unknown_task_names_the_searched_folders(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=rf"'nope'.*{tmp_path}.*ai2d, chartqa, docvqa_val, gqa"):
        build_task(TaskSettings(name="nope"), [tmp_path], seed=0)


def test_a_task_defined_twice_is_refused(tmp_path: Path, zoo: Path) -> None:
    for name in ("a", "b"):
        own_task(tmp_path / name, zoo / "tasks" / "scenes", "{mordal: {metric: 'm,none'}}")
    with pytest.raises(TaskError, match="one definition is allowed"):
        build_task(TaskSettings(name="my_task"), [tmp_path], seed=0)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ("{version: 1}", "does not say which metric counts"),
        ("{mordal: {metric: 'm,none', chanse: 1}}", "metadata.mordal.chanse.*allowed keys are"),
        ("{mordal: {metric: accuracy}}", "metadata.mordal.metric: got 'accuracy'"),
        (
            "{mordal: {metric: 'm,none'}}",
            "declares the metric 'm,none'; its results",
        ),
        ("{mordal: {metric: 'exact_match,x'}}", "will have 'exact_match,none'"),
        ("{mordal: {metric: 'exact_match,none', scale: 0}}", "metadata.mordal.scale: got 0"),
    ],
)
def test_a_task_must_declare_what_counts(
    tmp_path: Path, zoo: Path, metadata: str, sentence: str
) -> None:
    folder = own_task(tmp_path, zoo / "tasks" / "scenes", metadata)
    with pytest.raises(TaskError, match=sentence):
        build_task(TaskSettings(name="my_task"), [folder], seed=0)


def test_a_missing_folder_of_data_is_named_at_once(tmp_path: Path) -> None:
    """The hub is not asked for it."""
    folder = own_task(tmp_path, tmp_path / "none", "{mordal: {metric: 'exact_match,none'}}")
    with pytest.raises(TaskError, match=r"its data '.*none' do not exist"):
        build_task(TaskSettings(name="my_task"), [folder], seed=0)


@pytest.mark.slow
def test_data_that_are_not_on_the_hub_are_named(tmp_path: Path) -> None:
    """lmms-eval tries five times and hides the reason; the error shows it."""
    folder = own_task(tmp_path, Path("owner/none"), "{mordal: {metric: 'exact_match,none'}}")
    with pytest.raises(TaskError, match=r"its data 'owner/none' cannot be loaded"):
        build_task(TaskSettings(name="my_task"), [folder], seed=0)


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """The cache of `datasets` would give the second folder the first one's documents."""
    found = []
    for count in (5, 7):
        data = tmp_path / str(count) / "scenes"
        write_documents(data, count)
        chosen = TaskSettings(name="mordal_scenes", data=data)
        found.append(len(build_task(chosen, [shipped("tasks")], seed=0).documents))
    assert found == [5, 7]


def test_a_task_without_reference_answers_is_refused(tmp_path: Path) -> None:
    """Not needed with `likelihood: false`."""
    data = tmp_path / "scenes"
    write_documents(data, 4, answer="")
    with pytest.raises(TaskError, match="no reference answer; set `likelihood: false`"):
        build_task(TaskSettings(name="mordal_scenes", data=data), [shipped("tasks")], seed=0)
    chosen = TaskSettings(name="mordal_scenes", data=data, likelihood=False)
    assert not build_task(chosen, [shipped("tasks")], seed=0).likelihood


def test_images_are_those_of_random_documents(scenes: Task) -> None:
    images = task_images(scenes, 6)
    assert len(images) == 6
    assert all(image.mode == "RGB" for image in images)
    again = task_images(scenes, 6)
    assert [i.tobytes() for i in images] == [i.tobytes() for i in again]
    first = [doc["image"].convert("RGB").tobytes() for doc in scenes.live.dataset["test"]][:6]
    assert [i.tobytes() for i in images] != first
    few = task_images(scenes.subset(8), 16)
    shown = {d["image"].convert("RGB").tobytes() for d in scenes.subset(8).live.dataset["test"]}
    assert {image.tobytes() for image in few} == shown


def test_images_that_are_asked_about_often_are_compared_once(tmp_path: Path) -> None:
    """GQA's eight questions on four pictures; four documents that show one picture give one."""
    assert len({image.tobytes() for image in task_images(built("gqa", tmp_path), 8)}) == 4
    write_documents(tmp_path / "same", 4)
    settings = TaskSettings(name="mordal_scenes", data=tmp_path / "same")
    assert len(task_images(build_task(settings, [shipped("tasks")], seed=0), 4)) == 1


def test_several_tasks_give_images_in_equal_shares_and_no_image_twice(
    scenes: Task, zoo: Path
) -> None:
    settings = TaskSettings(name="scienceqa_img", data=zoo / "tasks" / "ScienceQA")
    other = build_task(settings, [shipped("tasks")], seed=0)
    images = [image.tobytes() for image in images_of_all([scenes, other], 11)]
    own = [[i.tobytes() for i in task_images(task, 6)] for task in (scenes, other)]
    assert images == [image for pair in zip(*own, strict=True) for image in pair][:11]
    assert len(images_of_all([scenes, scenes], 12)) == 6
    few = [scenes.subset(2), other.subset(2)]  # enough together
    assert len(images_of_all(few, 8)) == 4
    assert len(images_of_all([few[0], other.subset(1)], 8)) == 3


def test_the_kinds_of_scene_questions_are_parts_of_the_scenes(scenes: Task, zoo: Path) -> None:
    """Their documents do not overlap, and answers are of one kind."""
    data, folders = zoo / "tasks" / "scenes", [shipped("tasks")]
    asked: list[str] = []
    for name, word in (("colors", "color"), ("shapes", "shape"), ("places", "Where")):
        task = build_task(TaskSettings(name=f"mordal_{name}", data=data), folders, seed=0)
        questions = task.live.dataset_no_image["test"]["question"]
        assert len(questions) == len(task.documents)
        assert all(word in question for question in questions)
        asked += task.document_digests
    assert len(asked) == len(set(asked))
    assert set(asked) < set(scenes.document_digests)
