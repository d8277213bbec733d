"""The weighted mean of several tasks from the posterior of each task.

The posteriors of the tasks are combined by the delta method around their means. They know more
than a model that is fitted to means: the noise and the curves of each task, and scores at rungs
that are scored on some of the tasks.

Symbols:
    t        a task; w_t its weight, a_t = w_t / sum w
    p        a pair; m_tp, C_t  posterior mean and covariance of its ln error on t at r = 1
    y_p      ln of the mean error, ln sum_t a_t exp(y_tp)
    g_tp     derivative of y_p in y_tp: a_t exp(m_tp) / sum_t a_t exp(m_tp)
    G_t      diagonal matrix of g_tp
    R_t      symmetric square root of C_t
    c        correlation of two tasks' deviations from their posterior means
    h_t      run noise of a task
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mordal_optuna.search.joint.posterior import Posterior

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mordal_optuna.search.joint.effects import Floats, Indices

# c. A run that ends well does so on several tasks. benchmarks/minigrid/README.md has the coverage
# by c.
CORRELATION = 0.25


def posterior_of_mean(
    posteriors: Mapping[str, Posterior],
    weights: Mapping[str, float],
    *,
    correlation: float = CORRELATION,
) -> Posterior:
    """The posterior of the weighted mean error of several tasks at r = 1.

    The mean of y is ln sum_t a_t exp(m_t). Its covariance lies between that of independent tasks
    and that of tasks whose deviations go together: (1 - c) sum_t G_t C_t G_t + c S S' with
    S = sum_t G_t R_t. So is the run noise.

    Args:
        posteriors: posterior of each task over the same pairs, at least one.
        weights: w_t, above 0, by the task's name.
        correlation: c, from 0 to 1.
    """
    names = tuple(posteriors)
    shares = np.array([weights[name] for name in names]) / sum(weights[name] for name in names)
    means = np.array([posteriors[name].mean for name in names])
    deviations = np.array([posteriors[name].deviation for name in names])
    mean, parts = _mixed(shares, means)
    noises = shares * np.array([posteriors[name].run_noise for name in names])

    def joint(rows: Indices) -> tuple[Floats, Floats]:
        found = [posteriors[name].joint(rows) for name in names]
        centre, slopes = _mixed(shares, np.array([m for m, _ in found]))
        apart = np.zeros((len(rows), len(rows)))
        together = np.zeros_like(apart)
        for g, (_, covariance) in zip(slopes, found, strict=True):
            apart += g[:, None] * covariance * g
            together += g[:, None] * _root(covariance)
        return centre, (1 - correlation) * apart + correlation * together @ together.T

    return Posterior(
        posteriors[names[0]].candidates,
        mean,
        _between(parts * deviations, correlation),
        float(_between(noises[:, None], correlation)[0]),
        joint,
    )


def _mixed(shares: Floats, means: Floats) -> tuple[Floats, Floats]:
    """The mean of y and g, from a_t and m_tp, tasks x pairs."""
    errors = shares[:, None] * np.exp(means)
    total = errors.sum(axis=0)
    return np.asarray(np.log(total)), np.asarray(errors / total)


def _between(deviations: Floats, correlation: float) -> Floats:
    """Standard deviation of the sum over tasks, one entry per pair, from tasks x pairs."""
    apart, together = (deviations**2).sum(axis=0), deviations.sum(axis=0) ** 2
    return np.asarray(np.sqrt((1 - correlation) * apart + correlation * together))


def _root(covariance: Floats) -> Floats:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
