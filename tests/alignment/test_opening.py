"""The first look: digests as of a plain reading, and no image is decoded twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from mordal_optuna.alignment import opening
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.opening import TextDigest
from mordal_optuna.alignment.tables import Table
from mordal_optuna.config import AlignmentSettings, DatasetSettings
from mordal_optuna.files.digests import joined
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from mordal_optuna.models.images import Picture

COLORS = ("red", "green", "blue", "white", "black", "gray", "pink")
KINDS = ("llava", "parquet", "single", "json", "jsonl", "names")


def pictures(folder: Path) -> list[Path]:
    for color in COLORS:
        Image.new("RGB", (8, 8), color).save(folder / f"{color}.png")
    return [folder / f"{color}.png" for color in COLORS]


def made(folder: Path, kind: str) -> AlignmentSettings:
    """The same seven conversations in a form that users have; the fourth has no image."""
    files = pictures(folder)
    texts = [(f"What {n} ü?", color) for n, color in enumerate(COLORS)]
    common: dict[str, Any] = {"batch_size": 2}
    if kind == "llava":
        records = [
            {
                "id": str(n),
                "image": None if n == 3 else files[n].name,
                "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}],
            }
            for n, (q, a) in enumerate(texts)
        ]
        (folder / "data.json").write_text(json.dumps(records))
        return AlignmentSettings(conversations=folder / "data.json", images=folder, **common)
    turns = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in texts
    ]
    held = {"parquet": List(ImageFeature()), "single": ImageFeature()}.get(kind)
    shown: list[Any] = [None if n == 3 else str(file) for n, file in enumerate(files)]
    if kind != "single":
        shown = [[one] if one else [] for one in shown]
    rows = [{"messages": m, "images": i} for m, i in zip(turns, shown, strict=True)]
    ending = {"json": "json", "jsonl": "jsonl"}.get(kind, "parquet")
    place = folder / f"data.{ending}"
    if ending == "parquet":
        messages = List({"role": Value("string"), "content": Value("string")})
        kinds = Features({"messages": messages, "images": held or List(Value("string"))})
        Dataset.from_list(rows, features=kinds).to_parquet(place)
    elif ending == "json":
        place.write_text(json.dumps(rows))
    else:
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return AlignmentSettings(dataset=DatasetSettings(path=str(place)), **common)


def read(settings: AlignmentSettings, folder: Path | None = None) -> AlignmentSet:
    return AlignmentSet.read(settings, seed=3, progress=Silent(), checked=folder)


def content(picture: Picture) -> bytes:
    return picture.read_bytes() if isinstance(picture, Path) else picture


@pytest.mark.parametrize("kind", KINDS)
def test_order_samples_and_digests_are_those_of_a_plain_reading(tmp_path: Path, kind: str) -> None:
    """The digests name checkpoints of studies that were begun long ago."""
    data = read(made(tmp_path, kind))
    order = np.random.default_rng(3).permutation(7).tolist()[:6]
    said, shown = hashlib.sha256(), hashlib.sha256()
    for position, n in enumerate(order):
        parts = [] if n == 3 else [{"type": "image"}]
        messages = [
            {"role": "user", "content": [*parts, {"type": "text", "text": f"What {n} ü?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": COLORS[n]}]},
        ]
        sample = data.sample(position)
        assert (sample.id, list(sample.messages)) == (str(n), messages)
        files = [] if n == 3 else [(tmp_path / f"{COLORS[n]}.png").read_bytes()]
        assert [content(picture) for picture in data.pictures(position)] == files
        said.update(json.dumps([str(n), messages]).encode())
        shown.update(":".join(["", *(hashlib.sha256(f).hexdigest() for f in files)]).encode())
    conversations, images = said.hexdigest(), shown.hexdigest()
    assert list(data.digests.values()) == [conversations, images]
    assert data.digest == joined({"conversations": conversations, "images": images})


@pytest.mark.parametrize("kind", KINDS)
def test_a_restart_reads_and_decodes_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As other processes of a launch do, which open the data after the first one."""
    settings = made(tmp_path, kind)
    before = read(settings, tmp_path)
    decoded: list[object] = []
    monkeypatch.setattr(opening, "open_image", decoded.append)
    looked = opening.CheckedImages.check
    asked: list[int] = []

    def check(self: Any, source: Any, index: int) -> Any:  # noqa: ANN401
        asked.append(index)
        return looked(self, source, index)

    monkeypatch.setattr(opening.CheckedImages, "check", check)
    assert read(settings, tmp_path).digest == before.digest
    assert (decoded, asked) == ([], [])


def test_an_image_that_many_samples_show_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made(tmp_path, "parquet")
    for color in COLORS:
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{color}.png")
    rows = Dataset.from_parquet(str(tmp_path / "data.parquet"))
    same = [{**row, "images": [rows[0]["images"][0]]} for row in rows]
    Dataset.from_list(same, features=rows.features).to_parquet(tmp_path / "data.parquet")
    decoded: list[object] = []
    monkeypatch.setattr(opening, "open_image", decoded.append)
    AlignmentSet.read(settings, seed=0, progress=Silent(), threads=1)
    assert len(decoded) == 1


def test_a_changed_dataset_is_looked_at_again(tmp_path: Path) -> None:
    """Its rows have other names than the rows of the file that was there."""
    settings = made(tmp_path, "parquet")
    before = read(settings, tmp_path).digest
    rows = Dataset.from_parquet(str(tmp_path / "data.parquet"))
    other = Image.new("RGB", (8, 8), "brown")
    changed = [{**row, "images": [other] if row["images"] else []} for row in rows]
    Dataset.from_list(changed, features=rows.features).to_parquet(tmp_path / "data.parquet")
    assert read(settings, tmp_path).digest != before


@pytest.mark.parametrize("kind", ["parquet", "single"])
def test_images_are_counted_without_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = read(made(tmp_path, kind))
    monkeypatch.setattr(Table, "pictures", lambda *_: pytest.fail("the images were read"))
    assert sorted(data.sample(n).images for n in range(6))[1:] == [1] * 5


def test_a_digest_may_leave_out_the_last_texts() -> None:
    texts = [bytes([n]) * n for n in range(1, 8)]
    digest = TextDigest(3)
    for text in texts:
        digest.add(text)
    for last in range(4):
        kept = b"".join(texts[: len(texts) - last])
        assert digest.without(last) == hashlib.sha256(kept).hexdigest()
