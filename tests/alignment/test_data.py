"""The alignment set: one order, prefixes, and every defect named before the run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.errors import DataError
from mordal_optuna.progress import Silent
from tests.processes.test_patience import Notes

if TYPE_CHECKING:
    from pathlib import Path


def record(number: int, *turns: str, image: str | None = "a.png") -> dict[str, Any]:
    """A record whose turns alternate from the human."""
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(turns)]
    return {"id": str(number), "image": image, "conversations": said}


def write(folder: Path, records: list[dict[str, Any]]) -> tuple[Path, Path]:
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")
    path = folder / "data.json"
    path.write_text(json.dumps(records))
    return path, folder


def read(
    folder: Path, records: list[dict[str, Any]], *, seed: int = 0, **options: Any
) -> AlignmentSet:
    path, images = write(folder, records)
    settings = AlignmentSettings(
        conversations=path, images=images, **{"batch_size": 2, "samples": None, **options}
    )
    return AlignmentSet.read(settings, seed=seed, progress=Silent(), checked=folder)


MANY = [record(n, f"<image>\nWhat {n}?", "red") for n in range(21)]


def test_less_data_is_a_prefix_of_more(tmp_path: Path) -> None:
    """All sizes share one permutation, which depends on the seed."""
    small, large = read(tmp_path, MANY, samples=6), read(tmp_path, MANY, samples=20)
    ids = [large.sample(n).id for n in range(20)]
    assert [small.sample(n).id for n in range(6)] == ids[:6]
    assert len(set(ids)) == 20
    assert ids != sorted(ids, key=int)
    other = read(tmp_path, MANY, samples=20, seed=1)
    assert [other.sample(n).id for n in range(20)] != ids
    assert other.digest != large.digest


def test_a_beginning_has_the_samples_that_training_begins_with(tmp_path: Path) -> None:
    """In the same order, without a look at the others: a broken image among those is no matter."""
    whole = read(tmp_path, MANY, samples=20)
    last = int(whole.sample(19).id)
    records = [{**r, "image": "gone.png"} if r["id"] == str(last) else r for r in MANY]
    path, images = write(tmp_path, records)
    options = {"conversations": path, "images": images, "batch_size": 2}

    def beginning(steps: int, **more: Any) -> AlignmentSet:
        settings = AlignmentSettings(**{**options, **more})
        return AlignmentSet.beginning(settings, seed=0, progress=Silent(), steps=steps)

    begun = beginning(3, samples=20)
    assert len(begun) == 20
    assert [begun.sample(n).id for n in range(20)] == [whole.sample(n).id for n in range(20)]
    assert begun.left_out == 0
    with pytest.raises(DataError, match=r"1 of 2. samples .*gone.png"):
        beginning(10, samples=20)
    assert len(beginning(3)) == 20
    left = beginning(10, skip_broken_images=0.1)
    assert len(left) == 20
    assert str(last) not in [left.sample(n).id for n in range(20)]
    with pytest.raises(DataError, match="holds 21 samples; a full alignment needs 22"):
        beginning(1, samples=22)


def test_without_a_size_all_whole_batches_are_taken(tmp_path: Path) -> None:
    assert len(read(tmp_path, MANY, batch_size=4)) == 20


def test_samples_beyond_the_last_whole_batch_are_said_to_be_left_out(tmp_path: Path) -> None:
    """600 samples in batches of 16 are 592; no line where all are used."""
    path, images = write(tmp_path, [record(n, f"<image>\nWhat {n}?", "red") for n in range(600)])
    progress = Notes()
    for batch_size in (16, 8):
        settings = AlignmentSettings(conversations=path, images=images, batch_size=batch_size)
        data = AlignmentSet.read(settings, seed=0, progress=progress)
        assert len(data) == 600 // batch_size * batch_size
    assert progress.notes == [
        "592 of 600 samples are used: a full alignment is a whole number of batches, here of 16"
    ]


def test_batches_are_chosen_by_the_samples_there_are(tmp_path: Path) -> None:
    """Where the study file leaves their size open: 21 samples are two batches of 8."""
    path, images = write(tmp_path, MANY)
    settings = AlignmentSettings(conversations=path, images=images)
    assert len(AlignmentSet.read(settings, seed=0, progress=Silent())) == 16


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (record(1, "<image>\nWhat?"), "at least 2 items"),
        (record(1, "a", "b", "c"), "ends with a question"),
        ({"id": "1", "conversations": [{"from": "dog", "value": "x"}] * 2}, "human"),
        (record(1, "<image>\nWhat?", "red", image="gone.png"), "2 of 2 samples.*gone.png"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, bad: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, [bad, bad]).sample(0)


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 21 samples; a full alignment needs 40"):
        read(tmp_path, MANY, samples=40)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("[{")
    settings = AlignmentSettings(conversations=tmp_path / "data.json", images=tmp_path)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        AlignmentSet.read(settings, seed=0, progress=Silent())


def some_broken(folder: Path) -> list[dict[str, Any]]:
    """20 records of which one image is missing and one is cut off."""
    picture = (folder / "whole.png").open("wb")
    Image.effect_noise((90, 90), 50).save(picture, "png")
    picture.close()
    content = (folder / "whole.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    names = {3: "missing.png", 11: "cut.png"}
    return [record(n, "<image>\nWhat?", "red", image=names.get(n, "a.png")) for n in range(20)]


def test_broken_images_are_counted_and_named_before_the_run(tmp_path: Path) -> None:
    """A picture with its header in place and its end missing is found, too."""
    with pytest.raises(DataError) as caught:
        read(tmp_path, some_broken(tmp_path))
    assert "2 of 20 samples have images that are missing or cannot be" in str(caught.value)
    assert "missing.png" in str(caught.value)
    assert "cut.png" in str(caught.value)
    assert "skip_broken_images allows 0 %" in str(caught.value)


def test_a_share_of_broken_images_may_be_left_out(tmp_path: Path) -> None:
    """The others keep their order; later ones move up."""
    whole = [r | {"image": "a.png"} for r in some_broken(tmp_path)]
    order = [read(tmp_path, whole).sample(n).id for n in range(20)]
    data = read(tmp_path, some_broken(tmp_path), skip_broken_images=0.1, samples=18)
    assert [data.sample(n).id for n in range(18)] == [n for n in order if n not in ("3", "11")]
    assert data.left_out == 0.1
    assert read(tmp_path, whole).left_out == 0.0
    with pytest.raises(DataError, match="allows 9 %"):
        read(tmp_path, some_broken(tmp_path), skip_broken_images=0.09)


def test_a_share_of_records_that_are_no_conversations_may_be_left_out(tmp_path: Path) -> None:
    """As with broken images, they are counted and named, and later ones move up."""
    records = [record(n, "What?", "red") for n in range(20)]
    order = [read(tmp_path, records).sample(n).id for n in range(20)]
    records[4] = record(4, "What?", "red", "And?")
    data = read(tmp_path, records, skip_unusable=0.05, batch_size=1)
    assert [data.sample(n).id for n in range(len(data))] == [n for n in order if n != "4"]
    assert data.left_out == 0.05
    sentence = "1 of 20 samples are no conversations, such as.*'4'.*skip_unusable allows 4 %"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, records, skip_unusable=0.04, batch_size=1)


def test_images_found_good_are_not_decoded_again(tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401
    read(tmp_path, MANY)
    decoded: list[object] = []
    monkeypatch.setattr("mordal_optuna.alignment.opening.open_image", decoded.append)
    path = tmp_path / "data.json"
    settings = AlignmentSettings(conversations=path, images=tmp_path, batch_size=2)
    AlignmentSet.read(settings, seed=0, progress=Silent(), checked=tmp_path)
    assert decoded == []
    Image.new("RGB", (41, 41)).save(tmp_path / "a.png")  # another file by the same name
    AlignmentSet.read(settings, seed=0, progress=Silent(), checked=tmp_path)
    assert decoded


@pytest.mark.parametrize("text", ["What 3?", "color"])
def test_a_changed_conversation_or_image_is_another_alignment_set(
    tmp_path: Path, text: str
) -> None:
    """Each under its own name; the same content in another place is the same set."""
    before = read(tmp_path, MANY, samples=20)
    assert set(before.digests) == {"data.json", "images"}
    (tmp_path / "moved").mkdir()
    assert read(tmp_path / "moved", MANY, samples=20).digests == before.digests
    records = MANY
    if text == "color":
        Image.new("RGB", (40, 40), "blue").save(tmp_path / "b.png")
        records = [record(n, f"<image>\nWhat {n}?", "red", image="b.png") for n in range(21)]
    else:
        records = [record(n, f"<image>\nWhat is {n}?", "red") for n in range(21)]
    now = read(tmp_path, records, samples=20)
    assert now.digest != before.digest
    changed = {name for name in now.digests if now.digests[name] != before.digests[name]}
    assert changed == {"images" if text == "color" else "data.json"}


def test_an_image_changed_in_place_is_noticed_and_read_once(tmp_path: Path) -> None:
    """At the next look, as far as a rung needs it; one that was only touched is the same."""
    for n in range(21):
        Image.new("RGB", (40, 40), (n, 0, 0)).save(tmp_path / f"{n}.png")
    records = [record(n, f"<image>\nWhat {n}?", "red", image=f"{n}.png") for n in range(21)]
    before = read(tmp_path, records, samples=20)
    remembered = (tmp_path / "good-images.txt").read_text()
    path, images = tmp_path / "data.json", tmp_path
    settings = AlignmentSettings(conversations=path, images=images, batch_size=2, samples=20)
    assert before.unchanged(20)
    AlignmentSet.read(settings, seed=0, progress=Silent(), checked=tmp_path)
    assert (tmp_path / "good-images.txt").read_text() == remembered
    last = before.pictures(19)[0]
    assert not isinstance(last, bytes)
    os.utime(last, ns=(1, 1))
    assert not before.unchanged(20)
    again = AlignmentSet.read(settings, seed=0, progress=Silent(), checked=tmp_path)
    assert again.digest == before.digest
    Image.new("RGB", (40, 40), "white").save(last)
    assert again.unchanged(18)
    assert not again.unchanged(20)
    now = AlignmentSet.read(settings, seed=0, progress=Silent(), checked=tmp_path)
    assert now.digest != before.digest
