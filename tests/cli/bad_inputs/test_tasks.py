"""Tasks that cannot be scored: their YAMLs, their code and their documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cli.bad_inputs.cases import FAILED, Bad, World, check, parametrized

if TYPE_CHECKING:
    import pytest

YAML = """\
task: own
dataset_path: DATA
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 4}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {mordal: {metric: "exact_match,none"}}
"""
CODE = """\
def doc_to_visual(doc):
    return [doc["image"].convert("RGB")]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]
"""


def task(old: str = "", new: str = "", code: tuple[str, str] = ("", ""), **keys: Any) -> Any:
    """A task in which a part of the YAML, or of the code, is replaced."""

    def arguments(world: World) -> list[str]:
        data = str(world.zoo / "tasks" / "scenes")
        assert old in YAML
        assert code[0] in CODE
        text = YAML.replace(old, new) if old else YAML + new
        world.write("own/own.yaml", text.replace("DATA", data))
        world.write("own/utils.py", CODE.replace(*code) if code[0] else CODE + code[1])
        changes = {"task": {"name": "own", "documents": 8, **keys}, "task_folders": ["own"]}
        return ["run", world.study(**changes, also_score=[])]

    return arguments


def keys(**changes: Any) -> Any:
    return lambda world: ["run", world.study(**changes)]


def no_documents(world: World) -> list[str]:
    found = task(
        "dataset_path: DATA",
        "dataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}",
    )(world)
    world.write("rows.jsonl", "")
    return found


CASES = [
    Bad("an unknown task", keys(task__name="nosuch"), ["task 'nosuch'", "gqa"]),
    Bad("a task with a judge", keys(task__name="llava_in_the_wild"), ["'llava_in_the_wild'"]),
    Bad("YAML that is none", task("task: own", "task: [own"), ["own.yaml", "line"]),
    Bad("YAML that is a list", task(YAML, "- task: own\n"), ["own"]),
    Bad(
        "another YAML in the folder that is none",
        lambda w: [*task()(w), *w.also("own/other.yaml", "a: [")],
        ["other.yaml", "line"],
    ),
    Bad(
        "a YAML in Latin-1",
        lambda w: [*task()(w), *w.also("own/other.yaml", b"a: \xe9")],
        ["other.yaml", "UTF-8"],
    ),
    Bad("no test_split", task("test_split: test\n", ""), ["test_split"]),
    Bad("another split", task("test_split: test", "test_split: dev"), ["'dev'", "test_split"]),
    Bad("no data path", task("dataset_path: DATA\n", ""), ["dataset_path"]),
    Bad("data that are not there", task("dataset_path: DATA", "dataset_path: ./none"), ["none"]),
    Bad(
        "a syntax error",
        task(code=("def doc_to_text(", "def doc_to_text((")),
        ["utils.py", "line 5"],
    ),
    Bad("an import that fails", task(code=("", "\nimport nosuch_package\n")), ["nosuch_package"]),
    Bad("an error at import", task(code=("", "\n1 / 0\n")), ["utils.py", "ZeroDivisionError"]),
    Bad(
        "a function that is not there",
        task("utils.doc_to_text", "utils.doc_to_txt"),
        ["doc_to_txt"],
    ),
    Bad("a module that is not there", task("utils.doc_to_text", "tools.doc_to_text"), ["tools"]),
    Bad(
        "a KeyError in the question",
        task(code=('doc["question"]', 'doc["query"]')),
        ["'query'", "doc_to_text"],
    ),
    Bad(
        "a KeyError in the image",
        task(code=('doc["image"]', 'doc["img"]')),
        ["'img'", "doc_to_visual"],
    ),
    Bad(
        "an error in the image",
        task(code=('doc["image"].convert("RGB")', "1 / 0")),
        ["doc_to_visual", "ZeroDivisionError"],
    ),
    Bad(
        "a text for an image",
        task(code=('doc["image"].convert("RGB")', '"a.png"')),
        ["doc_to_visual"],
    ),
    Bad(
        "a KeyError in the processing",
        task(
            "",
            "process_docs: !function utils.choose\n",
            code=("", '\ndef choose(docs):\n    return docs.filter(lambda d: d["kind"] == "a")\n'),
        ),
        ["'kind'", "utils.py"],
    ),
    Bad(
        "a KeyError in the results",
        task(
            "",
            "process_results: !function utils.judge\n",
            code=("", '\ndef judge(doc, results):\n    return {"exact_match": doc["gold"]}\n'),
        ),
        ["'gold'"],
    ),
    Bad(
        "results without the metric",
        task(
            "",
            "process_results: !function utils.judge\n",
            code=("", '\ndef judge(doc, results):\n    return {"accuracy": 1.0}\n'),
        ),
        ["exact_match"],
    ),
    Bad("a misspelt column", task("doc_to_target: answer", "doc_to_target: anwser"), ["anwser"]),
    Bad(
        "a misspelt column in a template",
        task("doc_to_target: answer", 'doc_to_target: "{{anwser}}"'),
        ["'anwser' is undefined"],
    ),
    Bad(
        "a misspelt column of answers",
        task('metric: "exact_match,none"', 'metric: "exact_match,none", gold: gold'),
        ["'gold'"],
    ),
    Bad(
        "a misspelt column of clusters",
        task('metric: "exact_match,none"', 'metric: "exact_match,none", cluster_key: page'),
        ["'page'"],
        FAILED,
    ),
    Bad(
        "a misspelt column of options",
        task('metric: "exact_match,none"', 'metric: "exact_match,none", options: choices'),
        ["'choices'"],
    ),
    Bad("no documents", no_documents, ["own"]),
    Bad(
        "all documents filtered out",
        task(
            "",
            "process_docs: !function utils.choose\n",
            code=("", "\ndef choose(docs):\n    return docs.filter(lambda d: False)\n"),
        ),
        ["has no document in the split 'test'"],
    ),
    Bad(
        "no metric that counts",
        task('metadata: {mordal: {metric: "exact_match,none"}}', ""),
        ["{metric: '<metric>,<filter>'}"],
    ),
    Bad(
        "another metric that counts",
        task('"exact_match,none"', '"accuracy,none"'),
        ["'accuracy,none'", "'exact_match,none'"],
    ),
    Bad(
        "a metric without filter",
        task('"exact_match,none"', '"exact_match"'),
        ["metadata.mordal.metric", "'exact_match'"],
    ),
    Bad(
        "an unknown key beside the metric",
        task('"exact_match,none"', '"exact_match,none", chnace: 0.5'),
        ["chnace", "chance"],
    ),
    Bad("an unknown metric", task("metric: exact_match", "metric: exactmatch"), ["exactmatch"]),
    Bad("an unknown output", task("generate_until", "generate"), ["output_type", "generate"]),
    Bad("more documents than there are", task(documents=10**6), ["1000000", "the task has"]),
    Bad(
        "more early documents than there are",
        task(early_documents=[{"below": 0.5, "documents": 8}], documents=4),
        ["early_documents"],
    ),
    Bad(
        "data of another task",
        keys(task={"name": "scienceqa_img", "data": "images"}, also_score=[]),
        ["scienceqa_img"],
    ),
    Bad("no image", task(code=('[doc["image"].convert("RGB")]', "[]")), ["has no image"]),
]


@parametrized(CASES)
def test_a_bad_task_is_one_sentence(
    case: Bad, real: World, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, real, capsys)
