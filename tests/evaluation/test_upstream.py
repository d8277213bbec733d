"""Seven benchmarks and SLAKE by upstream's own code: gold is 1, wrong is 0, edges as stated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mordal_optuna.evaluation.upstream import UPSTREAM
from tests.evaluation.seven import COLORS, SEVEN, always, built, score_answers

if TYPE_CHECKING:
    from pathlib import Path


def test_all_seven_are_known() -> None:
    assert set(UPSTREAM) == set(SEVEN)


@pytest.mark.parametrize("name", SEVEN)
def test_gold_answers_score_one_and_wrong_ones_zero(tmp_path: Path, name: str) -> None:
    """By document as by score; MMMU's open question and its choices alike."""
    _, gold, wrong = SEVEN[name]
    task = built(name, tmp_path)
    found = score_answers(task, gold)
    rare = 1 if name == "vizwiz_vqa_val" else 0  # a document whose annotators disagree
    assert found.per_document[rare:] == (1.0,) * (found.documents - rare)
    assert rare or found.value == 1.0
    nothing = score_answers(task, wrong)
    assert nothing.value == 0.0
    assert set(nothing.per_document) == {0.0}
    # Subsets are the same documents' values.
    part = score_answers(built(name, tmp_path / "part", documents=2), gold)
    assert part.documents == 2


@pytest.mark.parametrize("name", SEVEN)
def test_values_belong_to_their_documents(tmp_path: Path, name: str) -> None:
    """The last document alone is answered right."""
    _, gold, wrong = SEVEN[name]
    task = built(name, tmp_path)
    documents = task.live.dataset[task.split]
    last = documents[len(documents) - 1]
    key = next(k for k in ("id", "question_id", "questionId", "question") if k in last)
    found = score_answers(task, lambda doc: (gold if doc[key] == last[key] else wrong)(doc))
    assert found.per_document == (0.0,) * (found.documents - 1) + (1.0,)


def shown(task: Any, index: int) -> tuple[list[Image.Image], str]:
    """Pictures and text of a document, as they are sent to a model."""
    (message,) = task.live.doc_to_messages(task.live.dataset[task.split][index])
    pictures = [p["url"] for p in message["content"] if p["type"] == "image"]
    return pictures, "".join(p["text"] for p in message["content"] if p["type"] == "text")


def test_prompts_are_upstreams(tmp_path: Path) -> None:
    short = "Answer the question using a single word or phrase."
    letter = "Answer with the option's letter from the given choices directly."
    choices = "".join(f"{x}. {c}\n" for x, c in zip("ABCD", COLORS, strict=True))
    expected = {
        "gqa": f"What 1?\n{short}",
        "vizwiz_vqa_val": "What is this?\nWhen the provided information is insufficient, respond "
        f"with 'Unanswerable'.\n{short}",
        "chartqa": "How 1?\nAnswer the question with a single word.",
        "docvqa_val": f"Who?\n{short}",
        "scienceqa_img": f"Context: A hint.\nWhich 1?\n{choices}{letter}",
        "ai2d": f"Which 1?\n{choices}{letter}",
    }
    for name, text in expected.items():
        pictures, found = shown(built(name, tmp_path), 1)
        assert found == text, name
        assert len(pictures) == 1
    pictures, text = shown(built("mmmu_val", tmp_path), 1)
    assert len(pictures) == 2
    assert "<image" not in text
    assert letter in text


def test_vizwiz_counts_how_many_of_ten_agree(tmp_path: Path) -> None:
    """Two of ten give .6: three others must agree for a whole point."""
    found = score_answers(built("vizwiz_vqa_val", tmp_path), always("a Dog."))
    assert found.per_document[0] == pytest.approx(0.6)
    assert found.per_document[1:] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (("105", "RED", "14%", "2016"), (1, 1, 1, 1)),  # 5 %, case, percent, years alike
        (("106", "red.", "14", "1900"), (0, 0, 0, 0)),
    ],
)
def test_chartqa_allows_five_percent(
    tmp_path: Path, answer: tuple[str, ...], values: tuple[int, ...]
) -> None:
    order = {"100": 0, "red": 1, "0.14": 2, "2015": 3}
    found = score_answers(built("chartqa", tmp_path), lambda doc: answer[order[doc["answer"]]])
    assert found.per_document == values


