"""Lengths: counts equal what samples are tokenised to, and are counted once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from mordal_optuna.alignment import lengths
from mordal_optuna.alignment.batches import Batches
from mordal_optuna.alignment.conversation import Conversations
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.features import VisionFeatures
from mordal_optuna.alignment.lengths import Lengths
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.errors import DataError, UnusableError
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.progress import Silent
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CPU = torch.device("cpu")
SAMPLES = 24
# One that the template refuses, and one that is cut before its answer.
REFUSED, LONG = "11", "17"


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Vlm:
    folder = tmp_path_factory.mktemp("parts")
    parts = tiny.encoder(folder, "clip"), tiny.llm(folder, "llama")
    return assemble(*parts, lora=None, precision="fp32", seed=0, device=CPU)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "BLOCK", 5)
    monkeypatch.setattr("mordal_optuna.alignment.batches.BLOCK", 5)
    monkeypatch.setattr(lengths, "_RENDERED", 2)


@pytest.fixture
def data(tmp_path: Path) -> AlignmentSet:
    records = []
    for number in range(SAMPLES):
        turns = []
        for turn in range(1 + number % 3):
            asked = 40 if str(number) == LONG else 1 + number % 5 + turn
            turns.append({"from": "human", "value": "what color " * asked})
            turns.append({"from": "gpt", "value": "red " * (1 + number % 7)})
        records.append({"id": str(number), "conversations": turns})
    (tmp_path / "data.json").write_text(json.dumps(records))
    settings = AlignmentSettings(
        conversations=tmp_path / "data.json", images=tmp_path, batch_size=4
    )
    return AlignmentSet.read(settings, seed=0, progress=Silent())


def batches(
    vlm: Vlm,
    data: AlignmentSet,
    folder: Path | None,
    **options: Any,  # noqa: ANN401
) -> Batches:
    limits = {"max_length": 100, **{k: options.pop(k) for k in ("max_length",) if k in options}}
    limits.update({k: options.pop(k) for k in ("too_long",) if k in options})
    return Batches(
        data,
        Conversations(vlm, **limits),
        VisionFeatures(vlm.encoder, data, share=4, device=CPU),
        **{"batch_size": 4, "rank": 0, "world": 1, "threads": 1, "lengths": folder, **options},
    )


def limit(vlm: Vlm, data: AlignmentSet) -> int:
    """A length that cuts some samples, one of them before its answer."""
    read = Conversations(vlm, max_length=1000)
    return int(np.median([read.encode(data.sample(n)).whole for n in range(SAMPLES)])) - 4


def refuse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one sample be refused by the template."""
    rendered = Conversations._rendered

    def refuses(self: Conversations, sample: Any) -> Any:  # noqa: ANN401
        if sample.id == REFUSED:
            raise UnusableError(sample.id, "cannot be rendered")
        return rendered(self, sample)

    monkeypatch.setattr(Conversations, "_rendered", refuses)


@pytest.mark.parametrize("threads", [1, 2])
def test_counted_samples_are_found_as_tokenised_ones(
    vlm: Vlm,
    data: AlignmentSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    """The longest one, each that cannot be trained on and why, and what is trained on then."""
    cut = limit(vlm, data)
    refuse_one(monkeypatch)
    unusable: dict[int, str] = {}
    for start, until in ((0, 8), (8, SAMPLES)):
        plain = batches(vlm, data, None, max_length=cut)
        counted = batches(vlm, data, tmp_path / "n", max_length=cut, threads=threads)
        expected, found = plain.check(start, until), counted.check(start, until)
        assert (found.longest, dict(found.unusable)) == (expected.longest, dict(expected.unusable))
        for one, other in zip(
            plain.shares(start, until), counted.shares(start, until), strict=True
        ):
            assert one.targets == other.targets
            for a, b in zip(one.encoded, other.encoded, strict=True):
                assert a.ids.tolist() == b.ids.tolist()
                assert (a.length, a.whole, a.images) == (b.length, b.whole, b.images)
        unusable.update(found.unusable)
    assert sorted(data.sample(n).id for n in unusable) == [REFUSED, LONG]


def test_ranks_together_find_what_one_finds(
    vlm: Vlm, data: AlignmentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = limit(vlm, data)
    refuse_one(monkeypatch)
    alone = batches(vlm, data, tmp_path / "a", max_length=cut).check(0, SAMPLES)
    found = [
        batches(vlm, data, tmp_path / "b", max_length=cut, rank=rank, world=2).check(0, SAMPLES)
        for rank in (0, 1)
    ]
    assert max(one.longest for one in found) == alone.longest
    assert {**found[0].unusable, **found[1].unusable} == alone.unusable
    assert not found[0].unusable.keys() & found[1].unusable.keys()


def test_a_refused_sample_is_named_before_anything_is_trained(
    vlm: Vlm, data: AlignmentSet, tmp_path: Path
) -> None:
    cut = limit(vlm, data)
    for folder in (None, tmp_path / "n"):
        with pytest.raises(DataError, match=f"max_length allows {cut}, and too_long: cut"):
            batches(vlm, data, folder, max_length=cut, too_long="refuse").check(0, SAMPLES)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Samples that are counted from now on."""
    seen: list[str] = []
    count = Conversations.count

    def counts(self: Conversations, samples: Sequence[Any]) -> list[tuple[int, int]]:
        seen.extend(sample.id for sample in samples)
        return count(self, samples)

    monkeypatch.setattr(Conversations, "count", counts)
    return seen


def test_a_later_rung_a_restart_and_another_max_length_count_nothing_anew(
    vlm: Vlm, data: AlignmentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counted(monkeypatch)
    batches(vlm, data, tmp_path).check(0, 8)
    assert len(seen) == 10  # two blocks
    batches(vlm, data, tmp_path).check(0, SAMPLES)
    assert len(seen) == len(set(seen)) == SAMPLES
    assert batches(vlm, data, tmp_path, max_length=30).check(0, SAMPLES).longest
    assert len(seen) == SAMPLES


def test_another_template_or_other_data_are_counted_anew(
    vlm: Vlm, data: AlignmentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = batches(vlm, data, tmp_path).check(0, SAMPLES).longest
    template = vlm.processor.chat_template
    monkeypatch.setattr(vlm.processor, "chat_template", template.replace("USER", "USER USER"))
    assert batches(vlm, data, tmp_path).check(0, SAMPLES).longest > longest
    seen = counted(monkeypatch)
    monkeypatch.setattr(data, "digest", "another")
    batches(vlm, data, tmp_path).check(0, SAMPLES)
    assert len(seen) == SAMPLES


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_of_a_process_that_counts_is_raised_as_it_is(
    vlm: Vlm, data: AlignmentSet, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    def broken(_: int) -> None:
        raise DataError("data.json", "was changed while it was read")

    monkeypatch.setattr(data, "sample", broken)
    read = Lengths(data, Conversations(vlm, max_length=100), None, threads=threads)
    with pytest.raises(DataError, match="was changed while it was read"):
        read.of(range(5))


def test_counting_draws_no_random_number(vlm: Vlm, data: AlignmentSet) -> None:
    """Initial weights and dropout do not depend on what was counted before."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Lengths(data, Conversations(vlm, max_length=100), None, threads=2).of(range(5))
    assert torch.equal(torch.rand(1), expected)
