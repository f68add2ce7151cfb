"""The mean difference of pairs: with an interval, a test, an effect size and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from plait.experiments.findings import Interval
from plait.experiments.statistics.distributions import t_two_sided
from plait.experiments.statistics.effects import (
    UNKNOWN_DEVIATION,
    cohens_d,
    detectable_by_error,
    detectable_difference,
    odds_ratio,
)
from plait.experiments.statistics.means import (
    Numbers,
    as_numbers,
    cluster_error,
    cluster_interval,
    cluster_sums,
    deviation,
    is_skewed,
    mean_interval,
)
from plait.experiments.statistics.permutations import mcnemar, sign_flip
from plait.experiments.statistics.proportions import score_bounds

__all__ = ["PairedDifference", "newcombe", "paired_bools", "paired_numbers", "paired_t"]

_DUST = 1e-12
_LEAST_FOR_A_TEST = 6
"""Two-sided sign tests of fewer differences that are not 0 have no p below 0.05: 2 / 2^5 = 0.0625."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """What pairs show of the mean of after - before. What cannot be said is None, and `note` says why."""

    pairs: int
    difference: float | None = None
    interval: Interval | None = None
    p: float | None = None
    """Two-sided. None also where all pairs are equal: there is nothing to test."""
    test: str = ""
    effect: float | None = None
    effect_name: str = ""
    detectable: float | None = None
    """The smallest difference that would show, by `detectable_by_error`."""
    note: str = ""


def paired_t(differences: Numbers) -> float | None:
    """The two-sided p-value of t = mean / (s / sqrt(n)) on n - 1 degrees of freedom; None where they do not vary.

    Source: Student, The Probable Error of a Mean (1908).
    """
    if (spread := deviation(differences)) == 0:
        return None
    return t_two_sided(float(differences.mean()) / (spread / differences.size**0.5), differences.size - 1)


def newcombe(both: int, gained: int, lost: int, neither: int) -> Interval | None:
    """The 95 % interval of a difference of paired proportions, (gained - lost) / n, by squaring and adding.

    From Wilson's bounds l, u of each proportion p1 (after) and p2 (before):

        low  = p1 - p2 - sqrt((p1 - l1)^2 - 2 phi (p1 - l1)(u2 - p2) + (u2 - p2)^2)
        high = p1 - p2 + sqrt((u1 - p1)^2 - 2 phi (u1 - p1)(p2 - l2) + (p2 - l2)^2)

    with phi the correlation of the pairs, both * neither - gained * lost over the root of the margins' product, its
    numerator less n/2 (not below 0) where positive, and 0 where a margin is. It covers 95..97 %, and nearly all where
    hardly any pair differs (30 pairs of which two or three do). None without pairs.
    Sources: R. G. Newcombe, Improved Confidence Intervals for the Difference Between Binomial Proportions Based on
    Paired Data (1998), method 10; recommended by M. W. Fagerland, S. Lydersen, P. Laake, Recommended Tests and
    Confidence Intervals for Paired Binomial Proportions (2014).
    """
    n = both + gained + lost + neither
    if n == 0:
        return None
    after, before = both + gained, both + lost
    z = NormalDist().inv_cdf(0.975)
    (low1, high1), (low2, high2) = score_bounds(after / n, n, z), score_bounds(before / n, n, z)
    p1, p2 = after / n, before / n
    margins = after * (n - after) * before * (n - before)
    product = both * neither - gained * lost
    product_corrected = max(product - n / 2, 0.0) if product > 0 else float(product)
    phi = product_corrected / math.sqrt(margins) if margins else 0.0

    def root(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    difference = (gained - lost) / n
    low, high = difference - root(p1 - low1, high2 - p2), difference + root(high1 - p1, p2 - low2)
    return Interval(max(-1.0, low), min(1.0, high), "Newcombe")


def paired_bools(before: Sequence[bool], after: Sequence[bool]) -> PairedDifference:
    """Pairs of bools, each of its own: `newcombe`, exact McNemar, the odds ratio of gained to lost.

    Raises ValueError where there are not as many before as after.
    """
    pairs = list(zip(before, after, strict=True))
    gained = sum(new and not old for old, new in pairs)
    lost = sum(old and not new for old, new in pairs)
    both = sum(old and new for old, new in pairs)
    n = len(pairs)
    if n == 0:
        return PairedDifference(pairs=0, note="no pair has this score on both sides")
    spread = deviation(np.array([new - old for old, new in pairs], dtype=np.float64))
    return PairedDifference(
        pairs=n,
        difference=(gained - lost) / n,
        interval=newcombe(both, gained, lost, n - both - gained - lost),
        p=mcnemar(gained, lost) if gained + lost else None,
        test="exact McNemar",
        effect=odds_ratio(gained, lost) if gained + lost else None,
        effect_name="odds ratio",
        detectable=detectable_difference(n, deviation=spread or UNKNOWN_DEVIATION),
        note=_few(gained + lost, "examples differ"),
    )


def paired_numbers(
    before: Sequence[float],
    after: Sequence[float],
    *,
    clusters: Sequence[object] | None = None,
    within: float = math.inf,
) -> PairedDifference:
    """Pairs of numbers, or of bools that repeat or have clusters; `within` bounds |difference| (1 for shares).

    Interval by `mean_interval` of the differences, effect size Cohen's d_z. Test: where clusters hold more than one
    pair the sign-flip test of their sums; else paired t, or the sign-flip test where differences are skewed
    (`is_skewed`) or all the same. Raises ValueError for numbers that are not finite and lists of unequal lengths.
    """
    old, new = as_numbers(before), as_numbers(after)
    if old.size != new.size:
        raise ValueError(f"expected as many before as after, found {old.size} and {new.size}")
    if old.size == 0:
        return PairedDifference(pairs=0, note="no pair has this score on both sides")
    differences = new - old
    dust = _DUST * float(max(np.abs(old).max(), np.abs(new).max()))
    differences[np.abs(differences) <= dust] = 0.0
    if np.ptp(differences) <= dust:
        differences[:] = differences[0]
    if clusters is not None and len(set(clusters)) < old.size:
        return _clustered(differences, clusters, within)
    spread, n = deviation(differences), differences.size
    p, test, note = _test(differences)
    mean = float(differences.mean())
    return PairedDifference(
        pairs=n,
        difference=mean,
        interval=_bounded(mean_interval(differences), within),
        p=p,
        test=test,
        effect=cohens_d(mean, spread),
        effect_name="Cohen's d_z",
        detectable=detectable_difference(n, deviation=spread) if spread else None,
        note=note,
    )


def _test(differences: Numbers) -> tuple[float | None, str, str]:
    """The p-value, the test's name, and a note."""
    if differences.size < 2:
        return None, "", "one pair: how much differences vary cannot be known"
    if not differences.any():
        return None, "", ""
    moved = int(np.count_nonzero(differences))
    if deviation(differences) == 0:
        words = "all pairs differ by the same amount, so there is no interval"
        return sign_flip(differences), "permutation", "; ".join(filter(None, (words, _few(moved, "examples differ"))))
    if is_skewed(differences):
        return sign_flip(differences), "permutation", _few(moved, "examples differ")
    return paired_t(differences), "paired t", ""


