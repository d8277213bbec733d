"""Inputs of the rivals for one pair, computed by its LLM from every document of every task.

    features               last hidden state at the last token of the prompt, image and question
    source probabilities   probabilities of the first tokens of the task's most frequent answers,
                           scaled to sum 1; answers with the same first token get the same value
    image, text features   the encoder's features alone, and the LLM's features of the question
                           without the picture

The seconds of a rival are those of reading all documents plus an equal share of the seconds of
all scores.
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

    from benchmarks.minigrid.make.setting import Answers, Setting
    from mordal_optuna.evaluation.task import Task
    from mordal_optuna.models.assemble import Vlm

_BATCH = 50


def rival_scores(
    vlm: Vlm, setting: Setting, images: Mapping[str, np.ndarray] | None
) -> dict[str, Any]:
    """Scores of all rivals on all tasks, with seconds.

    Args:
        vlm: the pair.
        setting: the study.
        images: the encoder's features of every document's image, by task; None omits the rival
            that compares images with texts.

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
        by_rival = score_all(inputs, seed=setting.settings.seed)
        scored = (perf_counter() - start - read) / len(by_rival)
        scores[task.name] = {str(rival): value for rival, value in by_rival.items()}
        for rival in by_rival:
            seconds[rival] = seconds.get(rival, 0.0) + read + scored
    return {"scores": scores, "seconds": seconds}


def _inputs(model: Answerer, task: Task, answers: Answers) -> Inputs:
    conversations = _conversations(task, pictures=True)
    states, logits = _read(model, conversations)
    first = [int(model.answer_ids(conversations[0], text)[0]) for text in answers.asked]
    probabilities = np.exp(logits[:, first] - logits[:, first].max(axis=1, keepdims=True))
    return Inputs(
        features=states,
        labels=answers.labels,
        embeddings=answers.embeddings,
        source_probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
    )


def _conversations(task: Task, *, pictures: bool) -> list[ChatMessages]:
    documents = task.live.dataset[task.split]
    conversations = []
    for number in range(len(task.documents)):
        messages = task.live.doc_to_messages(documents[number])
        if not pictures:
            messages = [
                {**m, "content": [part for part in m["content"] if part["type"] == "text"]}
                for m in messages
            ]
        conversations.append(ChatMessages(messages=messages))
    return conversations


def _read(model: Answerer, conversations: Sequence[ChatMessages]) -> tuple[np.ndarray, np.ndarray]:
    parts = [
        model.read(conversations[n : n + _BATCH]) for n in range(0, len(conversations), _BATCH)
    ]
    states, logits = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return states, logits