def test_docvqa_forgives_half_of_the_letters(tmp_path: Path) -> None:
    """1 - edits / length where that is at least .5, of the closest answer."""
    task = built("docvqa_val", tmp_path)
    assert score_answers(task, always("john  smith")).value == 1.0
    assert score_answers(task, always("Jon Smith")).value == pytest.approx(0.9)
    assert score_answers(task, always("J")).value == 0.0


def test_letters_are_read_as_upstream_reads_them(tmp_path: Path) -> None:
    science, ai2d = built("scienceqa_img", tmp_path), built("ai2d", tmp_path)
    assert score_answers(science, lambda d: "ABCD"[d["answer"]] + ". text").value == 1.0
    assert score_answers(science, lambda d: f"({'ABCD'[d['answer']]})").value == 0.0
    assert score_answers(ai2d, lambda d: f"({'ABCD'[int(d['answer'])]})").value == 1.0
    assert score_answers(ai2d, lambda d: "Answer: " + "ABCD"[int(d["answer"])]).value == 0.0


def test_mmmu_tells_how_often_it_had_to_guess(tmp_path: Path) -> None:
    """Upstream draws an option where it cannot read one; the score is then partly luck."""
    task = built("mmmu_val", tmp_path)
    assert score_answers(task, lambda doc: doc["answer"]).guessed == 0.0
    junk = score_answers(task, lambda doc: "???" if doc["question_type"] != "open" else "12.5")
    assert junk.guessed == 0.75
    assert junk.per_document[3] == 1.0
    assert score_answers(built("ai2d", tmp_path), always("A")).guessed is None


def test_mmmu_reads_open_answers_by_their_numbers(tmp_path: Path) -> None:
    task = built("mmmu_val", tmp_path)
    found = score_answers(
        task, lambda doc: "It is 12.50 in all" if doc["options"] == "[]" else "A"
    )
    assert found.per_document[3] == 1.0


def test_documents_on_one_image_are_one_cluster(tmp_path: Path) -> None:
    assert built("gqa", tmp_path).clusters == (0, 1, 2, 3, 0, 1, 2, 3)
    assert built("chartqa", tmp_path).clusters == (0, 0, 1, 1)
    assert built("ai2d", tmp_path).clusters == (0, 1, 2, 3)
    assert built("mmmu_val", tmp_path).clusters == (0, 1, 2, 3)


def test_gqas_images_are_looked_up_by_their_name(tmp_path: Path) -> None:
    """The pixels that upstream would have written to disk for every question."""
    task = built("gqa", tmp_path)
    for index in range(8):
        (image,), _ = shown(task, index)
        assert image.getpixel((0, 0)) == Image.new("RGB", (1, 1), COLORS[index % 4]).getpixel(
            (0, 0)
        )
    assert task.live.dataset["testdev"].column_names == ["id", "imageId", "question", "answer"]


@pytest.mark.slow
def test_gqa_upstreams_own_way_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process_docs, on the same data: equal prompts, pixels and scores."""
    import datasets
    from lmms_eval import utils
    from lmms_eval.api.task import ConfigurableMessagesTask

    ours = built("gqa", tmp_path)
    load = datasets.load_dataset

    def local(path: str, *given: Any, **options: Any) -> Any:
        options.pop("token", None)
        return load(str(tmp_path / "gqa"), *given, **options)

    monkeypatch.setattr(datasets, "load_dataset", local)
    import lmms_eval.tasks

    file = f"{lmms_eval.tasks.__path__[0]}/gqa/gqa.yaml"
    config = utils.load_yaml_config(file, mode="full")
    theirs = ConfigurableMessagesTask(config=config | {"dataset_kwargs": {}}, model_name="x")
    for index in range(8):
        (image,), text = shown(ours, index)
        (message,) = theirs.doc_to_messages(theirs.dataset["testdev"][index])
        assert message["content"][0]["url"].tobytes() == image.tobytes()
        assert message["content"][1]["text"] == text
