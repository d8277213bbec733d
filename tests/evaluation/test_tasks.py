"""Tasks: found by name, declared metric, fixed nested subsets, defects named."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PilImage

from mordal_optuna.config import TaskSettings
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.identity import TaskPart
from mordal_optuna.evaluation.tasks import build_task, nested_order, task_images
from tests.evaluation.seven import SEVEN, built, score_answers

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task

OWN = """
task: my_task
dataset_path: {data}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata: {metadata}
"""


def own_task(folder: Path, data: Path, metadata: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_task.yaml").write_text(OWN.format(data=data, metadata=metadata))
    return folder


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


def test_an_unknown_task_says_where_it_was_sought(tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    """lmms-eval tries five times and hides the reason; it is dug out."""
    folder = own_task(tmp_path, tmp_path / "none", "{mordal: {metric: 'exact_match,none'}}")
    with pytest.raises(TaskError, match=r"its data '.*none' cannot be loaded"):
        build_task(TaskSettings(name="my_task"), [folder], seed=0)


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """The cache of `datasets` would give the second folder the first one's documents."""
    found = []
    for count in (5, 7):
        data = tmp_path / str(count) / "scenes"
        _write_documents(data, count)
        chosen = TaskSettings(name="mordal_scenes", data=data)
        found.append(len(build_task(chosen, [shipped("tasks")], seed=0).documents))
    assert found == [5, 7]


@pytest.mark.parametrize("name", ["gqa", "mmmu_val"])
def test_a_subset_is_the_task_built_with_so_few(tmp_path: Path, name: str) -> None:
    """Documents, scores and identity; subsets lie inside one another, the whole stays whole."""
    whole = built(name, tmp_path)
    total = len(whole.documents)
    part = whole.subset(3)
    outright = built(name, tmp_path, documents=3)
    assert part.documents == outright.documents
    assert part.identity == outright.identity != whole.identity
    assert set(part.subset(2).documents) < set(part.documents) < set(whole.documents)
    gold = SEVEN[name][1]
    assert (
        score_answers(part, gold).per_document
        == score_answers(outright, gold).per_document
        == (1.0,) * 3
    )
    assert score_answers(whole, gold).documents == total
    assert [part.reference(n) for n in range(3)] == [outright.reference(n) for n in range(3)]
    with pytest.raises(TaskError, match="4 documents asked for; it is scored on 3"):
        part.subset(4)


def test_a_task_without_reference_answers_is_refused(tmp_path: Path) -> None:
    """Not needed with `likelihood: false`."""
    data = tmp_path / "scenes"
    _write_documents(data, 4, answer="")
    with pytest.raises(TaskError, match="no reference answer; set `likelihood: false`"):
        build_task(TaskSettings(name="mordal_scenes", data=data), [shipped("tasks")], seed=0)
    chosen = TaskSettings(name="mordal_scenes", data=data, likelihood=False)
    assert not build_task(chosen, [shipped("tasks")], seed=0).likelihood


def test_chance_is_computed_where_documents_list_their_options(
    scenes: Task, tmp_path: Path
) -> None:
    """The mean of 1/n: three of four documents have four options, MMMU's open ones none."""
    assert scenes.chance == scenes.spec.chance == 0.2
    assert built("gqa", tmp_path).chance == 0.0
    assert built("ai2d", tmp_path).chance == 0.25
    assert built("mmmu_val", tmp_path).chance == pytest.approx(0.75 * 0.25)
    drawn = scenes_with_options(tmp_path, [["a", "b"], ["a", "b", "c", "d"], ["a"], None])
    assert drawn.chance == pytest.approx((1 / 2 + 1 / 4) / 4)


def test_a_misspelt_field_of_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="declares options: 'chioces'; its documents have id, "):
        scenes_with_options(tmp_path, [["a", "b"]] * 4, field="chioces")


def test_options_change_no_identity(tmp_path: Path) -> None:
    """They shape no score, so scores known without them are found again."""
    task = scenes_with_options(tmp_path / "a", [["a", "b"]] * 4)
    spec = task.spec.model_copy(update={"options": None})
    assert task.source is not None
    assert task.source.definition_digests(task.spec) == task.source.definition_digests(spec)
    other = spec.model_copy(update={"gold": "answer"})
    assert task.source.definition_digests(spec) != task.source.definition_digests(other)


