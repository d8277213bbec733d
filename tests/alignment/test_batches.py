"""Batches: the loss equals LLaVA's for all ways of batching samples."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from mordal_optuna.alignment import loss
from mordal_optuna.alignment.batches import Batches, Share, micro_batches, samples_of
from mordal_optuna.alignment.conversation import Conversations, Encoded
from mordal_optuna.alignment.data import AlignmentSet
from mordal_optuna.alignment.features import VisionFeatures
from mordal_optuna.alignment.loss import TargetLoss
from mordal_optuna.alignment.memory import TokenBudget
from mordal_optuna.config import AlignmentSettings, LoraSettings
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
    compute = TargetLoss(vlm, precision="fp32", device=CPU)
    made = micro_batches(
        share,
        vision.compute(share.prepared),
        Conversations(vlm, max_length=100),
        budget=TokenBudget(size, None),
        batching=batching,
        pad_id=0,
    )
    with torch.no_grad():
        return sum(float(compute(batch)) for batch in made)


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
            budget=TokenBudget(2, None),
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


@pytest.mark.parametrize(
    ("batching", "size", "tokens", "expected"),
    [
        ("grouped", 3, None, [3, 3, 1]),  # the grouping of versions without a bound of tokens
        ("grouped", None, 20, [4, 2, 1]),  # 4 x 4, 2 x 9, and one that is longer than the bound
        ("grouped", 3, 20, [3, 2, 1, 1]),  # 3 x 3, 2 x 6, then 2 x 30 would be too many
        ("packed", None, 20, [5, 1, 1]),  # 2 + 3 + 3 + 4 + 6, 9 and 30
    ],
)
def test_micro_batches_fill_the_budget_and_no_more(
    tmp_path: Path, batching: Any, size: int | None, tokens: int | None, expected: list[int]
) -> None:
    vlm = joined(tmp_path, "llama")
    encoded = []
    for length in (9, 3, 2, 30, 4, 3, 6):
        ids = np.arange(3, 3 + length, dtype=np.int32)
        encoded.append(Encoded(ids, np.ones(length, dtype=bool), 0, length, length))
    made = micro_batches(
        Share(encoded, [], 0),
        [torch.empty(0)] * 7,
        Conversations(vlm, max_length=100),
        budget=TokenBudget(size, tokens),
        batching=batching,
        pad_id=0,
    )
    assert [samples_of(batch) for batch in made] == expected


@pytest.mark.parametrize(("rank", "world"), [(0, 3), (2, 2), (-1, 2), (0, 0)])
def test_ranks_that_cannot_share_a_batch_equally_are_refused(rank: int, world: int) -> None:
    nothing: Any = None
    with pytest.raises(ConfigError, match=f"rank {rank} of {world} ranks .* of 4 samples"):
        Batches(nothing, nothing, nothing, batch_size=4, rank=rank, world=world, threads=1)


class LargestTensor(TorchDispatchMode):
    """Notes the most elements of a tensor whose last dimension has a certain size."""

    def __init__(self, width: int) -> None:
        """Nothing seen yet."""
        super().__init__()
        self.width, self.elements = width, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at its result."""
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.shape[-1:] == (self.width,):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("llm", ["llama", "gemma2", "granite"])  # a cap, a divisor of logits
def test_logits_of_a_few_tokens_at_once_have_the_same_loss_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llm: str
) -> None:
    """As the head and torch's cross entropy on all tokens at once."""
    vlm, data = joined(tmp_path, llm), alignment_set(tmp_path)
    batches, vision = prepared(vlm, data)
    batches.check(0, 4)
    (share,) = batches.shares(0, 4)
    read = Conversations(vlm, max_length=100)
    vocabulary = vlm.model.lm_head.weight.shape[0]
    found = []
    for rows in (1000, 3):
        monkeypatch.setattr(loss, "_LOGITS_BYTES", rows * 4 * vocabulary)
        (batch,) = micro_batches(
            share,
            vision.compute(share.prepared),
            read,
            budget=TokenBudget(4, None),
            batching="grouped",
            pad_id=0,
        )
        vlm.model.zero_grad()
        summed = TargetLoss(vlm, precision="fp32", device=CPU)(batch)
        summed.backward()
        found.append([summed.detach(), *(p.grad for p in vlm.trainable().values())])
    hidden = vlm.model.model.language_model(
        inputs_embeds=TargetLoss(vlm, precision="fp32", device=CPU)._embeddings(batch)
    ).last_hidden_state.flatten(0, 1)[batch["places"]]
    vlm.model.zero_grad()
    plain = cross_entropy(vlm.model.lm_head(hidden), batch["targets"], reduction="sum")
    plain.backward()
    expected = [plain.detach(), *(p.grad for p in vlm.trainable().values())]
    for one in found:
        for value, same in zip(one, expected, strict=True):
            assert torch.allclose(value, same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [50, 7])
def test_no_tensor_ever_holds_the_logits_of_more_tokens_than_a_chunk(rows: int) -> None:
    """Forwards and backwards; between the two only gradients of hidden states are kept."""
    head = torch.nn.Linear(4, 997, bias=False).requires_grad_(False)
    hidden, kept = torch.randn(50, 4, requires_grad=True), []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with (
        LargestTensor(997) as largest,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept),
    ):
        summed = loss._ChunkedCrossEntropy.apply(hidden, torch.arange(50), head, rows)
        kept_outside = [shape for shape in kept if shape == (50, 4)]
        summed.backward()
    assert largest.elements == rows * 997
    assert len(kept_outside) == 1
    assert hidden.grad is not None


class ToFloat(TorchDispatchMode):
    """Counts casts of tensors of tokens from bf16 to float32."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count it if it is such a cast."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].ndim == 3:
            self.number += (args[0].dtype, result.dtype) == (torch.bfloat16, torch.float32)
        return result


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_lora_in_one_dtype_has_the_same_bits_and_fewer_casts(
    tmp_path: Path, dropout: float
) -> None:
    """One cast fewer for each of 7 linear layers of 2 layers; with dropout all stay."""
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, "llama")
    lora = LoraSettings(rank=4, alpha=8, dropout=dropout)
    vlm = assemble(*parts, lora=lora, precision="bf16", seed=0, device=CPU)
    for name, parameter in vlm.trainable().items():
        if "lora_B" in name:  # zero at first, where half of the gradients are zero
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    data = alignment_set(tmp_path)
    batches, vision = prepared(vlm, data)
    batches.check(0, 4)
    (share,) = batches.shares(0, 4)
    features = vision.compute(share.prepared)
    compute = TargetLoss(vlm, precision="bf16", device=CPU)
    found, casts = [], []
    for context in (nullcontext(), compute.in_one_dtype()):
        torch.manual_seed(0)
        vlm.model.zero_grad()
        read, budget = Conversations(vlm, max_length=100), TokenBudget(4, None)
        (batch,) = micro_batches(
            share, features, read, budget=budget, batching="grouped", pad_id=0
        )
        with context, ToFloat() as counted:
            summed = compute(batch)
            forwards = counted.number
            summed.backward()
        casts.append(forwards)
        found.append([summed.detach(), *(p.grad for p in vlm.trainable().values())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert casts[0] - casts[1] == (0 if dropout else 14)
