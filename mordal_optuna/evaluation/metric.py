"""The `metadata.mordal` block of a task's YAML: its main metric, reference answers and images."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MetricSpec(BaseModel):
    """How a task's score is read from lmms-eval's results, and where its answers and images are.

    Attributes:
        metric: key of the main metric in lmms-eval's results, `<metric>,<filter>`; higher is
            better.
        scale: largest value of the metric, 1 or 100; scores are divided by it.
        chance: score of random guessing, 0..1; 0 for open answers.
        options: document field that lists the options of a multiple-choice question. Chance is
            then computed from the documents instead; a document without options counts 0.
        cluster_key: document field whose values group documents that are not independent; images
            are compared by their bytes.
        guesses: whether the task draws a random answer where it cannot parse one.
        gold: document field with the reference answer or a list of them; None for the result of
            the task's `doc_to_target`.
        value: key of a document's value, where the task gives a dictionary for each document whose
            aggregation is no mean over documents. The score is then the mean of these values, over
            the documents that have the metric.
        judge: `MODEL@DIGEST` of the model that the task's own code asks to judge answers, part of
            the score's key; None if it asks none.
        images: dataset configuration that holds the images by `id`, for documents that name their
            image by `imageId`; None where each document holds its own images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    metric: str = Field(pattern=r"^[^,]+,[^,]+$")
    scale: float = Field(default=1.0, gt=0)
    chance: float = Field(default=0.0, ge=0, lt=1)
    options: str | None = None
    cluster_key: str | None = None
    guesses: bool = False
    gold: str | None = None
    value: str | None = None
    judge: str | None = Field(default=None, pattern=r"^[^@\s]+@\S+$")
    images: str | None = None

    @property
    def document_key(self) -> str:
        """Key of the metric in the per-document samples, which do not name the filter."""
        return self.metric.split(",")[0]
