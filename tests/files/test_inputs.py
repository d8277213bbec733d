"""Inputs of a study: changes are named; a touched file with equal content is no change."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from mordal_optuna.errors import DataError, InputsChangedError
from mordal_optuna.files.inputs import Change, Inputs, Watch
from mordal_optuna.pool import Candidate

PAIR = Candidate("clip", "llama")
NAMES = ("data", "vision_encoder:clip", "llm:llama", "llm:qwen", "task:scenes")


@dataclass
class Held:
    """A part in memory.

    Attributes:
        digests: digest by aspect.
        same: answer of `unchanged`.
        asked: rungs for which `unchanged` was called.
    """

    digests: dict[str, str]
    same: bool = True
    asked: list[int] = field(default_factory=list)

    def unchanged(self, samples: int) -> bool:
        """Return `same`."""
        self.asked.append(samples)
        return self.same


@pytest.fixture
def parts() -> dict[str, Held]:
    return {name: Held({"weights": name * 4}) for name in NAMES}


def watch(parts: dict[str, Held], now: dict[str, Held], read: list[str] | None = None) -> Watch:
    """A watch whose parts are read again as those in `now`."""

    def reader(name: str) -> Held:
        if read is not None:
            read.append(name)
        return now[name]

    return Watch("s", parts, {name: lambda name=name: reader(name) for name in parts})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change("data", "train.json"), "the alignment data (train.json)"),
        (Change("data", "images"), "the alignment data (its images)"),
        (Change("data", "", "x is missing"), "the alignment data (x is missing)"),
        (Change("task:gqa", "prompt"), "the task gqa (its prompt)"),
        (Change("task:gqa", "documents"), "the task gqa (its documents)"),
        (Change("task:gqa", "utils.py"), "the task gqa (utils.py)"),
        (Change("vision_encoder:clip-s", "weights"), "the weights of clip-s"),
        (Change("llm:qwen2-s", "chat template"), "the chat template of qwen2-s"),
    ],
)
def test_a_change_is_shown_in_words(change: Change, words: str) -> None:
    assert str(change) == words


def test_what_differs_is_found_by_part_and_aspect() -> None:
    """Also an aspect that is gone or new; the order is that of the names."""
    before = Inputs({"data": {"a": "1", "b": "2"}, "llm:x": {"weights": "3"}, "llm:y": {"c": "4"}})
    now = Inputs({"data": {"a": "1", "c": "2"}, "llm:x": {"weights": "5"}, "llm:y": {"c": "4"}})
    assert before.changes(now) == [
        Change("data", "b"),
        Change("data", "c"),
        Change("llm:x", "weights"),
    ]
    assert Inputs(before.to_json()) == before
    assert not before.changes(before)


def test_only_what_a_rung_depends_on_is_looked_at(parts: dict[str, Held]) -> None:
    watch(parts, {}).check_candidate(PAIR, ["scenes"], 32)
    assert {name for name, part in parts.items() if part.asked == [32]} == set(NAMES) - {
        "llm:qwen"
    }


def test_content_is_read_only_where_files_look_changed(parts: dict[str, Held]) -> None:
    """And then once, if it is the same."""
    read: list[str] = []
    watched = watch(parts, {"data": Held(parts["data"].digests)}, read)
    watched.check(NAMES, 8)
    assert not read
    parts["data"].same = False
    watched.check(NAMES, 8)
    watched.check(NAMES, 8)
    assert read == ["data"]


def test_another_content_stops_every_time(parts: dict[str, Held]) -> None:
    now = {"llm:llama": Held({"weights": "other"}), "data": Held({"weights": "other"})}
    watched = watch(parts, now)
    for name in now:
        parts[name].same = False
    for _ in range(2):
        with pytest.raises(InputsChangedError) as caught:
            watched.check_candidate(PAIR, ["scenes"], 8)
        assert list(map(str, caught.value.changes)) == [
            "the alignment data (weights)",
            "the weights of llama",
        ]


def test_what_cannot_be_read_any_more_has_changed_but_not_in_an_outage(
    parts: dict[str, Held],
) -> None:
    def missing() -> Held:
        raise DataError("train.json", "cannot be read as JSON")

    def away() -> Held:
        raise OSError(errno.EIO, "input/output error")

    parts["data"].same = False
    readers = dict.fromkeys(NAMES, missing)
    with pytest.raises(InputsChangedError, match=r"the alignment data \(data 'train.json'"):
        Watch("s", parts, readers).check(["data"], 8)
    with pytest.raises(OSError, match="input/output"):
        Watch("s", parts, {**readers, "data": away}).check(["data"], 8)


def test_a_model_that_an_older_version_stored_by_its_commit_is_compared_by_it() -> None:
    """It is unchanged at the same commit, though it is identified by its files now."""
    old = {"location": "owner/llm", "commit": "a" * 16}
    files = {"weights": "1" * 64, "tokenizer": "2" * 64}
    now = Inputs({"llm:m": files}, {"llm:m": old})
    assert Inputs({"llm:m": old}).changes(now) == []
    moved = Inputs({"llm:m": files}, {"llm:m": {**old, "commit": "b" * 16}})
    assert Inputs({"llm:m": old}).changes(moved) == [Change("llm:m", "commit")]
    assert Inputs({"llm:m": files}).changes(moved) == []
