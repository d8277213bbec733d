"""Rungs: the numbers of samples at which candidates are scored.

Symbols:
    D    full_samples, the size of one full alignment
    b    first_ratio, the smallest share of D that is worth a score
    R    max_ratio, the largest share of D trained before the finish
    eta  factor between neighbouring rungs
"""

from __future__ import annotations

from mordal_optuna.errors import SearchError


def build_rungs(
    full_samples: int,
    *,
    first_ratio: float,
    max_ratio: float,
    eta: int,
    multiple: int = 1,
) -> tuple[int, ...]:
    """Rungs from R * D downwards by factors of eta, as long as they reach b * D.

    Built by integer arithmetic: a rung count from floor(log(R / b) / log(eta)) loses a rung to
    rounding, for instance for 1, 243 and 3.

    Args:
        full_samples: D, at least 1.
        first_ratio: b, in (0, R].
        max_ratio: R, in (0, 1].
        eta: at least 2.
        multiple: every rung is a whole number of these (the global batch), at least 1.

    Returns:
        Strictly ascending sample counts; D itself is the last one only if R is 1.

    Raises:
        SearchError: if not a single rung fits between b * D and R * D.
    """
    batches = round(max_ratio * full_samples) // multiple
    # Half a batch of slack, so that b = .03 keeps the rung at 1/32 of the data, as in the paper,
    # whatever the rounding to whole batches does.
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
