"""Likelihood of reference answers: equals the training loss, for any batch size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from mordal_optuna.alignment.conversation import IGNORED, Conversations
from mordal_optuna.alignment.samples import Sample
from mordal_optuna.errors import EvaluationError
from mordal_optuna.evaluation.score import score
from tests.evaluation.seven import built

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm


def trained_loss(vlm: Vlm, task: Task, number: int) -> float:
    """Summed cross-entropy of a document's answer, by the code that prepares training."""
    (message,) = task.live.doc_to_messages(task.live.dataset[task.split][number])
    pictures = [p["url"] for p in message["content"] if p["type"] == "image"]
    parts = [{**p, "url": ""} if p["type"] == "image" else p for p in message["content"]]
    answer = [{"type": "text", "text": task.reference(number)}]
    turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    sample = Sample("s", tuple(turns))  # type: ignore[arg-type]
    conversations = Conversations(vlm, max_length=4096)
    ids, labels = conversations.expand(conversations.encode(sample))
    pixels = vlm.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = vlm.model(input_ids=torch.tensor(ids)[None], pixel_values=pixels).logits[0]
    wanted = torch.tensor(labels)[1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:-1], wanted, ignore_index=IGNORED, reduction="sum"
    )
    return float(losses)


def test_it_is_the_loss_that_training_minimises(vlm: Vlm, scenes: Task) -> None:
    """Also for answers of several tokens, in batches padded to the longest."""
    (found,) = score(vlm.model, vlm.processor, [replace(scenes, batch_size=5)]) or ()
    assert found.likelihoods
    for number in (0, 3, 15):
        expected = trained_loss(vlm, scenes, number)
        assert found.likelihoods[number] == pytest.approx(expected, rel=1e-4)
    assert len({len(scenes.reference(n)) for n in range(16)}) > 1


def test_documents_with_several_pictures(vlm: Vlm, tmp_path: Path) -> None:
    task = built("mmmu_val", tmp_path)
    (found,) = score(vlm.model, vlm.processor, [task]) or ()
    assert found.likelihoods
    for number in range(4):
        expected = trained_loss(vlm, task, number)
        assert found.likelihoods[number] == pytest.approx(expected, rel=1e-4)


def test_batches_change_nothing(vlm: Vlm, scenes: Task) -> None:
    alone = (score(vlm.model, vlm.processor, [replace(scenes, batch_size=1)]) or ())[0]
    together = (score(vlm.model, vlm.processor, [replace(scenes, batch_size=16)]) or ())[0]
    assert together.likelihoods == pytest.approx(alone.likelihoods, rel=1e-4)
    assert alone.nll == pytest.approx(sum(alone.likelihoods or ()) / 16)
    assert (alone.nll_stderr or 0) > 0


def test_the_likelihood_is_optional(vlm: Vlm, scenes: Task) -> None:
    """Scores with and without it have different identities."""
    plain = replace(scenes, likelihood=False)
    (found,) = score(vlm.model, vlm.processor, [plain]) or ()
    assert found.likelihoods is found.nll is found.nll_stderr is None
    assert plain.identity != scenes.identity


def test_a_template_that_rewrites_the_prompt_is_refused(vlm: Vlm, scenes: Task) -> None:
    template = vlm.processor.chat_template
    vlm.processor.chat_template = "{{ messages | length }}" + template
    try:
        with pytest.raises(EvaluationError, match="rewrites the prompt"):
            score(vlm.model, vlm.processor, [scenes])
    finally:
        vlm.processor.chat_template = template
