"""Time of an evaluation without the model: `simple_evaluate` against our scoring.

    uv run python -m benchmarks.evaluation_overhead.run

AI2D's task code scores documents of 640 x 480 pixels in the hub's schema, with answers from a
table, after one uncounted evaluation. Then loading GQA is timed, as lmms-eval does it and as we do
it. Both ways must give equal scores.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results.json"
DOCUMENTS = (100, 500, 3088)
QUESTIONS = 200
LETTERS = "ABCD"


def picture(seed: int) -> bytes:
    """A JPEG about as large as a photograph: upscaled noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((640, 480)).save(file, "jpeg", quality=90)
    return file.getvalue()


def save(folder: Path, name: str, split: str, rows: list[dict[str, Any]]) -> None:
    """Write one configuration as Parquet and add it to the dataset card."""
    from datasets import Dataset, Image

    file = f"{name}.parquet"
    dataset = Dataset.from_list(rows)
    if "image" in rows[0]:
        dataset = dataset.cast_column("image", Image())
    folder.mkdir(parents=True, exist_ok=True)
    dataset.to_parquet(folder / file)
    card = folder / "README.md"
    before = card.read_text().removesuffix("---\n") if card.is_file() else "---\nconfigs:\n"
    entry = f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {file}\n"
    card.write_text(f"{before}{entry}---\n")


def ai2d(folder: Path, documents: int) -> None:
    """Write multiple-choice documents in AI2D's schema."""
    rows = [
        {
            "question": f"Which part is {n}?",
            "options": ["root", "leaf", "stem", "seed"],
            "answer": str(n % 4),
            "image": {"bytes": picture(n), "path": None},
        }
        for n in range(documents)
    ]
    save(folder, "default", "test", rows)


def gqa(folder: Path) -> None:
    """Write questions in GQA's schema, about 40 pictures."""
    save(
        folder,
        "testdev_balanced_instructions",
        "testdev",
        [
            {"id": str(n), "imageId": f"n{n % 40}", "question": f"What {n}?", "answer": "red"}
            for n in range(QUESTIONS)
        ],
    )
    images = [{"id": f"n{n}", "image": {"bytes": picture(n), "path": None}} for n in range(40)]
    save(folder, "testdev_balanced_images", "testdev", images)


def oracle() -> Any:
    """A model that answers from a table; every other answer is right."""
    import torch
    from lmms_eval.api.model import lmms

    class Table(lmms):
        is_simple = False
        device = torch.device("cpu")

        def clean(self) -> None:
            """Required by lmms-eval of models that are used again."""

        def generate_until(self, requests: list[Any]) -> list[str]:
            answers = self.answers
            return [answers[request.args[3]] for request in requests]

        loglikelihood = generate_until
        generate_until_multi_round = generate_until

    model = Table()
    model.answers = [LETTERS[n % 4 if n % 2 else (n + 1) % 4] for n in range(max(DOCUMENTS))]
    return model


def plain(config: dict[str, Any], model: Any) -> tuple[float, float]:
    """Seconds and score of `simple_evaluate` with an existing task and task manager."""
    from lmms_eval.api.task import ConfigurableMessagesTask
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from mordal_optuna.evaluation.guards import quiet

    with quiet():
        task = ConfigurableMessagesTask(config=config, model_name="x")
        manager = TaskManager(include_defaults=False)  # the default one takes seconds every time
        seconds = []
        for _ in range(2):
            start = perf_counter()
            evaluated = simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=manager,
                distributed_executor_backend="torchrun",
            )
            seconds.append(perf_counter() - start)
    return seconds[-1], float(evaluated["results"]["ai2d"]["exact_match,flexible-extract"])


def ours(folder: Path, model: Any) -> tuple[float, float]:
    """Seconds and score of our scoring, with values of documents, clusters and standard error."""
    from mordal_optuna.config import TaskSettings
    from mordal_optuna.evaluation import score as module
    from mordal_optuna.evaluation.tasks import build_task

    # A table has no likelihoods, and none of its answers is cut off.
    task = build_task(TaskSettings(name="ai2d", data=folder, likelihood=False), [], seed=0)
    cut = dict.fromkeys(((task.name, row) for row in range(len(task.documents))), False)
    seconds = []
    for _ in range(2):
        start = perf_counter()
        scored = module._score(module._evaluate(model, [task]), task, {}, cut)
        seconds.append(perf_counter() - start)
    return seconds[-1], scored.value


def loading(folder: Path) -> dict[str, float]:
    """Seconds to load GQA's task in both ways."""
    import datasets
    import lmms_eval.tasks
    from lmms_eval import utils
    from lmms_eval.api.task import ConfigurableMessagesTask

    from mordal_optuna.config import TaskSettings
    from mordal_optuna.evaluation.guards import quiet
    from mordal_optuna.evaluation.tasks import build_task

    start = perf_counter()
    build_task(TaskSettings(name="gqa", data=folder), [], seed=0)
    ours_seconds = perf_counter() - start
    load = datasets.load_dataset

    def local(path: str, *arguments: Any, **options: Any) -> Any:  # noqa: ARG001 - the hub id
        options.pop("token", None)
        return load(str(folder), *arguments, **options)

    file = f"{lmms_eval.tasks.__path__[0]}/gqa/gqa.yaml"
    with patch.object(datasets, "load_dataset", local), quiet():
        start = perf_counter()
        config = utils.load_yaml_config(file, mode="full") | {"dataset_kwargs": {}}
        ConfigurableMessagesTask(config=config, model_name="x")
    return {"ours": ours_seconds, "upstream": perf_counter() - start}


def main() -> None:
    """Measure with a fresh cache of data sets."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        # A fresh cache: an older one could contain GQA's documents already.
        os.environ["HF_DATASETS_CACHE"] = str(Path(scratch) / "cache")
        measure(scratch)


def measure(scratch: str) -> None:
    """Time all evaluations, then loading GQA; print the times and write results.json."""
    from mordal_optuna.evaluation.guards import import_lmms_eval

    import_lmms_eval()
    import lmms_eval.tasks
    from lmms_eval import utils

    model, rows = oracle(), []
    file = f"{lmms_eval.tasks.__path__[0]}/ai2d/ai2d.yaml"
    for documents in DOCUMENTS:
        folder = Path(scratch) / str(documents) / "ai2d"
        ai2d(folder, documents)
        config = utils.load_yaml_config(file, mode="full")
        config |= {"dataset_path": str(folder), "dataset_kwargs": {"cache_dir": f"{folder}-c"}}
        theirs, expected = plain(config, model)
        seconds, value = ours(folder, model)
        assert abs(value - expected) < 1e-9, (value, expected)
        rows.append({"documents": documents, "plain": theirs, "ours": seconds})
        print(
            f"{documents:6,} documents: plain {theirs:7.3f} s, ours {seconds:7.3f} s, "
            f"{theirs / seconds:5.1f} times"
        )
    gqa(Path(scratch) / "gqa")
    load = loading(Path(scratch) / "gqa")
    print(
        f"GQA, {QUESTIONS} questions: upstream {load['upstream']:.1f} s, ours {load['ours']:.2f} s"
    )
    about = machine("lmms-eval", "datasets", "torch")
    content = {"machine": about, "evaluations": rows, "gqa": {"questions": QUESTIONS, **load}}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
