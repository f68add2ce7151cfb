"""Rows of a probe, and random draws of what many more rows like them will add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import NormalDist, fmean

from plait.flow.usage import Tokens

_PRIOR_ROWS = 1.0
_PRIOR_SPREAD = 0.25
_SPREAD_MOST = 2.5
_TAIL_INDEX = 2.0
_UNSEEN_MOST = 20.0
_TAIL_LEAST = 0.02
_FIXED_FROM = 5
_TAIL_MOST = 0.45


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a number lies in 9 of 10 cases, `likely` being as often too low as too high."""

    low: float
    likely: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What one row asked of one model."""

    calls: int
    """Requests sent, retries included: each counts against limits."""
    tokens: Tokens
    latency_s: float
    """Seconds its calls were in flight, added up; waiting for a permit is not part of it."""


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One finished row of the probe."""

    models: Mapping[str, ModelUse] = field(default_factory=dict)
    duration_s: float = 0.0
    """From its start to its end, without waiting for permits."""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number for each probe row, with what its draws need."""

    values: tuple[float, ...]
    squares: tuple[float, ...]
    falling: tuple[float, ...]
    """The values, largest first."""
    most: float
    tail: float
    """How slowly the long end thins out, 0 for not at all long: Hill's estimate from the longest quarter, bounded."""
    fixed: bool
    """All rows of a probe of some size have the same: the workflow makes it so, and an unseen row is no exception."""
    positive: int
    log_mean: float
    log_spread2: float
    """Variance of the logarithms of what is above 0, with a weak prior: few or equal rows give no certainty."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantity:
        logs = [math.log(value) for value in values if value > 0]
        mean = fmean(logs) if logs else 0.0
        prior = _PRIOR_ROWS * _PRIOR_SPREAD**2
        spread2 = (prior + sum((each - mean) ** 2 for each in logs)) / (_PRIOR_ROWS + max(0, len(logs) - 1))
        floats = tuple(map(float, values))
        falling = tuple(sorted(floats, reverse=True))
        return cls(
            values=floats,
            squares=tuple(value * value for value in floats),
            falling=falling,
            most=falling[0],
            tail=_tail(logs),
            fixed=len(falling) >= _FIXED_FROM and falling[0] == falling[-1],
            positive=len(logs),
            log_mean=mean,
            log_spread2=spread2,
        )


@dataclass(frozen=True, slots=True)
class Resampled:
    """A population as the Bayesian bootstrap draws it: the probe's rows and one that was not seen, randomly weighted.

    Weights are Dirichlet(1, ..., 1): Rubin, "The Bayesian Bootstrap", Annals of Statistics 9 (1981). It keeps the
    shape of the probe, two sizes of documents for instance, but alone would swear that no row is larger than the
    largest seen, and a batch has more of those than a probe of 20. The unseen row is `unseen` times the largest.
    """

    weights: tuple[float, ...]
    remaining: float
    unseen: float

    @classmethod
    def draw(cls, rows: int, random: Random) -> Resampled:
        """With an unseen row larger than all others, by a Pareto law of index 2."""
        return cls._draw(rows, min(random.paretovariate(_TAIL_INDEX), _UNSEEN_MOST), random)

    @classmethod
    def draw_low(cls, rows: int, random: Random) -> Resampled:
        """With an unseen row that asks for nothing."""
        return cls._draw(rows, 0.0, random)

    @classmethod
    def _draw(cls, rows: int, unseen: float, random: Random) -> Resampled:
        parts = [random.expovariate(1.0) for _ in range(rows + 1)]
        whole = sum(parts)
        return cls(tuple(part / whole for part in parts[:rows]), parts[rows] / whole, unseen)

    def moments(self, quantity: Quantity) -> tuple[float, float]:
        """Mean and variance of a row."""
        extreme = quantity.most if quantity.fixed else self.unseen * quantity.most
        mean = sum(map(float.__mul__, self.weights, quantity.values)) + self.remaining * extreme
        square = sum(map(float.__mul__, self.weights, quantity.squares)) + self.remaining * extreme * extreme
        return mean, max(0.0, square - mean * mean)

    def quantile(self, quantity: Quantity, share: float) -> float:
        """The value below which this share of the rows lies, beyond the probe by the Pareto law of its long end."""
        known = len(quantity.values)
        if (beyond := (1 - share) * (known + 1)) < 1:
            return quantity.most * min(math.pow(max(beyond, 1e-9), -quantity.tail), _UNSEEN_MOST)
        return quantity.falling[max(0, known - 1 - int(share * known))]

    def rest(self, quantity: Quantity, share: float) -> float:
        """The x with E[max(D - x, 0)] = share E[D]."""
        ordered = quantity.falling
        total, above, found = share * sum(ordered), 0.0, 0.0
        for count, (value, below) in enumerate(zip(ordered, [*ordered[1:], 0.0], strict=True), start=1):
            above += value
            if above - count * below >= total:
                found = max(0.0, (above - total) / count)
                break
        if (tail := quantity.tail) < _TAIL_LEAST or not total:
            return found
        beyond = total * (1 - tail) / (tail * quantity.most)
        return max(found, quantity.most * min(math.pow(max(beyond, 1e-9), tail / (tail - 1)), _UNSEEN_MOST))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A population as a log-normal law fitted to the probe draws it, with its tail beyond the largest row seen.

    Mean and variance of the logarithms have their usual posterior (a scaled inverse chi-square, then a normal), as
    in Zhou and Gao, "Confidence intervals for the log-normal mean", Statistics in Medicine 16 (1997); rows that are 0
    (a model not called) come with a probability of their own. One draw serves all quantities of a row, because
    long rows are long in all of them.
    """

    shift: float
    inflation: float
    share: float

    @classmethod
    def draw(cls, rows: int, random: Random) -> LogNormal:
        freedom = _PRIOR_ROWS + max(0, rows - 1)
        return cls(
            random.gauss(0.0, 1.0) / math.sqrt(rows),
            freedom / max(random.gammavariate(freedom / 2, 2.0), 1e-9),
            random.gauss(0.0, 1.0),
        )

    def spread(self, quantity: Quantity) -> float:
        return min(math.sqrt(quantity.log_spread2 * self.inflation), _SPREAD_MOST)

    def moments(self, quantity: Quantity) -> tuple[float, float]:
        """Mean and variance of a row."""
        if not quantity.positive:
            return 0.0, 0.0
        spread = self.spread(quantity)
        share = 1.0
        if (rows := len(quantity.values)) > quantity.positive:
            known = quantity.positive / rows
            # The normal form of the share's posterior is close enough where the mean of the rest is this uncertain.
            share = min(1.0, max(0.2 / rows, known + self.share * math.sqrt(known * (1 - known) / rows)))
        mean = math.exp(quantity.log_mean + self.shift * spread * math.sqrt(rows / quantity.positive) + spread**2 / 2)
        square = mean * mean * math.exp(spread**2)
        return share * mean, max(0.0, share * square - (share * mean) ** 2)

    def quantile(self, quantity: Quantity, share: float) -> float:
        """The value below which this share of the rows lies."""
        if not quantity.positive:
            return 0.0
        spread = self.spread(quantity)
        normal = NormalDist().inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
        return math.exp(quantity.log_mean + (self.shift + normal) * spread)

    def rest(self, quantity: Quantity, share: float) -> float:
        """The x with E[max(D - x, 0)] = share E[D]."""
        if not quantity.positive:
            return 0.0
        spread = self.spread(quantity)
        mean = quantity.log_mean + self.shift * spread
        low, high = mean - 8 * spread, mean + 12 * spread
        normal = NormalDist()
        whole = math.exp(spread**2 / 2)
        for _ in range(20):
            middle = (low + high) / 2
            place = (mean - middle) / spread
            over = whole * normal.cdf(place + spread) - math.exp(middle - mean) * normal.cdf(place)
            low, high = (middle, high) if over > share * whole else (low, middle)
        return math.exp(low)


Population = Resampled | LogNormal


def draw_total(moments: tuple[float, float], rows: int, random: Random) -> float:
    """What `rows` future rows of a population with this mean and variance add up to, once.

    A gamma law with the sum's mean and variance: never negative, skewed as sums of few long-tailed rows are, and
    normal for many.
    """
    mean, variance = moments[0] * rows, moments[1] * rows
    if mean <= 0 or variance <= mean * mean * 1e-12:
        return max(0.0, mean)
    return random.gammavariate(mean * mean / variance, variance / mean)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the ordered values lies, interpolated."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _tail(logs: Sequence[float]) -> float:
    """Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3 (1975).

    Bounded so that a few rows of another kind are not taken for a law without a mean.
    """
    longest = sorted(logs, reverse=True)[: len(logs) // 4 + 1]
    if len(longest) < 2:
        return 0.0
    return min(fmean(longest[:-1]) - longest[-1], _TAIL_MOST)
