"""Rungs: the numbers of samples at which candidates are scored.

Symbols:
    D    full_samples, samples of a full alignment
    b    first_ratio, the smallest share of D at which candidates are scored
    R    max_ratio, the largest share of D before the finish
    eta  factor between neighbouring rungs
"""

from __future__ import annotations

from mordal_optuna.errors import SearchError
from mordal_optuna.search.bounds import require


def build_rungs(
    full_samples: int,
    *,
    first_ratio: float,
    max_ratio: float,
    eta: int,
    multiple: int = 1,
) -> tuple[int, ...]:
    """Rungs from R * D downwards by factors of eta, down to b * D.

    Built by integer arithmetic, because the count floor(log(R / b) / log(eta)) loses a rung to
    rounding, for instance with ratios of 1 and 1/243 and eta 3.

    Args:
        full_samples: D, at least 1.
        first_ratio: b, above 0 and at most R.
        max_ratio: R, above 0 and at most 1.
        eta: factor between rungs, at least 2.
        multiple: samples of a global batch, at least 1; every rung is a multiple of it.

    Returns:
        Strictly ascending sample counts; the last one is D only if R is 1.

    Raises:
        SearchError: if an argument is out of its range, or no rung fits between b * D and R * D.
    """
    require(full_samples >= 1, "full_samples", full_samples, "at least 1")
    require(0 < max_ratio <= 1, "max_ratio", max_ratio, "above 0 and at most 1")
    require(
        0 < first_ratio <= max_ratio,
        "first_ratio",
        first_ratio,
        f"above 0 and at most max_ratio, {max_ratio}",
    )
    require(eta >= 2, "eta", eta, "at least 2")
    require(multiple >= 1, "multiple", multiple, "at least 1")
    batches = round(max_ratio * full_samples) // multiple
    # Half a batch of slack, so that b = .03 keeps the rung at 1/32 of the data, as in the paper,
    # however rungs are rounded to whole batches.
    least = first_ratio * full_samples - multiple / 2
    rungs: list[int] = []
    while batches > 0 and batches * multiple >= least:
        rungs.append(batches * multiple)
        batches //= eta
    if not rungs:
        raise SearchError(
            f"no rung fits between {first_ratio} and {max_ratio} of {full_samples} samples in "
            f"batches of {multiple}; allowed are ratios that hold at least one batch"
        )
    return tuple(reversed(rungs))