def _clustered(differences: Numbers, clusters: Sequence[object], within: float) -> PairedDifference:
    mean = float(differences.mean())
    error, number = cluster_error(differences, clusters)
    sums = cluster_sums(differences, clusters)
    sums[np.abs(sums) <= _DUST * differences.size * float(np.abs(differences).max())] = 0.0
    note = _few(int(np.count_nonzero(sums)), "clusters differ")
    if number < 2:
        note = "all examples are in one cluster: how much clusters vary cannot be known"
    testable = number >= 2 and bool(differences.any())
    return PairedDifference(
        pairs=differences.size,
        difference=mean,
        interval=_bounded(cluster_interval(differences, clusters), within),
        p=sign_flip(sums) if testable else None,
        test="cluster permutation" if testable else "",
        effect=cohens_d(mean, deviation(differences)),
        effect_name="Cohen's d_z",
        detectable=detectable_by_error(error) if error else None,
        note=note,
    )


def _bounded(interval: Interval | None, within: float) -> Interval | None:
    if interval is None:
        return None
    return Interval(max(-within, interval.low), min(within, interval.high), interval.method, interval.level)


def _few(moved: int, what: str) -> str:
    if not 0 < moved < _LEAST_FOR_A_TEST:
        return ""
    return f"{moved} {what}: with fewer than {_LEAST_FOR_A_TEST} no such test can give p < 0.05"
