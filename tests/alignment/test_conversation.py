"""Conversations: exactly the answers are trained; refused samples are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mordal_optuna.alignment.conversation import IGNORED, Conversations
from mordal_optuna.alignment.samples import Message, Sample
from mordal_optuna.errors import DataError
from mordal_optuna.models.assemble import Vlm, assemble
from tests import tiny

if TYPE_CHECKING:
    import torch


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory, cpu: torch.device) -> Vlm:
    folder = tmp_path_factory.mktemp("parts")
    encoder, llm = tiny.encoder(folder, "clip"), tiny.llm(folder, "llama")
    return assemble(encoder, llm, lora=None, precision="fp32", seed=0, device=cpu)


def said(*turns: str, image: bool = True) -> Sample:
    """Turns of user and assistant; the first shows an image."""
    messages = []
    for number, text in enumerate(turns):
        content = [{"type": "text", "text": text}]
        if image and not number:
            content.insert(0, {"type": "image"})
        messages.append(Message(role=("user", "assistant")[number % 2], content=content))
    return Sample("7", tuple(messages))


TWO = said("What color is the circle?", "red", "Where is it?", "north")


def test_exactly_answers_and_their_ends_are_trained(vlm: Vlm) -> None:
    read = Conversations(vlm, max_length=100)
    ids, labels = read.expand(read.encode(TWO))
    tokenizer = vlm.processor.tokenizer
    assert tokenizer.decode([i for i in labels if i != IGNORED]) == " red</s> north</s>"
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
    assert list(ids).count(vlm.model.config.image_token_index) == vlm.image_tokens


def test_ids_are_those_of_the_processor(vlm: Vlm) -> None:
    """Training has the same token ids as evaluation's processor gives."""
    text = vlm.processor.apply_chat_template(list(TWO.messages), tokenize=False)
    picture = Image.new("RGB", (40, 40))
    expected = vlm.processor(text=text, images=picture, add_special_tokens=False)["input_ids"][0]
    read = Conversations(vlm, max_length=100)
    encoded = read.encode(TWO)
    ids, _ = read.expand(encoded)
    assert list(ids) == list(expected)
    assert encoded.length == len(ids)


def refused(vlm: Vlm, sample: Sample, **options: Any) -> str:  # noqa: ANN401
    with pytest.raises(DataError) as caught:
        Conversations(vlm, **{"max_length": 100, **options}).encode(sample)
    assert caught.value.source == "7"
    return str(caught.value)


def test_a_sample_that_is_too_long_is_refused_and_shown(vlm: Vlm) -> None:
    sentence = refused(vlm, TWO, max_length=20, too_long="refuse")
    assert "tokens; max_length allows 20, and too_long: cut" in sentence
    assert "it reads '<s>USER: <image>" in sentence


def test_a_sample_may_be_cut_but_not_before_its_answer(vlm: Vlm) -> None:
    read = Conversations(vlm, max_length=100, too_long="cut")
    ids, labels = read.expand(read.encode(TWO))
    answer = next(n for n, label in enumerate(labels) if label != IGNORED)
    short = Conversations(vlm, max_length=answer + 1, too_long="cut")
    cut_ids, cut_labels = short.expand(short.encode(TWO))
    assert list(cut_ids) == list(ids[: answer + 1])
    assert list(cut_labels) == list(labels[: answer + 1])
    assert f"is cut at {answer} tokens, before its answer" in refused(
        vlm, TWO, max_length=answer, too_long="cut"
    )


def test_a_cut_inside_an_image_is_refused(vlm: Vlm) -> None:
    answered = said("Hi?", "yes", image=False).messages
    sample = Sample("7", (*answered, *TWO.messages))
    read = Conversations(vlm, max_length=200)
    start = list(read.expand(read.encode(sample))[0]).index(vlm.model.config.image_token_index)
    assert "inside an image" in refused(vlm, sample, max_length=start + 3, too_long="cut")


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (
            "{% for m in messages %}{% if m.role == 'user' %}<image>{% endif %}{% endfor %}",
            "2 image placeholders",
        ),
        ("{% if messages[0].role == 'user' %}<image>{% endif %}", "has no answer tokens"),
        ("{% for m in messages %}no picture {{ m.role }} {% endfor %}", "0 image placeholders"),
        ("<image>{{ messages | length }}", "has no answer tokens"),
        ("<image>{{ messages[-1].content[0].text }}", "leaves answers out"),
        ("{{ raise_exception('no such role') }}", "cannot be rendered.*no such role"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_refused(
    vlm: Vlm, monkeypatch: pytest.MonkeyPatch, template: str, sentence: str
) -> None:
    monkeypatch.setattr(vlm.processor, "chat_template", template)
    with pytest.raises(DataError, match=sentence):
        Conversations(vlm, max_length=100).encode(TWO)
