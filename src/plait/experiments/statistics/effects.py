"""How large a difference is, and how small a one could be seen: effect sizes and the minimum detectable difference."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["UNKNOWN_DEVIATION", "cohens_d", "detectable_by_error", "detectable_difference", "odds_ratio"]

UNKNOWN_DEVIATION = 0.5
"""Of paired differences, before anything is known: that of bools of which one pair in four differs."""


def detectable_difference(
    n: int, *, deviation: float = UNKNOWN_DEVIATION, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest mean difference that `n` pairs would show in a share `power` of cases, tested at `alpha`.

        (z[1 - alpha/2] + z[power]) * deviation / sqrt(n)

    `deviation` is the standard deviation of paired differences; with the default of 0.5, 40 pairs give 0.22. The
    normal quantiles make it a little too small below about ten pairs. None where `n` is 0.
    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), chapter 2; for evals of
    language models E. Miller, Adding Error Bars to Evals (2024), section 5.
    """
    return detectable_by_error(deviation / math.sqrt(n), alpha=alpha, power=power) if n > 0 else None


def detectable_by_error(error: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """As `detectable_difference`, from the standard error of the mean difference, clustered ones included."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * error


def cohens_d(mean: float, deviation: float) -> float | None:
    """Cohen's d_z of paired differences: mean / standard deviation. None where they do not vary.

    Source: J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), section 2.3.5.
    """
    ratio = mean / deviation if deviation > 0 else math.inf
    return ratio if math.isfinite(ratio) else None


def odds_ratio(gained: int, lost: int) -> float:
    """The odds ratio of paired bools, (gained + 1/2) / (lost + 1/2); above 1 where more were gained than lost.

    Sources: the ratio gained / lost is the conditional maximum likelihood estimate: A. Agresti, Categorical Data
    Analysis, 3rd ed. (2013), section 11.1. The halves keep it finite: J. B. S. Haldane, The Estimation and
    Significance of the Logarithm of a Ratio of Frequencies (1956).
    """
    return (gained + 0.5) / (lost + 0.5)