def scenes_with_options(
    folder: Path, options: list[list[str] | None], field: str = "choices"
) -> Task:
    """A task whose documents list options."""
    _write_documents(folder / "scenes", len(options), choices=options)
    own = own_task(
        folder / "yaml",
        folder / "scenes",
        f"{{mordal: {{metric: 'exact_match,none', options: {field}}}}}",
    )
    return build_task(TaskSettings(name="my_task"), [own], seed=0)


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
    """GQA's eight questions on four pictures; four documents that show one picture are refused."""
    assert len({image.tobytes() for image in task_images(built("gqa", tmp_path), 8)}) == 4
    _write_documents(tmp_path / "same", 4)
    settings = TaskSettings(name="mordal_scenes", data=tmp_path / "same")
    with pytest.raises(TaskError, match="shows 1 different images; .* at least 4"):
        task_images(build_task(settings, [shipped("tasks")], seed=0), 4)


def own(folder: Path, data: Path) -> Task:
    """A task with a prompt of its own, as a YAML with an included one and functions."""
    if not folder.exists():
        own_task(folder / "mine", data, "{mordal: {metric: 'exact_match,none'}}")
        file = folder / "mine" / "my_task.yaml"
        text = file.read_text().replace('"{{question}}"', "!function utils.doc_to_text")
        file.write_text("include: ../common.yaml\n" + text)
        (folder / "common.yaml").write_text("generation_kwargs: {max_new_tokens: 4}\n")
        (folder / "mine" / "utils.py").write_text("def doc_to_text(doc):\n    return 'a'\n")
        (folder / "mine" / "other.yaml").write_text("task: other\n")
    return build_task(TaskSettings(name="my_task"), [folder], seed=0)


@pytest.mark.parametrize(
    ("file", "old", "new", "aspect"),
    [
        ("mine/utils.py", "'a'", "'b'", "utils.py"),
        ("common.yaml", "4", "5", "prompt"),
        ("mine/my_task.yaml", "mean", "median", "metric"),
        ("mine/my_task.yaml", "task: my_task", "# a comment\ntask: my_task", None),
        ("mine/other.yaml", "task: other", "task: another", None),
        ("../data/README.md", "---\n", "---\npretty_name: x\n", None),
    ],
)
def test_what_shapes_a_task_is_part_of_its_identity(
    tmp_path: Path, file: str, old: str, new: str, aspect: str | None
) -> None:
    """Its YAML, what that includes, its functions; neither comments nor other tasks' files."""
    _write_documents(tmp_path / "data", 4)
    before = own(tmp_path / "tasks", tmp_path / "data")
    seen = TaskPart(before)
    assert seen.unchanged(8)
    path = tmp_path / "tasks" / file
    path.write_text(path.read_text().replace(old, new, 1))
    now = own(tmp_path / "tasks", tmp_path / "data")
    digests = TaskPart(now).digests
    assert {a for a in digests if digests[a] != seen.digests[a]} == ({aspect} if aspect else set())
    assert (now.identity == before.identity) == (aspect is None)
    assert seen.unchanged(8) == file.endswith("other.yaml")


@pytest.mark.parametrize("change", ["answer", "image"])
def test_documents_changed_in_place_make_another_task(tmp_path: Path, change: str) -> None:
    """Also where the YAML names their folder, and where an image alone is another one."""
    _write_documents(tmp_path / "data", 4)
    before = own(tmp_path / "tasks", tmp_path / "data")
    seen = TaskPart(before)
    options = {"answer": "blue"} if change == "answer" else {"color": "blue"}
    shutil.rmtree(tmp_path / "data")
    _write_documents(tmp_path / "data", 4, **options)
    assert not seen.unchanged(8)
    now = own(tmp_path / "tasks", tmp_path / "data")
    digests = TaskPart(now).digests
    assert {a for a in digests if digests[a] != seen.digests[a]} == {"documents"}
    assert now.identity != before.identity
    assert now.subset(2).identity != before.subset(2).identity


def _write_documents(
    folder: Path,
    count: int,
    answer: str = "red",
    color: str = "black",
    choices: list[list[str] | None] | None = None,
) -> None:
    image, text = PilImage.new("RGB", (8, 8), color), Value("string")
    rows = [
        {"id": str(n), "image": image, "question": "What?", "answer": answer}
        | ({"choices": choices[n]} if choices else {})
        for n in range(count)
    ]
    features = Features(id=text, image=Image(), question=text, answer=text) | (
        {"choices": List(text)} if choices else {}
    )
    features = Features(features)
    folder.mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n"
        "    path: test.parquet\n---\n"
    )
