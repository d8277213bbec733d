"""Batches: the loss equals LLaVA's for all ways of batching samples."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from mordal_optuna.alignment.batches import Batches, Share, micro_batches
from mordal_optuna.alignment.conversation import Conversations, Encoded
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.features import VisionFeatures
from mordal_optuna.alignment.loss import TargetLoss
from mordal_optuna.config import AlignmentSettings
from mordal_optuna.errors import ConfigError, UnusableError
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.progress import Silent
from tests.families import LLMS, random_encoder, random_llm

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.alignment.samples import Sample

CPU = torch.device("cpu")
QUESTIONS = ("what is this ?", "is this a box ?", "what ?", "is this a red box ? yes ?")
ANSWERS = ("a red box", "yes", "a box", "no")


def alignment_set(folder: Path) -> AlignmentSet:
    """Four samples of different lengths, one of them without a picture."""
    records = []
    for number, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        Image.new("RGB", (32, 32), ("red", "blue", "green", "gray")[number]).save(
            folder / f"{number}.png"
        )
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        picture = None if number == 2 else f"{number}.png"
        records.append({"id": str(number), "image": picture, "conversations": turns})
    (folder / "data.json").write_text(json.dumps(records))
    settings = AlignmentSettings(
        conversations=folder / "data.json", images=folder, batch_size=4, samples=4
    )
    return AlignmentSet.read(settings, seed=0, progress=Silent())


def joined(folder: Path, llm: str) -> Vlm:
    parts = random_encoder(folder, "clip"), random_llm(folder, llm)
    return assemble(*parts, lora=None, precision="fp32", seed=0, device=CPU)


def prepared(vlm: Vlm, data: AlignmentSet, **options: Any) -> tuple[Batches, VisionFeatures]:  # noqa: ANN401
    chosen = {"batch_size": 4, "rank": 0, "world": 1, "threads": 1, **options}
    read = Conversations(vlm, max_length=100)
    vision = VisionFeatures(vlm.encoder, data, share=4 // chosen["world"], device=CPU)
    return Batches(data, read, vision, **chosen), vision


def summed(vlm: Vlm, share: Share, vision: VisionFeatures, batching: str, size: int) -> float:
    loss = TargetLoss(vlm, precision="fp32", device=CPU)
    made = micro_batches(
        share,
        vision.compute(share.prepared),
        Conversations(vlm, max_length=100),
        size=size,
        batching=batching,
        pad_id=0,
    )
    with torch.no_grad():
        return sum(float(loss(batch)) for batch in made)


def llavas_own(vlm: Vlm, data: AlignmentSet) -> float:
    """One sample at a time through the model's own forward and the library's own loss."""
    read = Conversations(vlm, max_length=100)
    total = 0.0
    for index in range(4):
        ids, labels = read.expand(read.encode(data.sample(index)))
        pictures = [Image.open(p) for p in data.pictures(index)]
        pixels = vlm.encoder.pixels(pictures) if pictures else None
        with torch.no_grad():
            found = vlm.model(
                input_ids=torch.tensor(ids)[None],
                labels=torch.tensor(labels)[None],
                pixel_values=pixels,
            )
        total += float(found.loss) * int((labels[1:] != -100).sum())
    return total


@pytest.mark.parametrize("llm", LLMS)
def test_padded_and_packed_samples_have_the_loss_of_each_alone(tmp_path: Path, llm: str) -> None:
    """Samples joined to a row do not see each other, except with an LLM marked as unable."""
    vlm, data = joined(tmp_path, llm), alignment_set(tmp_path)
    batches, vision = prepared(vlm, data)
    batches.check(0, 4)
    (share,) = batches.shares(0, 4)
    own = llavas_own(vlm, data)
    for batching in ("grouped", "packed"):
        for size in (1, 3, 4):
            found = summed(vlm, share, vision, batching, size)
            apart = batching == "grouped" or size == 1 or vlm.llm_family.packs
            assert (found == pytest.approx(own, rel=2e-6)) == apart, (batching, size)


def test_processes_share_a_batch_without_overlap(tmp_path: Path) -> None:
    vlm, data = joined(tmp_path, "llama"), alignment_set(tmp_path)
    targets, lengths = [], []
    for rank in (0, 1):
        batches, _ = prepared(vlm, data, rank=rank, world=2)
        batches.check(0, 4)
        (share,) = batches.shares(0, 4)
        targets.append(share.targets)
        lengths += [one.length for one in share.encoded]
    alone, _ = prepared(vlm, data)
    alone.check(0, 4)
    (whole,) = alone.shares(0, 4)
    assert sum(targets) == whole.targets
    assert lengths == [one.length for one in whole.encoded]


def test_the_first_token_of_a_sample_is_no_target(tmp_path: Path) -> None:
    """In a joined row the token before it belongs to another sample."""
    vlm = joined(tmp_path, "llama")
    ids, trained = np.array([3, 4, 5], dtype=np.int32), np.ones(3, dtype=bool)
    share = Share([Encoded(ids, trained, 0, 3, 3)] * 2, [], 4)
    for batching in ("grouped", "packed"):
        (batch,) = micro_batches(
            share,
            [torch.empty(0)] * 2,
            Conversations(vlm, max_length=100),
            size=2,
            batching=batching,
            pad_id=0,
        )
        assert batch["targets"].tolist() == [4, 5, 4, 5]
        assert batch["places"].tolist() == [0, 1, 3, 4]


def test_a_sample_that_cannot_be_trained_on_keeps_its_place_and_gives_no_loss(
    tmp_path: Path,
) -> None:
    """The other samples of its batch, and the features of their images, are as without it."""
    vlm, data = joined(tmp_path, "llama"), alignment_set(tmp_path)
    batches, vision = prepared(vlm, data)
    batches.check(0, 4)
    (whole,) = batches.shares(0, 4)
    batches, vision = prepared(vlm, data)
    encode, sample = batches._conversations.encode, data.sample(1)

    def refuses_one(given: Sample) -> Encoded:
        if given.id == sample.id:
            raise UnusableError(given.id, "is cut before its answer")
        return encode(given)

    batches._conversations.encode = refuses_one  # type: ignore[method-assign]
    found = batches.check(0, 4)
    assert (list(found.unusable), found.longest) == ([1], max(e.whole for e in whole.encoded))
    (share,) = batches.shares(0, 4)
    assert [e.length for e in share.encoded] == [
        0 if n == 1 else e.length for n, e in enumerate(whole.encoded)
    ]
    assert [len(f) for f in vision.compute(share.prepared)] == [
        len(f) for f in vision.compute(whole.prepared)
    ]
    skipped = [Encoded.skipped(e.images) for e in whole.encoded]
    alone = replace(whole, encoded=[skipped[0], whole.encoded[1], *skipped[2:]])
    parts = [summed(vlm, part, vision, "grouped", 2) for part in (share, alone)]
    assert summed(vlm, whole, vision, "grouped", 2) == pytest.approx(sum(parts), rel=1e-5)


@pytest.mark.parametrize(("rank", "world"), [(0, 3), (2, 2), (-1, 2), (0, 0)])
def test_ranks_that_cannot_share_a_batch_equally_are_refused(rank: int, world: int) -> None:
    nothing: Any = None
    with pytest.raises(ConfigError, match=f"rank {rank} of {world} ranks .* of 4 samples"):
        Batches(nothing, nothing, nothing, batch_size=4, rank=rank, world=world, threads=1)
