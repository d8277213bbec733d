"""A task as one of a study's inputs: digests to compare, and a quick check for changed files."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from mordal_optuna.files.digests import file_states

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.evaluation.task import Task


class TaskPart:
    """A task as a part of a study's inputs; implements `files.inputs.Part`."""

    def __init__(self, task: Task) -> None:
        """Record the digests and file states of a task that was just built.

        Args:
            task: the task with all documents that any rung scores.
        """
        self._source = task.source
        self._task = task
        self._states = file_states(task.source.files()) if task.source else {}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """Digests by aspect: prompt, metric, documents, lmms-eval, names of Python files."""
        documents = hashlib.sha256("".join(self._task.document_digests).encode()).hexdigest()
        return {**self._task.definition_digests, "documents": documents}

    def unchanged(self, samples: int) -> bool:  # noqa: ARG002 - every rung needs the same files
        """Whether sizes and times of all local files are as recorded; microseconds per file.

        Documents from the hub are read when the task is built and cannot change afterwards.
        """
        return self._source is None or file_states(self._source.files()) == self._states
