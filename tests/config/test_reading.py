"""The study file: every problem is one sentence that names key, value and what is allowed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mordal_optuna.config import differences, parse_study, read_study
from mordal_optuna.config.shipped import shipped
from mordal_optuna.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mordal_optuna.config import AlignmentSettings


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        section: Any = content
        for part in parents:
            section = (
                section.setdefault(part, {}) if isinstance(section, dict) else section[int(part)]
            )
        section[last] = value

    return change


def _add_llm(**model: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["pool"]["llms"].append(model)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_set("sede", 1), r"^sede: unknown key \(value 1\); allowed here: alignment, also_score"),
        (_set("search.etaa", 1), r"^search.etaa: unknown key .*allowed here: .*eta, "),
        (_set("alignment.lora", {"rang": 8}), r"^alignment.lora.rang: unknown key .*rank"),
        (_set("seed", "x"), r"^seed: got 'x'; input should be a valid integer"),
        (
            _set("search.method", "magic"),
            r"^search.method: got 'magic'; .*'grid', .*or 'best-parts'",
        ),
        (
            _set("search.vision_threshold", 3),
            r"^search.vision_threshold: got 3; allowed are 'auto'",
        ),
        (_set("search.eta", 1), r"^search.eta: got 1; .*greater than or equal to 2"),
        (_set("search.first_ratio", 0.5), r"^search.first_ratio: 0.5 .* max_ratio 0.0625"),
        (
            _set("task.early_documents", [{"below": 0.2, "documents": 9}] * 2),
            r"^task.early_documents: 9 documents below 0.2 follow 9 below 0.2; both must grow",
        ),
        (
            _set(
                "task",
                {
                    "name": "gqa",
                    "documents": 8,
                    "early_documents": [{"below": 0.2, "documents": 9}],
                },
            ),
            r"^task.early_documents: more than the 8 documents",
        ),
        (_set("also_score", [{"name": "gqa"}]), r"^also_score: 'gqa' is named twice"),
        (
            lambda c: c.update(
                task={"name": "gqa", "likelihood": False}, search={"curve": "likelihood"}
            ),
            r"^search.curve: 'likelihood' needs `likelihood: true`",
        ),
        (
            _set("search", {"method": "mordal-faithful", "curve": "likelihood"}),
            r"^search.curve: 'likelihood' cannot be combined with max_fit_loss",
        ),
        (
            _set("search.popular", ["clip", "gpt"]),
            r"^search.popular: 'gpt' is not in the pool; it has qwen",
        ),
        (_set("pool.llms", []), r"^pool.llms: empty; at least one"),
        (_add_llm(name="qwen", location="a/b"), r"^pool.llms: 'qwen' at 'a/b' appears twice"),
        (
            _add_llm(name="two", location="Qwen/Qwen2-0.5B", revision="main"),
            r"^pool.llms: 'two' at 'Qwen/Qwen2-0.5B' appears twice",
        ),
        (_add_llm(name="x", location="./none"), r"^pool.llms.x.location: './none' is no existing"),
        (_set("alignment.samples", 100), r"^alignment.samples: 100 is not a whole .* 96 is"),
        (_set("alignment.images", "nowhere"), r"^alignment.images: 'nowhere' does not exist"),
        (_set("task.data", "nowhere"), r"^task.data: 'nowhere' does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(
    content: dict[str, Any], change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    change(content)
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse_study(content)
    assert len(caught.value.problems) == 1


def test_all_mistakes_are_shown_at_once(content: dict[str, Any]) -> None:
    _set("seed", -1)(content)
    del content["task"]
    with pytest.raises(ConfigError) as caught:
        parse_study(content)
    assert len(caught.value.problems) == 2
    assert "task: missing" in str(caught.value)


def test_what_is_no_study_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_study(tmp_path / "none.yaml")
    for text, sentence in (("a: [", "not valid YAML"), ("- 1", "must hold a mapping")):
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            read_study(tmp_path / "study.yaml")


def test_differences_name_nested_keys(content: dict[str, Any]) -> None:
    other = copy.deepcopy(content)
    _set("search.eta", 4)(other)
    _set("seed", 7)(other)
    lines = differences(parse_study(content).fingerprint(), parse_study(other).fingerprint())
    assert lines == ["search.eta: 2 stored, 4 given", "seed: 0 stored, 7 given"]


def test_differences_of_lists_go_by_name_and_show_no_mapping() -> None:
    """Models and tasks are matched by name; values are shown as in a study file."""

    def models(*given: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"name": name, "location": place, "revision": None} for name, place in given]

    stored = {"llms": models(("a", "x"), ("b", "y")), "lora": {"rank": 1}, "also": [], "on": True}
    given = {"llms": models(("b", "z"), ("c", "y")), "lora": None, "also": models(("t", "x"))}
    assert differences(stored, given | {"on": None}) == [
        "also.t: not stored, given",
        "llms.a: stored, not given",
        "llms.b.location: y stored, z given",
        "llms.c: not stored, given",
        "lora.rank: 1 stored, not given",
        "on: true stored, null given",
    ]
    order = {"llms": list(reversed(stored["llms"]))}
    assert differences({"llms": stored["llms"]}, order) == ["llms: [a, b] stored, [b, a] given"]
    assert differences({"p": ["a"], "x": 1}, {"p": ["a", "b"]}) == [
        "p: [a] stored, [a, b] given",
        "x: 1 stored, not given",
    ]


@pytest.mark.parametrize("path", sorted(shipped("studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_study_files_are_valid_and_round_trip(path: Path) -> None:
    settings = read_study(path, places=False)
    again = yaml.safe_load(yaml.safe_dump(settings.model_dump(mode="json")))
    assert parse_study(again, places=False) == settings


def test_the_faithful_preset_sets_the_papers_values_where_nothing_is_said(
    content: dict[str, Any],
) -> None:
    content["search"] = {"method": "mordal-faithful", "top_clusters": 5}
    settings = parse_study(content)
    assert settings.search.max_fit_loss == 5e-5
    assert settings.search.vision_threshold == 0.7
    assert settings.search.top_clusters == 5
    assert settings.representation.similarity == "cka-biased"
    content["representation"] = {"similarity": "mutual-knn"}
    assert parse_study(content).representation.similarity == "mutual-knn"


def test_the_faithful_preset_trains_by_the_papers_recipe_where_nothing_is_said(
    content: dict[str, Any],
) -> None:
    """Values set in the file stay, so that its checkpoints keep their addresses."""
    data = {key: content["alignment"][key] for key in ("conversations", "images")}

    def recipe(method: str, **said: Any) -> AlignmentSettings:
        study = {**content, "search": {"method": method}, "alignment": {**data, **said}}
        return parse_study(study).alignment

    papers = recipe("mordal-faithful")
    assert (papers.learning_rate, papers.schedule, papers.batch_size) == (1e-4, "linear", 4)
    for method in ("mordal", "grid", "all-at-ratio"):
        ours = recipe(method)
        assert (ours.learning_rate, ours.schedule, ours.batch_size) == (2e-4, "constant", 128)
    said = {"learning_rate": 2e-4, "schedule": "constant", "batch_size": 128}
    for key, value in said.items():
        assert getattr(recipe("mordal-faithful", **{key: value}), key) == value
    chosen = recipe("mordal-faithful", **said)
    assert chosen.recipe == "mordal"
    unnamed = chosen.model_copy(update={"recipe": None})
    assert unnamed == recipe("mordal") == recipe("mordal", **said)


@pytest.mark.parametrize("key", ["alignment", "representation"])
def test_a_section_that_is_no_mapping_is_still_a_mistake(
    content: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: got 'x'"):
        parse_study({**content, "search": {"method": "mordal-faithful"}, key: "x"})
