"""Intervals of means: by Student's t, by the bootstrap where they are skewed, between clusters where there are some."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plait.experiments.findings import Interval
from plait.experiments.statistics.distributions import t_quantile

__all__ = [
    "Numbers",
    "as_numbers",
    "bootstrap_interval",
    "cluster_error",
    "cluster_interval",
    "cluster_sums",
    "deviation",
    "is_skewed",
    "mean_interval",
    "skewness",
    "t_interval",
]

Numbers = npt.NDArray[np.float64]

_DUST = 1e-12
_RESAMPLES = 4_000
_AT_ONCE = 2_000_000


def as_numbers(values: Sequence[float] | Numbers) -> Numbers:
    """The values as an array of floats. Raises ValueError where one is not finite."""
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("expected finite numbers, found NaN or infinity")
    return numbers


def deviation(values: Numbers) -> float:
    """The standard deviation with n - 1; 0 below two values, and where they differ by rounding alone."""
    if values.size < 2:
        return 0.0
    found = float(values.std(ddof=1))
    return found if found > _DUST * float(np.abs(values).max()) else 0.0


def skewness(values: Numbers) -> float:
    """The third standardised moment, m3 / m2^1.5; 0 where values do not vary.

    Source: D. N. Joanes, C. A. Gill, Comparing Measures of Sample Skewness and Kurtosis (1998), g1.
    """
    if deviation(values) == 0:
        return 0.0
    standard = (values - values.mean()) / values.std()
    return float((standard**3).mean())


def is_skewed(values: Numbers) -> bool:
    """Whether t's approximation is doubtful: at least 10 values, |skewness| > 1 and n <= 25 skewness^2.

    Source of the last: W. G. Cochran, Sampling Techniques, 3rd ed. (1977), section 2.15. Of fewer than 10 values
    the skewness is not known well enough to choose by.
    """
    if values.size < 10:
        return False
    skew = abs(skewness(values))
    return skew > 1 and values.size <= 25 * skew * skew


def mean_interval(values: Numbers, clusters: Sequence[object] | None = None) -> Interval | None:
    """The 95 % interval of a mean; None where nothing can be said: below two values (clusters), or all equal.

    With clusters that hold more than one value `cluster_interval`; else `bootstrap_interval` where `is_skewed` and
    no single value makes up half of all (the bootstrap's resamples then too often hold that value alone, and in
    simulations t covers more); else `t_interval`.
    """
    if clusters is not None and len(set(clusters)) < len(clusters):
        return cluster_interval(values, clusters)
    if is_skewed(values) and np.unique(values, return_counts=True)[1].max() <= values.size / 2:
        return bootstrap_interval(values)
    return t_interval(values)


def t_interval(values: Numbers) -> Interval | None:
    """mean -+ t[0.975; n - 1] * s / sqrt(n). None below two values, or where they do not vary.

    Source: Student, The Probable Error of a Mean (1908).
    """
    if (spread := deviation(values)) == 0:
        return None
    mean, n = float(values.mean()), values.size
    half = t_quantile(0.975, n - 1) * spread / n**0.5
    return Interval(mean - half, mean + half, "t")


def bootstrap_interval(values: Numbers, *, seed: int = 0) -> Interval | None:
    """The bootstrap-t interval from 4,000 resamples drawn with a fixed seed, so the same values give the same one.

    (mean - q[0.975] * e, mean - q[0.025] * e) with e = s / sqrt(n) and q the quantiles of (mean* - mean) / e* over
    resamples. In simulations with 20 log-normal or exponential numbers it covers 92..95 %, t 87..91 and BCa 88..91.
    None below two values or where they do not vary.
    Sources: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 12.5; T. C. Hesterberg, What
    Teachers Should Know About the Bootstrap (2015).
    """
    if (spread := deviation(values)) == 0:
        return None
    mean, n = float(values.mean()), values.size
    standard = (values - mean) / spread  # keeps squares of huge and tiny numbers in range
    rng = np.random.default_rng(seed)
    pieces: list[Numbers] = []
    rows = max(1, _AT_ONCE // n)
    for start in range(0, _RESAMPLES, rows):
        drawn = standard[rng.integers(0, n, size=(min(rows, _RESAMPLES - start), n))]
        errors = drawn.std(axis=1, ddof=1)
        known = errors > _DUST
        pieces.append(drawn.mean(axis=1)[known] / errors[known])
    low, high = np.quantile(np.concatenate(pieces), (0.025, 0.975))
    return Interval(min(mean, mean - float(high) * spread), max(mean, mean - float(low) * spread), "bootstrap")


def cluster_error(values: Numbers, clusters: Sequence[object]) -> tuple[float, int]:
    """The standard error of a mean whose values belong together in clusters, and the number of clusters.

        sqrt(G / (G - 1) * sum over clusters of (sum of (x - mean) in it)^2) / n

    (CR1, whose second factor (n - 1) / (n - k) is 1 for a mean.) 0 below two clusters.
    Sources: K.-Y. Liang, S. L. Zeger, Longitudinal Data Analysis Using Generalized Linear Models (1986); A. C.
    Cameron, D. L. Miller, A Practitioner's Guide to Cluster-Robust Inference (2015); for evals E. Miller, Adding
    Error Bars to Evals (2024), section 2.2. Raises ValueError where there is not one cluster a value.
    """
    sums = cluster_sums(values - values.mean() if values.size else values, clusters)
    if sums.size < 2:
        return 0.0, sums.size
    error = float(np.sqrt(sums.size / (sums.size - 1) * (sums**2).sum())) / values.size
    return (error if error > _DUST * float(np.abs(values).max()) else 0.0), sums.size


def cluster_sums(values: Numbers, clusters: Sequence[object]) -> Numbers:
    """The sum of the values of each cluster, in the order in which they first occur."""
    if len(clusters) != values.size:
        raise ValueError(f"expected a cluster for each of {values.size} values, found {len(clusters)}")
    numbers: dict[object, int] = {}
    index = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    sums = np.zeros(len(numbers))
    np.add.at(sums, np.array(index, dtype=np.intp), values)
    return sums


def cluster_interval(values: Numbers, clusters: Sequence[object]) -> Interval | None:
    """mean -+ t[0.975; G - 1] * `cluster_error`. None below two clusters, or where nothing varies between them."""
    error, number = cluster_error(values, clusters)
    if error == 0:
        return None
    mean = float(values.mean())
    half = t_quantile(0.975, number - 1) * error
    return Interval(mean - half, mean + half, "cluster t")
