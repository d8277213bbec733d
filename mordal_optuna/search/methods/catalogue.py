"""The table of search methods: what each is, what it needs, and which defaults it changes.

A new method is one module with a function that builds its plan, and one row here. This module
imports nothing of the search, so that the study file's schema can use the table without Optuna.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class MethodSpec:
    """A search method.

    Attributes:
        name: name in a study file and on the command line.
        summary: what the method trains, in one line.
        builder: import path "module:function" of the function that builds the method's plan from
            `options.PlanInputs`; a path and not the function, so that reading the table does not
            import it.
        compares_models: whether models are compared (features, CKA) before any is trained.
        needs_clusters: whether the comparison must give clusters of LLMs as well; without, LLMs
            are compared only where that pays, see `comparing`.
        needs_budget: whether the method ends only with the budget or the whole grid, so that a
            replay without a budget of its own gets what `mordal` spends.
        uses_popular_pair: whether the method reads the option `popular`.
        allows_likelihood: whether curves can be fitted to the likelihood (`curve: likelihood`).
        defaults: defaults that the method changes, by section and key of the study file; a value
            in the study file takes precedence.
    """

    name: str
    summary: str
    builder: str
    compares_models: bool = False
    needs_clusters: bool = False
    needs_budget: bool = False
    uses_popular_pair: bool = False
    allows_likelihood: bool = True
    defaults: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


# The paper's thresholds, halving, curves, similarity and training recipe. The paper leaves open
# the rank of LoRA, the linkage, how features are pooled, how many images are compared and how they
# become squares; the defaults of `mordal` stay in force for these. `image_aspect: pad` is what
# LLaVA-1.5 does, on whose data the paper trains. Its image sizes belong to the pool: DINOv2-L at
# `image_size: 518`; those of its other encoders are their image processors' own.
_PAPER: dict[str, dict[str, object]] = {
    "search": {
        "vision_threshold": 0.7,
        "llm_threshold": 0.8,
        "first_ratio": 0.03,
        "max_ratio": 0.125,
        "eta": 2,
        "top_clusters": 3,
        "fit_points": 3,
        "max_fit_loss": 5e-5,
        "finalists": 0,
        "finish": "full",
        "ranker": "own",
    },
    "representation": {"similarity": "cka-biased"},
    # The paper's minibatch, and its learning rate, which falls linearly to 0 over D samples: D is
    # fixed from the start, and a rung is scored with a learning rate that is still above 0.
    "alignment": {"recipe": "mordal"},
}
# Scores up to 1/8 of the alignment set, curves of three points, and the leader trained fully.
_ONE_EIGHTH: dict[str, dict[str, object]] = {
    "search": {"max_ratio": 0.125, "fit_points": 3, "finalists": 1, "finish": "full"},
}

_HERE = "mordal_optuna.search.methods"

_ROWS = (
    MethodSpec(
        "mordal",
        "medoids of CKA clusters by successive halving, curves inside the best clusters, a race",
        f"{_HERE}.mordal:build",
        compares_models=True,
        needs_clusters=True,
    ),
    MethodSpec(
        "mordal-faithful",
        "the same with the paper's settings: thresholds, rungs, curves, CKA and training recipe",
        f"{_HERE}.mordal:build",
        compares_models=True,
        needs_clusters=True,
        defaults=_PAPER,
    ),
    MethodSpec(
        "joint",
        "a balanced start, then rounds of jobs that one model of all scores chooses",
        f"{_HERE}.joint:build",
        compares_models=True,
        allows_likelihood=False,
        defaults={"search": {"max_ratio": 1.0, "finalists": 0, "finish": "full"}},
    ),
    MethodSpec(
        "grid",
        "every pair fully: the ground truth",
        f"{_HERE}.grid:build",
        defaults={"search": {"ranker": "own"}},
    ),
    MethodSpec(
        "all-at-ratio",
        "every pair at `max_ratio`, then the leader fully",
        f"{_HERE}.all_at_ratio:build",
        defaults=_ONE_EIGHTH,
    ),
    MethodSpec(
        "cross",
        "one row and one column of the grid, the rest estimated additively; then the leader fully",
        f"{_HERE}.cross:build",
        compares_models=True,
        needs_clusters=True,
        allows_likelihood=False,
        defaults=_ONE_EIGHTH,
    ),
    MethodSpec(
        "random",
        "pairs fully, in random order, until the budget is spent",
        f"{_HERE}.random_order:build",
        needs_budget=True,
    ),
    MethodSpec("popular", "one pair fully", f"{_HERE}.popular:build", uses_popular_pair=True),
    MethodSpec(
        "best-parts",
        "every encoder with the popular LLM and every LLM with the popular encoder, fully; then "
        "the best encoder with the best LLM",
        f"{_HERE}.best_parts:build",
        uses_popular_pair=True,
        allows_likelihood=False,
    ),
)
METHODS: dict[str, MethodSpec] = {spec.name: spec for spec in _ROWS}


def method_defaults(method: object, section: str) -> Mapping[str, object]:
    """The defaults that a method changes in a section of the study file.

    Args:
        method: name of the method; any other value changes no default.
        section: name of the section, such as "search".
    """
    spec = METHODS.get(method) if isinstance(method, str) else None
    return spec.defaults.get(section, {}) if spec else {}
