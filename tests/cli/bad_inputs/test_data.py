"""Alignment data that cannot be trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import Bad, World, check, parametrized

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

Record = dict[str, Any]


def talks(content: str | bytes) -> Any:
    """A conversation file of this content."""
    return lambda world: [
        "run",
        world.study(alignment__conversations=world.write("talks.json", content)),
    ]


def records(change: Callable[[list[Record]], Any], **more: Any) -> Any:
    """The conversations of the pool, changed."""

    def arguments(world: World) -> list[str]:
        content = json.loads(Path(world.content["alignment"]["conversations"]).read_text())
        changed = json.dumps(change(content))
        file = world.write("talks.json", changed)
        return ["run", world.study(alignment__conversations=file, **more)]

    return arguments


def each(change: Callable[[Record], Record]) -> Any:
    return records(lambda found: [change(record) for record in found])


def roles(record: Record) -> Record:
    names = {"human": "user", "gpt": "assistant"}
    turns = [{**turn, "from": names[turn["from"]]} for turn in record["conversations"]]
    return {**record, "conversations": turns}


def cut_image(world: World) -> list[str]:
    images = world.folder / "pictures"
    shutil.copytree(world.content["alignment"]["images"], images)
    for file in images.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    return ["run", world.study(alignment__images=str(images))]


def dataset(content: dict[str, str | bytes], path: str = "rows", **more: Any) -> Any:
    """A dataset of these files in a folder `rows`."""

    def arguments(world: World) -> list[str]:
        for name, text in content.items():
            world.write(f"rows/{name}", text)
        settings = {"path": path, **more}
        recipe = {
            key: value
            for key, value in world.content["alignment"].items()
            if key not in ("conversations", "images")
        }
        return ["run", world.study(alignment={**recipe, "dataset": settings})]

    return arguments


def lines(rows: list[Record]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
TALK = {
    "id": "1",
    "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
}
CASES = [
    Bad(
        "no file",
        lambda w: ["run", w.study(alignment__conversations="none.json")],
        ["'none.json' does not exist"],
    ),
    Bad("an empty file", talks(""), ["talks.json", "is empty"]),
    Bad("an empty list", talks("[]"), ["holds 0 samples"]),
    Bad("broken JSON", talks('[{"id": 1, '), ["cannot be read as JSON", "line 1"]),
    Bad("a line for each record", talks(lines([TALK, TALK])), ["one JSON list"]),
    Bad("a mapping", talks('{"data": []}'), ["one JSON list"]),
    Bad("a mapping of records", talks(json.dumps({"1": TALK})), ["one JSON list"]),
    Bad("a list of texts", talks('["a"]'), ["entry 0"]),
    Bad("Latin-1", talks('[{"id": "\u00e9"}]'.encode("latin-1")), ["UTF-8"]),
    Bad("a picture", talks(b"\x89PNG\r\n\x1a\n\x00"), ["talks.json"]),
    Bad("no conversations", each(lambda r: {"id": r["id"]}), ["entry 0", "conversations"]),
    Bad(
        "a conversation that is a text",
        each(lambda r: {**r, "conversations": "hello"}),
        ["entry 0"],
    ),
    Bad("roles of another format", each(roles), ["entry 0", "human and gpt"]),
    Bad(
        "answers first",
        each(lambda r: {**r, "conversations": r["conversations"][::-1]}),
        ["must alternate"],
    ),
    Bad("one turn", each(lambda r: {**r, "conversations": r["conversations"][:1]}), ["entry 0"]),
    Bad(
        "missing images",
        each(lambda r: {**r, "image": "none.png"}),
        ["none.png (missing)", "skip_broken_images"],
    ),
    Bad("an image that is a folder", each(lambda r: {**r, "image": "."}), ["skip_broken_images"]),
    Bad("an image with a NUL", each(lambda r: {**r, "image": "a\0b"}), ["skip_broken_images"]),
    Bad(
        "an image of 300 characters",
        each(lambda r: {**r, "image": "x" * 300}),
        ["skip_broken_images"],
    ),
    Bad("images that are cut", cut_image, ["skip_broken_images"]),
    Bad("more samples than there are", records(lambda r: r[:16]), ["holds 16 samples", "64"]),
    Bad(
        "too few rungs",
        records(lambda r: r, search__first_ratio=0.5, search__max_ratio=0.5),
        ["first_ratio", "max_ratio", "fit_points"],
    ),
    Bad("no dataset", dataset({}, "./none"), ["./none"]),
    Bad(
        "a misspelt dataset",
        dataset({"a.jsonl": lines([{"messages": TURNS}])}, "rows/b"),
        ["'rows/b'", "'rows/a.jsonl'"],
    ),
    Bad("an empty folder", dataset({".keep": ""}), ["rows"]),
    Bad("a CSV file", dataset({"a.csv": "a,b\n"}, "rows/a.csv"), [".csv"]),
    Bad("broken Parquet", dataset({"a.parquet": "hello"}, "rows/a.parquet"), ["a.parquet"]),
    Bad("broken lines", dataset({"a.jsonl": "{\n"}, "rows/a.jsonl"), ["a.jsonl"]),
    Bad(
        "other columns",
        dataset({"a.jsonl": lines([{"text": "a"}])}, "rows/a.jsonl"),
        ["no column 'messages'", "text"],
    ),
    Bad(
        "no such split",
        dataset({"train.jsonl": lines([{"messages": TURNS}] * 64)}, split="dev", images=None),
        ["dev"],
    ),
    Bad(
        "messages that are texts",
        dataset({"a.jsonl": lines([{"messages": "a"}] * 64)}, "rows/a.jsonl", images=None),
        ["a.jsonl"],
    ),
    Bad(
        "messages without content",
        dataset(
            {"a.jsonl": lines([{"messages": [{"role": "user"}]}] * 64)},
            "rows/a.jsonl",
            images=None,
        ),
        ["a.jsonl"],
    ),
    Bad(
        "messages that are null",
        dataset({"a.jsonl": lines([{"messages": None}] * 64)}, "rows/a.jsonl", images=None),
        ["a.jsonl"],
    ),
    Bad(
        "parts without text",
        dataset(
            {
                "a.jsonl": lines(
                    [{"messages": [{"role": "user", "content": [{"type": "text"}]}]}] * 64
                )
            },
            "rows/a.jsonl",
            images=None,
        ),
        ["a.jsonl"],
    ),
]


@parametrized(CASES)
def test_bad_data_are_one_sentence(
    case: Bad, real: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, real, capsys)
