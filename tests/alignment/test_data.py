"""The alignment set: one order, prefixes, exact labels, and every defect named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mordal_optuna.alignment.assemble import Vlm, assemble
from mordal_optuna.alignment.data import IGNORED, AlignmentSet, Collator
from mordal_optuna.errors import DataError
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    import torch


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory, cpu: torch.device) -> Vlm:
    folder = tmp_path_factory.mktemp("parts")
    encoder, llm = tiny.encoder(folder, "clip"), tiny.llm(folder, "llama")
    return assemble(encoder, llm, lora=None, precision="fp32", seed=0, device=cpu)


def record(number: int, *turns: str, image: str | None = "a.png") -> dict[str, Any]:
    """A record whose turns alternate from the human."""
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(turns)]
    return {"id": str(number), "image": image, "conversations": said}


def write(folder: Path, records: list[dict[str, Any]]) -> tuple[Path, Path]:
    Image.new("RGB", (40, 40), "red").save(folder / "a.png")
    path = folder / "data.json"
    path.write_text(json.dumps(records))
    return path, folder


def read(folder: Path, records: list[dict[str, Any]], **options: Any) -> AlignmentSet:  # noqa: ANN401
    chosen = {"seed": 0, "samples": None, "batch_size": 2, **options}
    return AlignmentSet.read(*write(folder, records), **chosen)


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


def test_without_a_size_all_whole_batches_are_taken(tmp_path: Path) -> None:
    assert len(read(tmp_path, MANY, batch_size=4)) == 20


def test_exactly_answers_and_their_ends_are_trained(tmp_path: Path, vlm: Vlm) -> None:
    turns = record(1, "<image>\nWhat color is the circle?", "red", "Where is it?", "north")
    found = Collator(vlm, max_length=100).encode(read(tmp_path, [turns] * 2).sample(0))
    tokenizer = vlm.processor.tokenizer
    trained = tokenizer.decode([label for label in found.labels if label != IGNORED])
    assert trained == " red</s> north</s>"
    assert all(
        label in (IGNORED, token) for token, label in zip(found.ids, found.labels, strict=True)
    )
    assert found.ids.count(vlm.model.config.image_token_index) == vlm.image_tokens


def test_ids_are_those_of_the_processor(tmp_path: Path, vlm: Vlm) -> None:
    """What training reads is what evaluation's processor makes of the same conversation."""
    sample = read(tmp_path, MANY[:2]).sample(0)
    assert sample.image
    text = vlm.processor.apply_chat_template(list(sample.messages), tokenize=False)
    expected = vlm.processor(text=text, images=Image.open(sample.image), add_special_tokens=False)[
        "input_ids"
    ][0]
    assert list(Collator(vlm, max_length=100).encode(sample).ids) == list(expected)


def test_a_batch_is_padded_on_the_right(tmp_path: Path, vlm: Vlm) -> None:
    data = read(tmp_path, [MANY[0], record(99, "Describe.", "red circle north", image=None)])
    collate = Collator(vlm, max_length=100)
    encoded = sorted((collate.encode(data.sample(n)) for n in range(2)), key=lambda e: len(e.ids))
    batch = collate(encoded)
    short = len(encoded[0].ids)
    assert batch["attention_mask"][0].tolist() == [1] * short + [0] * (len(encoded[1].ids) - short)
    assert (batch["labels"][0, short:] == IGNORED).all()
    assert batch["pixel_values"].shape[0] == 1  # the text-only sample has no picture


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (record(1, "<image>\nWhat?"), "at least 2 items"),
        (record(1, "a", "b", "c"), "ends with a question"),
        ({"id": "1", "conversations": [{"from": "dog", "value": "x"}] * 2}, "human"),
        (record(1, "<image>\nWhat?", "red", image="gone.png"), "2 of the images.*'gone.png'"),
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
    with pytest.raises(DataError, match="cannot be read as JSON"):
        AlignmentSet.read(tmp_path / "data.json", tmp_path, seed=0, samples=1, batch_size=1)


def test_a_sample_that_is_too_long_or_empty_is_named(tmp_path: Path, vlm: Vlm) -> None:
    with pytest.raises(DataError, match="takes .* tokens; max_length allows 10"):
        Collator(vlm, max_length=10).encode(read(tmp_path, MANY[:2]).sample(0))


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path, vlm: Vlm) -> None:
    data = read(tmp_path, MANY[:2])
    (tmp_path / "a.png").write_bytes(b"no picture")
    collate = Collator(vlm, max_length=100)
    with pytest.raises(DataError, match=r"a\.png.*cannot be decoded|a\.png.*no image"):
        collate([collate.encode(data.sample(0))])
