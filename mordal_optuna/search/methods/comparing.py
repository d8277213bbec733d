"""Which models of a pool are compared before any is trained.

Comparing encoders takes a forward pass of each over some images. Comparing LLMs takes a warmed-up
projector for each, so it costs as much as training pairs.

Symbols:
    M, L   number of encoders, number of LLMs
    D      samples of a full alignment
    k, r   pairs of each model in the start of `joint`, and the share of D they are trained on
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mordal_optuna.search.joint.rules import Start
from mordal_optuna.search.methods.catalogue import METHODS

if TYPE_CHECKING:
    from mordal_optuna.search.methods.options import PlanOptions

# Comparing LLMs pays for `joint` if it costs at most this share of the start.
_SHARE = 0.1


@dataclass(frozen=True)
class Compared:
    """Models that are compared.

    Attributes:
        encoders: whether vision encoders are.
        llms: whether LLMs are.
        reason: the decision in one line; empty if there was none to make.
    """

    encoders: bool
    llms: bool
    reason: str = ""


def compares_models(options: PlanOptions) -> bool:
    """Whether a search compares any models before it trains one."""
    if options.compare == "auto":
        return METHODS[options.method].compares_models
    return options.compare != "none"


def compared_models(
    options: PlanOptions, encoders: int, llms: int, *, warmup_share: float
) -> Compared:
    """The models that a search compares.

    Args:
        options: options of the search.
        encoders: M, at least 1.
        llms: L, at least 1.
        warmup_share: samples of a projector's warm-up, as a share of D.
    """
    method = METHODS[options.method]
    if options.compare != "auto":
        return Compared(options.compare != "none", options.compare == "all")
    if not method.compares_models or method.needs_clusters:
        return Compared(method.compares_models, method.needs_clusters)
    cost = llms * warmup_share
    rules = Start(options.start_pairs, options.start_ratio)
    start = options.start_pairs * max(encoders, llms) * rules.ratio_for(encoders, llms)
    pays = cost <= _SHARE * start
    reason = (
        f"LLMs are {'' if pays else 'not '}compared: warming up their projectors would cost "
        f"{cost:.2f} full runs, and the start of the search costs {start:.2f} (`compare` changes "
        "that)"
    )
    return Compared(encoders=True, llms=pays, reason=reason)
