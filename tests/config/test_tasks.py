"""Several target tasks: what a study file may say of them, and what they leave as it was."""

from __future__ import annotations

from typing import Any

import pytest

from mordal_optuna.config import parse_study
from mordal_optuna.errors import ConfigError


def several(content: dict[str, Any], *tasks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The content of a study file with several target tasks."""
    return {k: v for k, v in content.items() if k != "task"} | {"tasks": list(tasks)} | changes


GQA, CHARTQA = {"name": "gqa"}, {"name": "chartqa", "weight": 2}


def test_tasks_have_weights_and_all_settings_of_a_task(content: dict[str, Any]) -> None:
    settings = parse_study(several(content, {**GQA, "documents": 300}, CHARTQA))
    assert settings.task is None
    assert settings.task_weights == {"gqa": 1.0, "chartqa": 2.0}
    assert [task.name for task in settings.targets] == ["gqa", "chartqa"]
    assert settings.targets[0].documents == 300


def test_the_scored_tasks_begin_with_the_targets(content: dict[str, Any]) -> None:
    settings = parse_study(several(content, GQA, CHARTQA, also_score=[{"name": "ai2d"}]))
    assert [task.name for task in settings.scored_tasks] == ["gqa", "chartqa", "ai2d"]


def test_one_task_has_no_weight(content: dict[str, Any]) -> None:
    """`tasks` with one entry is searched like `task`."""
    assert parse_study(content).task_weights == {}
    settings = parse_study(several(content, CHARTQA))
    assert settings.task_weights == {}
    assert [task.name for task in settings.targets] == ["chartqa"]


def test_the_fingerprint_of_a_study_with_one_task_has_no_new_key(content: dict[str, Any]) -> None:
    """Studies of older versions stored no `tasks`, and must be found again."""
    assert "tasks" not in parse_study(content).fingerprint()
    assert parse_study(content).fingerprint()["task"]["name"] == "gqa"
    assert "weight" not in parse_study(content).fingerprint()["task"]


def test_weights_are_part_of_the_fingerprint(content: dict[str, Any]) -> None:
    one = parse_study(several(content, GQA, CHARTQA)).fingerprint()
    assert "task" not in one
    assert one != parse_study(several(content, GQA, {"name": "chartqa"})).fingerprint()


@pytest.mark.parametrize(
    ("tasks", "changes", "sentence"),
    [
        ([GQA, CHARTQA], {"task": GQA}, r"^tasks: given beside `task`; .* one of the two"),
        ([], {}, r"^task: missing; this key, or `tasks` for several tasks, is required"),
        ([GQA, GQA], {}, r"^tasks: 'gqa' is named twice"),
        ([GQA, CHARTQA], {"also_score": [GQA]}, r"^also_score: 'gqa' is named twice"),
        ([GQA, {"name": "ai2d", "weight": 0}], {}, r"^tasks.1.weight: got 0; .*greater than 0"),
        ([GQA, {"name": "ai2d", "weight": float("inf")}], {}, r"^tasks.1.weight: got inf; "),
        ([GQA, {"name": "ai2d", "data": "no/such"}], {}, r"^tasks.ai2d.data: 'no/such' does not"),
        ([GQA, {"name": "ai2d", "size": 1}], {}, r"^tasks.1.size: unknown key .*weight"),
        (
            [GQA, {"name": "ai2d", "likelihood": False}],
            {"search": {"curve": "likelihood"}},
            r"^search.curve: 'likelihood' needs .* every target task",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    content: dict[str, Any], tasks: list[Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse_study(several(content, *tasks, **changes))
    assert len(caught.value.problems) == 1
