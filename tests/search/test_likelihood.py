"""Curves of the likelihood: the pool's line, its uncertainty, and missing likelihoods."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.errors import SearchError
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.likelihood import BrokenLine, LikelihoodPoint, pooled_line


@pytest.mark.parametrize("leaves", [1.0, -0.5])
def test_the_pools_line_is_recovered(leaves: float) -> None:
    """Given its own slope and noise, whatever the prior says, and where errors leave chance."""
    rng = np.random.default_rng(1)
    u = rng.uniform(-2, 0.5, 400)
    y = -0.3 - 0.6 * np.maximum(0, leaves - u) + rng.normal(0, 0.1, 400)
    points = [
        Measurement(1, 1 - float(np.exp(e)), 0.001, 10**6, nll=float(np.exp(v)), nll_stderr=0.001)
        for v, e in zip(u, y, strict=True)
    ]
    line = pooled_line(points)
    assert line.slope == pytest.approx(0.6, abs=0.05)
    assert line.spread == pytest.approx(0.1, abs=0.03)
    for at in (-1.8, -1.0, 0.4):
        expected = -0.3 - 0.6 * max(0.0, leaves - at)
        assert line.log_error(at, 0.0)[0] == pytest.approx(expected, abs=0.05)


def test_the_error_read_off_includes_the_uncertainty_of_likelihood_and_line() -> None:
    """More so the further a likelihood lies below where errors leave chance."""
    line = BrokenLine(start=0.0, level=-0.3, slope=0.5, slope_error=0.2, spread=0.1)
    assert line.log_error(0.5, 0.4) == (-0.3, pytest.approx(0.1))
    assert line.log_error(-2.0, 0.4) == (-1.3, pytest.approx(np.linalg.norm((0.2, 0.4, 0.1))))


def test_with_one_score_the_slope_is_the_priors() -> None:
    line = pooled_line([Measurement(1, 0.5, 0.01, 1000, nll=1.0, nll_stderr=0.1)])
    assert line.slope == 1.0
    assert line.log_error(0.0, 0.0)[0] == pytest.approx(np.log(0.5))
    assert line.log_error(-1.0, 0.0)[0] == pytest.approx(np.log(0.5) - 1)


def test_a_score_without_its_likelihood_is_refused() -> None:
    with pytest.raises(SearchError, match="512 samples came without the likelihood"):
        LikelihoodPoint.of(Measurement(512, 0.5, 0.01, 100))
