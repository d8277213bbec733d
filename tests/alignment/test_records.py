"""Records: each is read where it is in the file, and equals that of a plain reading."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from mordal_optuna.alignment import records
from mordal_optuna.alignment.records import Record, Records
from mordal_optuna.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def entry(number: int, text: str = "What?", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": f"answer {number}"}]
    return {"id": number, "conversations": turns, **more}


ENTRIES = [
    entry(0, image="a.png"),
    entry(1, "Größe 測試 🙂 ]}, {[", image=["a.png", "b.png"], other={"a": [1, {"b": None}]}),
    entry(2, 'a "quoted" \\ text\n\n', image=None),
    entry(3, "long " * 50),
    entry(4, "\ud800 alone"),
]


@pytest.mark.parametrize("piece", [1, 7, 1 << 22])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"ensure_ascii": False}])
def test_records_are_those_of_a_plain_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, options: dict[str, Any]
) -> None:
    """Wherever the pieces end that are read at once, and in any order."""
    monkeypatch.setattr(records, "_PIECE", piece)
    entries = ENTRIES if options.get("ensure_ascii", True) else ENTRIES[:4]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(entries, **options) + " \n", encoding="utf-8", newline="\r\n")
    plain = TypeAdapter(list[Record]).validate_python(json.loads(path.read_text("utf-8")))
    read = Records(path)
    assert len(read) == len(plain)
    assert [read.read(n) for n in reversed(range(len(plain)))] == plain[::-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot be read as JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[", "cannot be read as JSON (Expecting value: line 1 column 2 (char 1))"),
        ("[GOOD,]", "cannot be read as JSON"),
        ("[GOOD GOOD]", "cannot be read as JSON (Expecting ',' delimiter"),
        ("[GOOD] GOOD", "cannot be read as JSON (Extra data"),
        ("[GOOD", "cannot be read as JSON"),
        ('[GOOD, {"id": "', "cannot be read as JSON (Unterminated string"),
        ("GOOD", "is a mapping; LLaVA's format is one JSON list of records"),
        ("7", "is no list; LLaVA's format is one JSON list of records"),
        ("GOOD\nGOOD", "it seems to have a record on each line"),
        (" ", "; it is empty"),
        ("[GOOD, 7]", "entry 1: got 7; input should be a valid dictionary"),
        ('[GOOD, {"id": "1"}]', "entry 1.conversations: got {'id': '1'}; field required"),
    ],
)
@pytest.mark.parametrize("piece", [3, 1 << 22])
def test_a_broken_file_is_named_as_a_plain_reading_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str, piece: int
) -> None:
    monkeypatch.setattr(records, "_PIECE", piece)
    path = tmp_path / "data.json"
    path.write_text(text.replace("GOOD", json.dumps(ENTRIES[0])))
    with pytest.raises(DataError) as caught:
        Records(path)
    assert sentence in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(json.dumps(ENTRIES[:1]).encode().replace(b"What", b"Wh\xff"))
    with pytest.raises(DataError, match="cannot be read as JSON.*invalid start byte"):
        Records(path)
    with pytest.raises(DataError, match="cannot be read as JSON.*No such file"):
        Records(tmp_path / "none.json")


def test_an_empty_list_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(" [ ] ")
    assert len(Records(tmp_path / "data.json")) == 0


def test_a_file_that_is_replaced_is_read_on_as_it_was(tmp_path: Path) -> None:
    """One that is changed in place is noticed where it no longer fits."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ENTRIES[:2]))
    read = Records(path)
    (tmp_path / "new.json").write_text("[]")
    (tmp_path / "new.json").replace(path)
    assert read.read(1).images == ("a.png", "b.png")
    path.write_text(json.dumps(ENTRIES[:2]))
    read = Records(path)
    path.write_text(json.dumps([entry(7, "other"), *ENTRIES[2:4]]))
    with pytest.raises(DataError, match="was changed while it was read: entry 1 is another one"):
        read.read(1)
