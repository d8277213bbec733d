"""A task that is ready to be scored: lmms-eval's task object, its metric and its documents."""

from __future__ import annotations

import copy
import hashlib
import json
from ast import literal_eval
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mordal_optuna.errors import TaskError
from mordal_optuna.evaluation.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mordal_optuna.evaluation.metric import MetricSpec
    from mordal_optuna.evaluation.source import TaskSource

# Token limit of answers to tasks that set none.
ANSWER_TOKENS = 64


@dataclass(frozen=True)
class Task:
    """A task that can be scored any number of times.

    Attributes:
        name: name of the task in lmms-eval.
        spec: main metric, reference answers and images.
        live: lmms-eval's task object.
        split: name of the scored split.
        documents: original indices of the scored documents, ascending.
        batch_size: number of documents generated for at once.
        likelihood: whether the likelihood of the reference answers is measured as well.
        clusters: cluster number of each document, such as one number per image; None where all
            documents are independent.
        order: original indices of all documents of the split; the first n form the subset of n.
        definition_digests: digests of the prompt, the metric, lmms-eval's version and the task's
            Python files.
        document_digests: digest of each document, images included.
        source: location of the YAML and of local data.
    """

    name: str
    spec: MetricSpec
    live: Any
    split: str
    documents: tuple[int, ...]
    batch_size: int = 16
    likelihood: bool = True
    clusters: tuple[int, ...] | None = field(default=None, repr=False)
    order: tuple[int, ...] = field(default=(), repr=False)
    definition_digests: Mapping[str, str] = field(default_factory=dict, repr=False)
    document_digests: tuple[str, ...] = field(default=(), repr=False)
    source: TaskSource | None = field(default=None, repr=False)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of everything that shapes a score on this task, except the model."""
        shaped = [
            dict(self.definition_digests),
            self.likelihood,
            self.documents,
            self.document_digests,
        ]
        return hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()

    @cached_property
    def rows(self) -> Rows:
        """The documents without images, in memory."""
        return Rows(self.live.dataset_no_image[self.split])

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer."""
        options = self.live.config.generation_kwargs or {}
        return int(options.get("max_new_tokens", ANSWER_TOKENS))

    @cached_property
    def chance(self) -> float:
        """Score of random guessing, 0..1; the mean of 1/n where documents list n options.

        Raises:
            TaskError: if the documents lack the declared `options` field.
        """
        if self.spec.options is None:
            return self.spec.chance
        documents = self.live.dataset_no_image[self.split]
        if self.spec.options not in documents.column_names:
            raise self._missing_field("options", self.spec.options, documents.column_names)
        listed = documents.select_columns([self.spec.options])[self.spec.options]
        counts = [len(_parse_options(options)) for options in listed]
        return float(np.mean([1 / n if n > 1 else 0.0 for n in counts]))

    def reference(self, document: int) -> str:
        """The reference answer of a document.

        Among several, the most frequent one is taken, and the first of equally frequent ones.

        Args:
            document: position of the document in `documents`.

        Raises:
            TaskError: if the document has no reference answer.
        """
        row = self.rows[document]
        if self.spec.gold and self.spec.gold not in row:
            raise self._missing_field("gold", self.spec.gold, row)
        target = row[self.spec.gold] if self.spec.gold else self.live.doc_to_target(row)
        if isinstance(target, int) and self.live.config.doc_to_choice is not None:
            target = self.live.doc_to_choice(row)[target]
        if isinstance(target, str) and target[:1] == "[" and target[-1:] == "]":
            target = literal_eval(target)  # MMMU writes a list of answers as text
        answers = [str(a) for a in target] if isinstance(target, list | tuple) else [str(target)]
        if not answers or not answers[0]:
            raise TaskError(
                self.name,
                f"document {document} has no reference answer; set `likelihood: false` to do "
                "without the likelihood of answers",
            )
        return max(answers, key=answers.count)

    def references(self, count: int) -> tuple[str, ...]:
        """The reference answers of the first documents.

        Args:
            count: largest number of documents.

        Returns:
            The answers; none if the study does without them and a document has none.

        Raises:
            TaskError: if a document has no reference answer, which the likelihood needs.
        """
        try:
            return tuple(self.reference(n) for n in range(min(count, len(self.documents))))
        except TaskError:
            if self.likelihood:
                raise
            return ()

    def subset(self, count: int) -> Task:
        """The same task on the first `count` documents of its nested order.

        Args:
            count: number of documents, from 1 to the number of scored documents.

        Raises:
            TaskError: if `count` is out of range.
        """
        if not 1 <= count <= len(self.documents):
            raise TaskError(
                self.name,
                f"{count} documents asked for; it is scored on {len(self.documents)}, and at "
                "least 1 is needed",
            )
        if count == len(self.documents):
            return self
        chosen = sorted(self.order[:count])
        place = {document: row for row, document in enumerate(self.documents)}
        rows = [place[document] for document in chosen]
        live = copy.copy(self.live)  # lmms-eval sets its requests anew for every evaluation
        select_documents(live, self.split, rows)
        clusters = None if self.clusters is None else tuple(self.clusters[row] for row in rows)
        return replace(
            self,
            live=live,
            documents=tuple(chosen),
            clusters=clusters,
            document_digests=tuple(self.document_digests[row] for row in rows),
        )

    def _missing_field(self, key: str, name: str, fields: Iterable[str]) -> TaskError:
        return TaskError(
            self.name, f"declares {key}: {name!r}; its documents have {', '.join(fields)}"
        )


def select_documents(live: Any, split: str, rows: Sequence[int]) -> None:
    """Keep some documents of a task object; datasets shared with other task objects stay whole.

    Args:
        live: lmms-eval's task object.
        split: split of the documents.
        rows: rows of the documents to keep, ascending.
    """
    live.dataset, live.dataset_no_image = live.dataset.copy(), live.dataset_no_image.copy()
    for datasets in (live.dataset, live.dataset_no_image):
        datasets[split] = datasets[split].select(rows)
    live.task_docs = live.dataset_no_image[split]


def _parse_options(options: Any) -> Sequence[Any]:
    """Options of a document; MMMU writes the list as text."""
    parsed: Sequence[Any] = literal_eval(options) if isinstance(options, str) else options or ()
    return parsed
