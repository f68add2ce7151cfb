"""Tests of paired differences that assume no distribution: exact McNemar and the sign-flip permutation test."""

from __future__ import annotations

import numpy as np

from plait.experiments.statistics.distributions import binomial_cdf
from plait.experiments.statistics.means import Numbers

__all__ = ["mcnemar", "sign_flip"]

_EXACT_UP_TO = 14
_DRAWS = 10_000
_AT_ONCE = 2_000_000
_ROUNDING = 1e-9


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value of paired bools: min(1, 2 P(X <= min(gained, lost))), X ~ B(gained + lost, 1/2).

    Pairs that are equal tell nothing; without any other it is 1. Fewer than 6 that differ never give p < 0.05.
    Sources: Q. McNemar, Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages
    (1947); the exact form A. Agresti, Categorical Data Analysis, 3rd ed. (2013), section 11.1.
    """
    return min(1.0, 2 * binomial_cdf(min(gained, lost), gained + lost, 0.5)) if gained + lost else 1.0


def sign_flip(differences: Numbers, *, seed: int = 0) -> float:
    """The two-sided p-value of a mean difference of 0, if each difference could as well have the other sign.

    The share of sign patterns whose |sum| is at least the observed one: of all 2^m patterns where at most 14
    differences are not 0, else of 10,000 drawn with a fixed seed as (1 + hits) / (1 + draws), never 0. For clusters
    give their sums, which then flip as a whole.
    Sources: R. A. Fisher, The Design of Experiments (1935), section 21; B. Phipson, G. K. Smyth, Permutation
    P-values Should Never Be Zero (2010).
    """
    moved = np.abs(differences[differences != 0])
    if moved.size == 0:
        return 1.0
    scale = moved.max()
    moved = moved / scale
    least = abs(float((differences / scale).sum())) - _ROUNDING
    if moved.size <= _EXACT_UP_TO:
        # The first sign stays: the other half of the patterns mirrors this one.
        patterns = np.arange(1 << (moved.size - 1))[:, None] >> np.arange(moved.size)
        sums = (1.0 - 2.0 * (patterns & 1)) @ moved
        return float((np.abs(sums) >= least).mean())
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // moved.size)
    hits = 0
    for start in range(0, _DRAWS, rows):
        signs = rng.integers(0, 2, size=(min(rows, _DRAWS - start), moved.size), dtype=np.int8)
        sums = moved.sum() - 2.0 * (signs.astype(np.float64) @ moved)
        hits += int((np.abs(sums) >= least).sum())
    return (1 + hits) / (1 + _DRAWS)
