"""Intervals of proportions: of bools, and of shares per example where runs repeat or examples belong together."""

from __future__ import annotations

import math
from statistics import NormalDist

from plait.experiments.findings import Interval
from plait.experiments.statistics.distributions import t_quantile

__all__ = ["effective_number", "effective_wilson", "score_bounds", "wilson"]


def wilson(successes: float, n: float, *, level: float = 0.95) -> Interval | None:
    """The score interval of a proportion; within 0 to 1, and it says something of 0 or all successes too.

        (p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

    Over p its coverage is `level` on average and swings around that, less with more examples: of the nominal 95 %,
    93.0 at worst for 30 examples and p in {0.1, 0.3, 0.5, 0.7, 0.9}. None where n is 0; raises ValueError for
    counts that cannot be.
    Sources: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927); L. D. Brown,
    T. T. Cai, A. DasGupta, Interval Estimation for a Binomial Proportion (2001).
    """
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, found {successes} of {n}")
    if n == 0:
        return None
    low, high = score_bounds(successes / n, n, NormalDist().inv_cdf((1 + level) / 2))
    return Interval(low, high, "Wilson", level)


def score_bounds(proportion: float, n: float, quantile: float) -> tuple[float, float]:
    """The formula of `wilson`; the bounds contain the proportion, whatever rounding does."""
    square = quantile * quantile
    middle = proportion + square / (2 * n)
    half = quantile * math.sqrt(proportion * (1 - proportion) / n + square / (4 * n * n))
    low, high = (middle - half) / (1 + square / n), (middle + half) / (1 + square / n)
    return max(0.0, min(low, proportion)), min(1.0, max(high, proportion))


def effective_number(proportion: float, error: float, scores: int, units: int) -> float:
    """How many independent bools tell as much: p (1 - p) / error^2, which is the scores over the design effect.

    `error` is the standard error between the `units` (examples or clusters) that `scores` came from. It is at most
    `scores`, since a design effect below 1 is chance, and `units` where the scores are all equal and nothing is
    known of how they hang together.
    Source: L. Kish, Survey Sampling (1965), section 8.2.
    """
    spread = proportion * (1 - proportion)
    if spread <= 0 or error <= 0:
        return float(units)
    return min(float(scores), max(1.0, spread / (error * error)))


def effective_wilson(proportion: float, error: float, *, scores: int, units: int) -> Interval | None:
    """The 95 % interval of a proportion whose scores are not independent: Wilson's with the effective number.

    The quantile is t's on units - 1 degrees of freedom. None below two units.
    Source: N. Dean, M. Pagano, Evaluating Confidence Interval Methods for Binomial Proportions in Clustered
    Surveys (2015).
    """
    if units < 2:
        return None
    low, high = score_bounds(
        proportion, effective_number(proportion, error, scores, units), t_quantile(0.975, units - 1)
    )
    return Interval(low, high, "cluster Wilson")
