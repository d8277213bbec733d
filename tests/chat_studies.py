"""A small study over LLMs of many chat families, on conversations of several turns, in bf16."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.evaluation.local_task import write_documents
from tests.families import random_encoder
from tests.families.chats import CHATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# What the conversations say, in turns; the task asks the first question alone.
WHAT, WHERE, SURE = ("What?", "red"), ("Where is it?", "north"), ("Sure?", "yes")
_CONVERSATIONS = ((WHAT,), (WHERE, WHAT), (WHAT, WHERE, SURE, WHAT))
_SAMPLES = 96
_TASK = """
task: my_task
dataset_path: documents
output_type: generate_until
test_split: test
doc_to_visual: !function utils.doc_to_visual
doc_to_text: "{{question}}"
doc_to_target: answer
generation_kwargs: {max_new_tokens: 12}
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata: {mordal: {metric: 'exact_match,none'}}
"""
# Pictures differ in a point, since equal ones cannot be compared.
_UTILS = """
def doc_to_visual(doc):
    image = doc["image"].convert("RGB")
    image.putpixel((2 * int(doc["id"]), 4), (0, 0, 255))
    return [image]
"""


def chat_study(folder: Path, names: Sequence[str], **changed: Any) -> dict[str, Any]:
    """Content of a study file; every LLM is on the disk, and can learn the one conversation.

    Args:
        folder: existing folder for models, data and the study.
        names: keys of `CHATS`.
        changed: further keys of the study file, or other values.
    """
    encoder = random_encoder(folder, "clip")
    sources = [CHATS[name].save(folder / "llms") for name in names]
    return {
        "study": "chats",
        "workdir": str(folder / "run"),
        "pool": {
            "vision_encoders": [{"name": "clip", "location": encoder.location}],
            "llms": [{"name": s.name, "location": s.location} for s in sources],
        },
        "alignment": {
            **conversations(folder),
            "batch_size": 4,
            "learning_rate": 0.01,
            "schedule": "linear",
            "warmup_samples": 4,
            "lora": {"rank": 8, "alpha": 16},
            "max_length": 400,
        },
        "task_folders": [str(task(folder))],
        "task": {"name": "my_task"},
        "search": {"method": "grid", "first_ratio": 0.5, "max_ratio": 0.5},
        "representation": {"images": 4, "warmup_samples": 8},
        "runtime": {"device": "cpu"},
        **changed,
    }


def conversations(folder: Path) -> dict[str, Any]:
    """Alignment data: conversations of one to three turns on a red picture."""
    (folder / "images").mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "images" / "red.png")
    samples = []
    for number in range(_SAMPLES):
        turns = _CONVERSATIONS[number % len(_CONVERSATIONS)]
        said = [
            {"from": speaker, "value": value}
            for turn in turns
            for speaker, value in zip(("human", "gpt"), turn, strict=True)
        ]
        said[0]["value"] = "<image>\n" + said[0]["value"]
        samples.append({"id": str(number), "image": "red.png", "conversations": said})
    path = folder / "conversations.json"
    path.write_text(json.dumps(samples))
    return {"conversations": str(path), "images": str(folder / "images")}


def task(folder: Path) -> Path:
    """A folder with a task of four documents: red pictures, and the first question."""
    write_documents(folder / "documents", 4, color="red")
    place = folder / "tasks"
    place.mkdir()
    (place / "my_task.yaml").write_text(_TASK.replace("documents", str(folder / "documents")))
    (place / "utils.py").write_text(_UTILS)
    return place
