"""Scoring by an engine, shown with lmms-eval's own `llava_hf`, which reads the same export."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import AutoProcessor

from mordal_optuna.config import LoraSettings
from mordal_optuna.errors import EvaluationError, ModelError
from mordal_optuna.evaluation.engines import ENGINES
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.score import Score, score, score_by_engine
from mordal_optuna.models.assemble import Vlm, assemble
from mordal_optuna.pool import ModelSource
from tests.evaluation.fake_decord import fake_decord
from tests.evaluation.test_published_llava import llama_tokenizer

import_lmms_eval()

from mordal_optuna.evaluation import engine_model  # noqa: E402 - after the guarded import

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`llava_hf` can be imported; what it sets up in Accelerate is undone."""
    fake_decord(monkeypatch)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def trained(zoo: Path, cpu: torch.device) -> Vlm:
    """A candidate whose LoRA changes its answers."""
    encoder = ModelSource("clip", str(zoo / "encoders" / "clip-t"))
    llm = ModelSource("llama", str(zoo / "llms" / "llama-t"))
    lora = LoraSettings(rank=4, alpha=8)
    vlm = assemble(encoder, llm, lora=lora, precision="fp32", seed=0, device=cpu)
    with torch.no_grad():
        for name, parameter in vlm.trainable().items():
            if "lora_B" in name:
                parameter.fill_(0.05)
    return vlm


@pytest.fixture
def tasks(scenes: Task, scienceqa: Task) -> list[Task]:
    return [replace(task, likelihood=False).subset(8) for task in (scenes, scienceqa)]


def by_llava_hf(vlm: Vlm, tasks: list[Task], folder: Path, **arguments: Any) -> tuple[Score, ...]:
    device = torch.device("cpu")
    return score_by_engine(
        "llava_hf", vlm, tasks, device=device, arguments=arguments, folder=folder
    )


def test_the_engine_gives_the_live_models_scores_and_leaves_it_as_it_was(
    engine: None, trained: Vlm, tasks: list[Task], tmp_path: Path
) -> None:
    """In fp32 merging changes no answer. The optimiser's parameters stay the same objects."""
    before = {n: (p, p.detach().clone()) for n, p in trained.model.named_parameters()}
    live = score(trained.model, trained.processor, tasks)
    found = by_llava_hf(trained, tasks, tmp_path / "engine")
    assert live is not None
    for one, other in zip(live, found, strict=True):
        assert one.per_document == other.per_document
        assert (other.engine, other.differing) == ("llava_hf", 0.0)
        assert (one.engine, one.differing) == (None, None)
        assert (other.likelihoods, other.cut) == (None, None)
        assert other.seconds > 0
    after = dict(trained.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[n] is p and torch.equal(p, value) for n, (p, value) in before.items())
    assert list((tmp_path / "engine").iterdir()) == [], "the export is removed"


def test_the_share_of_differing_answers_is_that_of_the_compared_documents(
    engine: None,
    trained: Vlm,
    tasks: list[Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of four compared documents of each task, the engine answers one of the first otherwise."""
    monkeypatch.setattr(engine_model, "COMPARED", 4)
    built = engine_model._built

    def odd(*arguments: Any) -> Any:
        model = built(*arguments)
        answer = model.generate_until

        def changed(requests: list[Any]) -> list[Any]:
            answers = answer(requests)
            answers[0] = replace(answers[0], text="something else")
            return list(answers)

        model.generate_until = changed
        return model

    monkeypatch.setattr(engine_model, "_built", odd)
    first, second = by_llava_hf(trained, tasks, tmp_path)
    assert (first.differing, second.differing) == (0.25, 0.0)


def test_an_error_that_the_engine_swallows_fails_the_evaluation(
    engine: None,
    trained: Vlm,
    tasks: list[Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`llava_hf` logs what generation raises, and answers with nothing."""
    from transformers import LlavaForConditionalGeneration

    generate = LlavaForConditionalGeneration.generate

    def failing(self: Any, **inputs: Any) -> Any:
        if self is not trained.model:
            raise RuntimeError("kernel")
        return generate(self, **inputs)

    monkeypatch.setattr(LlavaForConditionalGeneration, "generate", failing)
    with pytest.raises(EvaluationError, match="'llava_hf' could not answer document 0"):
        by_llava_hf(trained, tasks, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_cannot_be_built_is_named(
    engine: None, trained: Vlm, tasks: list[Task], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="llava_hf.*unknown_option"):
        by_llava_hf(trained, tasks, tmp_path, unknown_option=1)


def test_an_engine_without_beams_refuses_them(
    trained: Vlm, tasks: list[Task], tmp_path: Path
) -> None:
    model = engine_model.engine_model(
        ENGINES["vllm"], trained, tasks, device=torch.device("cpu"), arguments={}, folder=tmp_path
    )

    class Request:
        args = ("", None, {"num_beams": 3}, 0, "scenes", "test")

    with pytest.raises(EvaluationError, match="3 beams; the engine 'vllm' has one"):
        model._as_asked(Request())  # type: ignore[arg-type]


def test_the_engine_reads_prompts_without_the_tokens_that_the_tokenizer_adds(
    tmp_path: Path, trained: Vlm
) -> None:
    """LLaVA's own loading would put BOS before a prompt whose template has written it."""
    tokenizer = llama_tokenizer()
    trained.processor.tokenizer = tokenizer
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    engine_model._template_only(trained.processor).save_pretrained(tmp_path)
    reread = AutoProcessor.from_pretrained(tmp_path).tokenizer
    plain = tokenizer("<s>USER: a", add_special_tokens=False)["input_ids"]
    assert reread("<s>USER: a")["input_ids"] == plain
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id, "the live one is unchanged"
