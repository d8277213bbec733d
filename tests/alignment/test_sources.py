"""Sources: LLaVA's file and datasets of messages give the same conversations and pictures."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from datasets import Dataset, Features, List, Value, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.sources import open_source
from mordal_optuna.config import AlignmentSettings, DatasetSettings
from mordal_optuna.errors import DataError
from mordal_optuna.models.images import open_image
from mordal_optuna.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mordal_optuna.alignment.sources import Source

COLORS = ("red", "green", "blue", "white", "black", "gray")


def rows() -> list[dict[str, Any]]:
    """Six questions on six pictures; the last is on none."""
    made = []
    for number, color in enumerate(COLORS):
        shown = [Image.new("RGB", (8, 8), color)] if number < 5 else []
        messages = [
            {"role": "user", "content": f"{'<image>' * len(shown)}What {number}?"},
            {"role": "assistant", "content": color},
        ]
        made.append({"messages": messages, "images": shown})
    return made


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    turns = List({"role": Value("string"), "content": Value("string")})
    features = Features({"messages": turns, "images": List(ImageFeature())})
    Dataset.from_list(rows(), features=features).to_parquet(tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def opened(path: Path, **options: Any) -> Source:  # noqa: ANN401
    given = DatasetSettings(path=str(path), **options)
    return open_source(AlignmentSettings(dataset=given, samples=6, batch_size=2))


def colors(source: Source, order: Sequence[int]) -> list[Any]:
    found = []
    for index in order:
        pictures = source.pictures(index)
        found.append([open_image(p).getpixel((0, 0)) for p in pictures])
    return found


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_gives_turns_and_pictures_in_any_order(parquet: Path, streaming: bool) -> None:  # noqa: FBT001
    """A stream is read row by row; an earlier row starts it again."""
    source = opened(parquet, streaming=streaming)
    assert len(source) == 6
    expected = [[Image.new("RGB", (1, 1), c).getpixel((0, 0))] for c in COLORS[:5]] + [[]]
    for order in (range(6), (4, 1, 5)):
        assert colors(source, order) == [expected[n] for n in order]
    sample = source.sample(2)
    assert [m["role"] for m in sample.messages] == ["user", "assistant"]
    assert sample.messages[0]["content"] == [
        {"type": "image"},
        {"type": "text", "text": "What 2?"},
    ]
    assert source.sample(5).images == 0


def test_a_saved_dataset_is_read_as_its_parquet_file(parquet: Path, tmp_path: Path) -> None:
    Dataset.from_parquet(str(parquet)).save_to_disk(tmp_path / "saved")
    saved, file = opened(tmp_path / "saved"), opened(parquet)
    assert [saved.sample(n) for n in range(6)] == [file.sample(n) for n in range(6)]
    assert colors(saved, range(6)) == colors(file, range(6))


def test_a_stream_keeps_its_order_and_a_table_is_permuted(parquet: Path) -> None:
    def ids(streaming: bool) -> list[str]:  # noqa: FBT001
        given = DatasetSettings(path=str(parquet), streaming=streaming)
        settings = AlignmentSettings(dataset=given, samples=6, batch_size=2)
        data = AlignmentSet.read(settings, seed=0, progress=Silent())
        return [data.sample(n).id for n in range(6)]

    assert ids(streaming=True) == ["0", "1", "2", "3", "4", "5"]
    assert sorted(ids(streaming=False)) == ids(streaming=True)
    assert ids(streaming=False) != ids(streaming=True)


def test_a_stream_that_ends_early_says_so(parquet: Path) -> None:
    given = DatasetSettings(path=str(parquet), streaming=True)
    source = open_source(AlignmentSettings(dataset=given, samples=8, batch_size=2))
    with pytest.raises(DataError, match="ends before row 7, which was asked for"):
        source.sample(7)


def test_contents_may_be_lists_of_parts_and_images_one_column(tmp_path: Path) -> None:
    """As TRL's vision datasets have them; a picture that no turn shows goes first."""
    parts = [{"type": "text", "text": "What?"}]
    answer = [{"type": "text", "text": "red"}]
    row = {
        "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}],
        "images": Image.new("RGB", (8, 8), "red"),
    }
    Dataset.from_list([row] * 2).to_parquet(tmp_path / "data.parquet")
    sample = opened(tmp_path / "data.parquet").sample(0)
    assert sample.messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "What?"}]


