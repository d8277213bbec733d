"""Curves of the likelihood: what is read off them, and what they need."""

from __future__ import annotations

import numpy as np
import pytest

from mordal_optuna.config import SearchSettings
from mordal_optuna.errors import SearchError
from mordal_optuna.search.clusters import ClusterTree
from mordal_optuna.search.curves import Measurement
from mordal_optuna.search.history import CandidateHistory, History
from mordal_optuna.search.likelihood import BrokenLine, LikelihoodPoint, pooled_line
from mordal_optuna.search.methods.building import build_plan
from mordal_optuna.search.rankers import LikelihoodRanker
from mordal_optuna.search.ranking import Ranker

TREE = ClusterTree.flat(["a"], ["x", "y", "z"])
FULL = 8192
# -ln p at 512 samples, and how fast it falls; errors are at chance while -ln p is above 1.
TRUTH = {"x": (2.0, 0.30), "y": (2.2, 0.45), "z": (1.9, 0.15)}
CHANCE = 0.75


def measured(llm: str, samples: int, rng: np.random.Generator) -> Measurement:
    """A score that is stuck at chance until the likelihood has fallen far enough."""
    level, slope = TRUTH[llm]
    nll = level * (samples / 512) ** -slope
    error = min(CHANCE, CHANCE * nll) + rng.normal(0, 0.02)
    return Measurement(samples, 1 - error, 0.02, 500, nll=nll, nll_stderr=0.02 * nll)


def history(rungs: tuple[int, ...], **further: int) -> History:
    rng = np.random.default_rng(0)
    return History(
        {
            c: CandidateHistory(
                tuple(measured(c.llm, n, rng) for n in (*rungs, *[further.get(c.llm, 0)]) if n)
            )
            for c in TREE.candidates
        }
    )


@pytest.mark.parametrize("leaves", [1.0, -0.5])
def test_the_pools_line_is_found(leaves: float) -> None:
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
        assert line.read(at, 0.0)[0] == pytest.approx(expected, abs=0.05)


def test_what_is_read_is_as_uncertain_as_the_likelihood_and_the_line() -> None:
    """More so the further a likelihood lies below where errors leave chance."""
    line = BrokenLine(start=0.0, level=-0.3, slope=0.5, slope_error=0.2, spread=0.1)
    assert line.read(0.5, 0.4) == (-0.3, pytest.approx(0.1))
    assert line.read(-2.0, 0.4) == (-1.3, pytest.approx(np.linalg.norm((0.2, 0.4, 0.1))))


def test_with_one_score_the_slope_is_the_priors() -> None:
    line = pooled_line([Measurement(1, 0.5, 0.01, 1000, nll=1.0, nll_stderr=0.1)])
    assert line.slope == 1.0
    assert line.read(0.0, 0.0)[0] == pytest.approx(np.log(0.5))
    assert line.read(-1.0, 0.0)[0] == pytest.approx(np.log(0.5) - 1)


def test_candidates_at_chance_are_told_apart() -> None:
    """Flat scores rank by noise; their likelihoods rank them right, one full run calibrating."""
    seen = history((128, 256, 512, 1024), x=FULL)
    by_likelihood = LikelihoodRanker(TREE, FULL).rank(seen)
    assert [e.candidate.llm for e in by_likelihood] == ["y", "x", "z"]
    assert by_likelihood[1].provenance == "measured"
    assert {e.provenance for e in by_likelihood} == {"measured", "extrapolated"}
    by_error = Ranker(TREE, FULL).rank(seen)
    gap = {e.candidate.llm: e.value for e in by_error}
    truth = {llm: 1 - min(CHANCE, CHANCE * a * 16**-b) for llm, (a, b) in TRUTH.items()}
    ours = {e.candidate.llm: e.value for e in by_likelihood}
    assert ours["y"] == pytest.approx(truth["y"], abs=0.08)
    assert abs(ours["y"] - truth["y"]) < abs(gap["y"] - truth["y"])


def test_a_score_without_its_likelihood_is_refused() -> None:
    with pytest.raises(SearchError, match="512 samples came without the likelihood"):
        LikelihoodPoint.of(Measurement(512, 0.5, 0.01, 100))


def test_a_study_file_chooses_it() -> None:
    plan = build_plan(SearchSettings(curve="likelihood"), TREE, FULL)
    assert isinstance(plan.ranker, LikelihoodRanker)
    assert not isinstance(build_plan(SearchSettings(), TREE, FULL).ranker, LikelihoodRanker)
