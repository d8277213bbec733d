"""A task defined in a local folder, and documents for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PilImage

from mordal_optuna.config import TaskSettings
from mordal_optuna.evaluation.tasks import build_task

if TYPE_CHECKING:
    from pathlib import Path

    from mordal_optuna.evaluation.task import Task

OWN = """
task: my_task
dataset_path: {data}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata: {metadata}
"""


def own_task(folder: Path, data: Path, metadata: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_task.yaml").write_text(OWN.format(data=data, metadata=metadata))
    return folder


def write_documents(
    folder: Path,
    count: int,
    answer: str = "red",
    color: str = "black",
    choices: list[list[str] | None] | None = None,
) -> None:
    image, text = PilImage.new("RGB", (8, 8), color), Value("string")
    rows = [
        {"id": str(n), "image": image, "question": "What?", "answer": answer}
        | ({"choices": choices[n]} if choices else {})
        for n in range(count)
    ]
    features = Features(id=text, image=Image(), question=text, answer=text) | (
        {"choices": List(text)} if choices else {}
    )
    features = Features(features)
    folder.mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n"
        "    path: test.parquet\n---\n"
    )


def scenes_with_options(
    folder: Path, options: list[list[str] | None], field: str = "choices"
) -> Task:
    """A task whose documents list options."""
    write_documents(folder / "scenes", len(options), choices=options)
    yaml_folder = own_task(
        folder / "yaml",
        folder / "scenes",
        f"{{mordal: {{metric: 'exact_match,none', options: {field}}}}}",
    )
    return build_task(TaskSettings(name="my_task"), [yaml_folder], seed=0)


def task_with_functions(folder: Path, data: Path) -> Task:
    """A task whose YAML includes another one and calls a function of a Python file."""
    if not folder.exists():
        own_task(folder / "mine", data, "{mordal: {metric: 'exact_match,none'}}")
        file = folder / "mine" / "my_task.yaml"
        text = file.read_text().replace('"{{question}}"', "!function utils.doc_to_text")
        file.write_text("include: ../common.yaml\n" + text)
        (folder / "common.yaml").write_text("generation_kwargs: {max_new_tokens: 4}\n")
        (folder / "mine" / "utils.py").write_text("def doc_to_text(doc):\n    return 'a'\n")
        (folder / "mine" / "other.yaml").write_text("task: other\n")
    return build_task(TaskSettings(name="my_task"), [folder], seed=0)
