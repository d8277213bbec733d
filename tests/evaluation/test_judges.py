"""Tasks that ask a judge are found by their code, before they are scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mordal_optuna.config import TaskSettings
from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.evaluation.judges import judge_of
from mordal_optuna.evaluation.tasks import build_task
from mordal_optuna.evaluation.upstream import UPSTREAM
from mordal_optuna.evaluation.yamls import load_yaml, upstream_folder
from tests.evaluation.local_task import own_task, write_documents

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task

ASKING = """
import functools

from lmms_eval.llm_judge import get_server


class Judge:
    def ask(self, text):
        {ask}


judge = Judge()


def score(doc, results):
    return {{"exact_match": float([judge.ask(r) for r in results][0] == doc["answer"])}}
"""
WAYS = {
    "a name of its module": "return get_server(text)",
    "an import in a function": "import openai; return openai.chat(text)",
    "a submodule": "from urllib.request import urlopen; return urlopen(text)",
    "a function in a function": "return (lambda t: get_server(t))(text)",
}


def with_code(folder: Path, ask: str, metadata: str = "metric: 'exact_match,none'") -> Task:
    write_documents(folder / "data", 4)
    place = own_task(folder / "own", folder / "data", f"{{mordal: {{{metadata}}}}}")
    yaml = place / "my_task.yaml"
    yaml.write_text(yaml.read_text() + "process_results: !function judging.score\n")
    (place / "judging.py").write_text(ASKING.format(ask=ask))
    settings = TaskSettings(name="my_task", likelihood=False)
    return build_task(settings, [place], seed=0)


@pytest.mark.parametrize("way", WAYS)
def test_own_code_that_asks_a_judge_must_name_it(tmp_path: Path, way: str) -> None:
    with pytest.raises(TaskError, match=r"asks a judge \(by `.*`, in judging.py\).*MODEL@DIGEST"):
        with_code(tmp_path, WAYS[way])


def test_importing_a_judge_without_asking_it_is_no_judge(tmp_path: Path) -> None:
    assert with_code(tmp_path, "return text").spec.judge is None


def test_the_judge_is_part_of_the_scores_key(tmp_path: Path) -> None:
    keys = {}
    for number, judge in enumerate(("a@1", "a@2", "b@1", "b@1")):
        metadata = f"metric: 'exact_match,none', judge: '{judge}'"
        task = with_code(tmp_path / str(number), "return text or get_server(text)", metadata)
        keys[number] = task.identity
    assert len(set(keys.values())) == 3
    assert keys[2] == keys[3]


def test_a_judge_without_a_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="metadata.mordal.judge: got 'gpt'"):
        with_code(tmp_path, "return text", "metric: 'exact_match,none', judge: gpt")


@pytest.mark.parametrize("path", ["mmvet/mmvet.yaml", "llava-in-the-wild/llava-in-the-wild.yaml"])
def test_lmms_evals_own_judges_are_refused(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the YAML names one, and where the judge's library refuses to start without a key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    import_lmms_eval()
    name = load_yaml(upstream_folder() / path, "simple")["task"]
    metric = load_yaml(upstream_folder() / path, "simple")["metric_list"][0]["metric"]
    for judge in ("", ", judge: 'gpt@1'"):
        spec = f"{{mordal: {{metric: '{metric},none'{judge}}}}}"
        (tmp_path / "own.yaml").write_text(f"include: {path}\nmetadata: {spec}\n")
        with pytest.raises(TaskError, match=f"'{name}': lmms-eval's own code asks a judge"):
            build_task(TaskSettings(name=name), [tmp_path], seed=0)


@pytest.mark.parametrize("name", UPSTREAM)
def test_the_tasks_that_are_known_here_ask_none(name: str) -> None:
    """MMMU imports a judge, for a variant of it."""
    import_lmms_eval()
    content: dict[str, Any] = load_yaml(upstream_folder() / UPSTREAM[name].yaml, "full")
    judging = [content.get("process_results"), *(m["aggregation"] for m in content["metric_list"])]
    assert judge_of(judging) is None
