"""What generates the answers: which engines fit a study file, and what they change in its name."""

from __future__ import annotations

from typing import Any

import pytest

from mordal_optuna.config import EvaluationSettings, parse_study
from mordal_optuna.errors import ConfigError


@pytest.fixture
def without_likelihood(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"task": content["task"] | {"likelihood": False}, "also_score": []}


def test_studies_of_the_live_model_keep_the_names_that_they_had(content: dict[str, Any]) -> None:
    assert "evaluation" not in parse_study(content).fingerprint()
    assert EvaluationSettings().mark() == ""


def test_another_engine_or_argument_is_another_study_and_another_score(
    without_likelihood: dict[str, Any],
) -> None:
    def named(**evaluation: Any) -> tuple[Any, str]:
        settings = parse_study(without_likelihood | {"evaluation": evaluation})
        return settings.fingerprint().get("evaluation"), settings.evaluation.mark()

    plain = named(engine="vllm")
    assert plain[1] == "vllm"
    faster = {"gpu_memory_utilization": 0.5, "batch_size": 8}
    assert named(engine="vllm", arguments=faster) == plain
    other = named(engine="vllm", arguments={"quantization": "fp8"})
    assert len({str(named()), str(plain), str(named(engine="sglang")), str(other)}) == 4
    marks = {named()[1], plain[1], named(engine="sglang")[1], other[1]}
    assert len(marks) == 4
    assert max(map(len, marks)) <= 18, "the store's key of 128 characters has room for no more"


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        ({"engine": "tgi"}, "'live', 'vllm', 'sglang' or 'llava_hf'"),
        ({"arguments": {"dtype": "half"}}, "`engine: live` takes none"),
        ({"engine": "vllm", "arguments": {"model": "x"}}, "'model' follows from the export"),
    ],
)
def test_what_does_not_fit_is_refused(
    without_likelihood: dict[str, Any], evaluation: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_study(without_likelihood | {"evaluation": evaluation})


def test_an_engine_needs_tasks_without_likelihood(content: dict[str, Any]) -> None:
    task = content["task"]["name"]
    with pytest.raises(ConfigError, match=f"measures no likelihoods; .*false` for {task}"):
        parse_study(content | {"evaluation": {"engine": "vllm"}})
