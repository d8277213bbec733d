"""What the rivals are given of a pair: what its LLM makes of every document of every task.

    features               last hidden state at the last token of the prompt, image and question
    source probabilities   of the first tokens of the task's most frequent answers, scaled to 1;
                           answers that a tokenizer begins alike get the same
    image, text features   the encoder's alone, and the LLM's of the question without the picture

Seconds of a rival are those of reading all documents, and its share of all scores' seconds.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lmms_eval.protocol import ChatMessages

from mordal_optuna.evaluation.answers import Answerer
from mordal_optuna.rivals.inputs import Inputs, score_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.minigrid.setting import Answers, Setting
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm

_BATCH = 50


def rival_scores(
    vlm: Vlm, setting: Setting, images: Mapping[str, np.ndarray] | None
) -> dict[str, Any]:
    """Scores of all rivals on all tasks, and their seconds.

    Args:
        vlm: a pair.
        setting: its tasks.
        images: the encoder's features of every document's image, by task; None leaves out the
            rival that compares them with texts.

    Returns:
        `scores` by task and rival, `seconds` by rival.
    """
    vlm.model.eval()
    model = Answerer(vlm.model, vlm.processor)
    scores: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    for task in setting.tasks:
        answers = setting.answers(task)
        start = perf_counter()
        inputs = _inputs(model, task, answers)
        if images is not None:
            texts = _read(model, _conversations(task, pictures=False))[0]
            inputs = replace(inputs, image_features=images[task.name], text_features=texts)
        read = perf_counter() - start
        own = score_all(inputs, seed=setting.settings.seed)
        scored = (perf_counter() - start - read) / len(own)
        scores[task.name] = {str(rival): value for rival, value in own.items()}
        for rival in own:
            seconds[rival] = seconds.get(rival, 0.0) + read + scored
    return {"scores": scores, "seconds": seconds}


def _inputs(model: Answerer, task: Task, answers: Answers) -> Inputs:
    conversations = _conversations(task, pictures=True)
    states, logits = _read(model, conversations)
    first = [int(model.answer_ids(conversations[0], text)[0]) for text in answers.asked]
    chances = np.exp(logits[:, first] - logits[:, first].max(axis=1, keepdims=True))
    return Inputs(
        features=states,
        labels=answers.labels,
        embeddings=answers.embeddings,
        source_probabilities=chances / chances.sum(axis=1, keepdims=True),
    )


def _conversations(task: Task, *, pictures: bool) -> list[ChatMessages]:
    documents = task.live.dataset[task.split]
    asked = []
    for number in range(len(task.documents)):
        messages = task.live.doc_to_messages(documents[number])
        if not pictures:
            messages = [
                {**m, "content": [part for part in m["content"] if part["type"] == "text"]}
                for m in messages
            ]
        asked.append(ChatMessages(messages=messages))
    return asked


def _read(model: Answerer, asked: Sequence[ChatMessages]) -> tuple[np.ndarray, np.ndarray]:
    parts = [model.read(asked[n : n + _BATCH]) for n in range(0, len(asked), _BATCH)]
    states, logits = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return states, logits
