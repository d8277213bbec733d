"""Sections of the study file about tasks, on which candidates are scored."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mordal_optuna.config.base import Name, Positive, Ratio, Section
from mordal_optuna.search import documents as early


class EarlyDocuments(Section):
    """A smaller number of documents for early rungs.

    Attributes:
        below: share of the alignment set, above 0 and at most 1; the entry applies to rungs below
            this share.
        documents: number of documents scored at these rungs.
    """

    below: Ratio
    documents: Positive


class TaskSettings(Section):
    """An lmms-eval task on which candidates are scored.

    Attributes:
        name: name of the task in lmms-eval.
        data: local folder with the task's data; None for the location in the task's YAML.
        revision: commit, tag or branch of the data on the hub.
        documents: number of documents in a fixed random subset; None scores all documents.
        early_documents: fewer documents for early rungs, as fixed random subsets that are nested,
            spread over clusters, and equal for all candidates. The first entry whose `below`
            exceeds the rung applies. `auto` chooses the number with which a score tells most for
            its cost, see `search.documents`: more at later rungs, all of small tasks. The search
            accounts for the larger standard errors.
        likelihood: whether the likelihood of the reference answers is also measured at every
            rung. It is a smoother sign of progress than the score and costs one more forward pass
            per document.
        batch_size: number of documents generated for at once.
    """

    name: Name
    data: Path | None = None
    revision: str | None = None
    documents: Positive | None = None
    early_documents: tuple[EarlyDocuments, ...] | Literal["auto"] = ()
    likelihood: bool = True
    batch_size: Positive = 16

    @model_validator(mode="after")
    def _grow(self) -> TaskSettings:
        if self.early_documents == "auto":
            return self
        for first, second in pairwise(self.early_documents):
            if second.below <= first.below or second.documents < first.documents:
                msg = (
                    f"early_documents: {second.documents} documents below {second.below} follow "
                    f"{first.documents} below {first.below}; both must grow"
                )
                raise ValueError(msg)
        if self.documents and any(e.documents > self.documents for e in self.early_documents):
            msg = (
                f"early_documents: more than the {self.documents} documents of the task were "
                "given; early rungs are scored on fewer"
            )
            raise ValueError(msg)
        return self

    def documents_at(
        self, samples: int, full_samples: int, *, documents: int, tasks: int = 1
    ) -> int:
        """Number of documents scored at a rung.

        Args:
            samples: number of alignment samples at the rung.
            full_samples: D, number of samples of a full alignment.
            documents: number of documents of the task that are scored at most.
            tasks: number of tasks that are scored at each rung.
        """
        if self.early_documents == "auto":
            return early.early_documents(samples, full_samples, documents, tasks)
        ratio = samples / full_samples
        return next((e.documents for e in self.early_documents if ratio < e.below), documents)


class WeightedTask(TaskSettings):
    """One of several target tasks.

    Attributes:
        weight: weight of the task's score in the weighted mean, above 0.
    """

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