def test_several_pictures_stay_where_they_are_shown(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "First <image> then <image>?"},
        {"from": "gpt", "value": "yes"},
    ]
    record = {"id": "1", "image": ["a.png", "b.png"], "conversations": turns}
    (tmp_path / "data.json").write_text(json.dumps([record]))
    settings = AlignmentSettings(
        conversations=tmp_path / "data.json", images=tmp_path, batch_size=1
    )
    source = open_source(settings)
    kinds = [p["type"] for p in source.sample(0).messages[0]["content"]]
    assert kinds == ["text", "image", "text", "image", "text"]
    assert source.pictures(0) == (tmp_path / "a.png", tmp_path / "b.png")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": "photos"}, "has no column 'photos'; its columns are messages, images"),
        ({"path": "/nowhere/at/all"}, "cannot be read as a dataset"),
    ],
)
def test_what_is_not_there_is_named(parquet: Path, change: dict[str, str], sentence: str) -> None:
    settings = DatasetSettings(**{"path": str(parquet), **change})
    with pytest.raises(DataError, match=sentence):
        open_source(AlignmentSettings(dataset=settings, batch_size=2))


def test_more_placeholders_than_pictures_are_refused(tmp_path: Path) -> None:
    row = rows()[0] | {"images": []}
    both = [row, rows()[1]]
    Dataset.from_list(both).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(DataError, match="shows 1 images in its turns and comes with 0"):
        opened(tmp_path / "data.parquet").sample(0)


def test_a_local_dataset_changed_in_place_is_read_anew(tmp_path: Path) -> None:
    """The cache of `datasets` would give the rows it had; the alignment set is another one."""
    found = []
    for answer in ("red", "blue"):
        turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": answer}]
        rows = [{"messages": turns}] * 4
        Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
        (tmp_path / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
            "    path: train.parquet\n---\n"
        )
        given = DatasetSettings(path=str(tmp_path), images=None)
        settings = AlignmentSettings(dataset=given, samples=4, batch_size=2)
        read = AlignmentSet.read(settings, seed=0, progress=Silent())
        assert read.unchanged(4)
        found.append((read.sample(0).messages[1]["content"][0]["text"], read.digest))
    assert [text for text, _ in found] == ["red", "blue"]
    assert found[0][1] != found[1][1]
    (tmp_path / "train.parquet").touch()
    assert not read.unchanged(4)


def test_a_local_stream_counts_by_its_files_content(parquet: Path, tmp_path: Path) -> None:
    """Not their paths; its images and the columns that are read count as well."""

    def digest(path: Path, **options: Any) -> str:  # noqa: ANN401
        given = DatasetSettings(path=str(path), streaming=True, **options)
        settings = AlignmentSettings(dataset=given, samples=6, batch_size=2)
        return AlignmentSet.read(settings, seed=0, progress=Silent()).digest

    before = digest(parquet)
    (tmp_path / "moved").mkdir()
    moved = parquet.rename(tmp_path / "moved" / "train.parquet")
    assert digest(moved) == before
    assert digest(moved, images=None) != before
    changed = rows()
    changed[0]["images"] = [Image.new("RGB", (8, 8), "pink")]
    features = Dataset.from_parquet(str(moved)).features
    Dataset.from_list(changed, features=features).to_parquet(moved)
    assert digest(moved) != before


def test_a_stream_on_the_hub_counts_by_its_commit(
    parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is read at that commit: a branch that moves on while it is read changes nothing."""
    local = load_dataset("parquet", data_files=str(parquet), split="train", streaming=True)
    asked: list[str] = []

    def load(*_: Any, revision: str, **__: Any) -> Any:  # noqa: ANN401
        asked.append(revision)
        return local

    monkeypatch.setattr("datasets.load_dataset", load)
    digests = []
    for commit in ("aaa", "bbb", "aaa"):
        info = SimpleNamespace(sha=commit)
        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, info=info, **__: info)
        given = DatasetSettings(path="owner/data", streaming=True)
        settings = AlignmentSettings(dataset=given, samples=6, batch_size=2)
        digests.append(AlignmentSet.read(settings, seed=0, progress=Silent()).digest)
    assert asked == ["aaa", "bbb", "aaa"]
    assert digests[0] == digests[2] != digests[1]
