"""lmms-eval's own code for the seven benchmarks; only GQA's pictures are found in another way."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from datasets import load_dataset
from lmms_eval.tasks.ai2d.utils import (
    MultiChoiceRegexFilter,
    ai2d_doc_to_target,
    ai2d_doc_to_text,
    ai2d_doc_to_visual,
)
from lmms_eval.tasks.chartqa.utils import (
    chartqa_doc_to_text,
    chartqa_doc_to_visual,
    chartqa_process_results,
)
from lmms_eval.tasks.docvqa.utils import docvqa_doc_to_text, docvqa_doc_to_visual
from lmms_eval.tasks.gqa.utils import gqa_doc_to_text
from lmms_eval.tasks.mmmu.utils import (
    mmmu_aggregate_results,
    mmmu_doc_to_messages,
    mmmu_doc_to_text,
    mmmu_doc_to_visual,
    mmmu_process_results,
)
from lmms_eval.tasks.scienceqa.utils import (
    sqa_doc_to_target,
    sqa_doc_to_text,
    sqa_doc_to_visual,
    sqa_process_results,
)
from lmms_eval.tasks.vizwiz_vqa.utils import (
    vizwiz_vqa_doc_to_text,
    vizwiz_vqa_doc_to_visual,
    vizwiz_vqa_process_results,
)

from mordal_optuna.evaluation.upstream import ImagesById

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MultiChoiceRegexFilter",
    "ai2d_doc_to_target",
    "ai2d_doc_to_text",
    "ai2d_doc_to_visual",
    "chartqa_doc_to_text",
    "chartqa_doc_to_visual",
    "chartqa_process_results",
    "docvqa_doc_to_text",
    "docvqa_doc_to_visual",
    "gqa_doc_to_text",
    "gqa_doc_to_visual",
    "mmmu_aggregate_results",
    "mmmu_doc_to_messages",
    "mmmu_doc_to_text",
    "mmmu_doc_to_visual",
    "mmmu_process_results",
    "sqa_doc_to_target",
    "sqa_doc_to_text",
    "sqa_doc_to_visual",
    "sqa_process_results",
    "vizwiz_vqa_doc_to_text",
    "vizwiz_vqa_doc_to_visual",
    "vizwiz_vqa_process_results",
]

# The dataset_path of mordal_gqa.yaml, for lmms-eval's own command line; a study that names other
# data gets its images from there.
_GQA = "runs/zoo/tasks/gqa"


def gqa_doc_to_visual(doc: dict[str, Any]) -> list[Image]:
    """The picture that a question names."""
    return _pictures()(doc)


@lru_cache(maxsize=1)
def _pictures() -> ImagesById:
    return ImagesById(load_dataset(_GQA, "testdev_balanced_images", split="testdev"))
