"""When a batch will be done: which limit binds it, and how long its last rows go on after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Literal

from plait.forecasts.probes import Population, Quantity

DAY_S = 86_400.0

Sure = Literal["told", "measured", "unknown"]
"""Whether a limit was told (by the user or by headers), found by being refused, or is where plait happens to be."""

# How far the pace of a batch is from the limit: what is told is kept to within a few percent, what was found by
# refusals moves, and where nothing was refused yet the limit may be far above.
_SPREADS: dict[str, float] = {"told": 0.025, "measured": 0.15, "unknown": 0.5}
_PACE = {"told": 0.985, "measured": 0.95, "unknown": 1.0}
# An endpoint is not equally fast at all hours.
_LATENCY_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit by the minute."""

    per_minute: float
    sure: Sure = "told"
    burst: float = 0.0
    """What may be used at once after a rest."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """A limit of calls in flight."""

    limit: int
    sure: Sure = "told"
    own: bool = False
    """True where the user set it, so that they can raise it."""


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit by the day."""

    per_day: float
    left: float
    """Of today's."""
    resets_in_s: float
    sure: Sure = "told"


@dataclass(frozen=True, slots=True)
class Part:
    """Limits that hold together for the calls of some models: of one model, an endpoint, or this process."""

    name: str
    models: frozenset[str] | None = None
    """Keys of `ProbeRow.models`; None: all of them."""
    requests_per_min: Rate | None = None
    tokens_per_min: Rate | None = None
    max_concurrency: Concurrency | None = None
    requests_per_day: Quota | None = None
    tokens_per_day: Quota | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What the rows that are left ask of one part, added up."""

    calls: float
    tokens: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A limit and how long it alone would hold the batch up, in seconds; `part` is empty for this process."""

    limit: str
    part: str
    seconds: float


def holds_of(part: Part, work: Work, drift: float, random: Random) -> list[Hold]:
    """How long each limit of a part needs for this work, with the limit drawn as surely as it is known."""
    found = []
    for limit, rate, amount in (
        ("requests/min", part.requests_per_min, work.calls),
        ("tokens/min", part.tokens_per_min, work.tokens),
    ):
        if rate is not None:
            seconds = max(0.0, amount - rate.burst) / max(rate.per_minute * _pace(rate.sure, random), 1e-9) * 60
            found.append(Hold(limit, part.name, seconds))
    if (bound := part.max_concurrency) is not None:
        # A bound on calls in flight that was told is kept exactly.
        slots = bound.limit * (1.0 if bound.sure == "told" else _pace(bound.sure, random))
        found.append(Hold("concurrency", part.name, work.latency_s * drift / max(1.0, slots)))
    return found


def draw_drift(random: Random) -> float:
    """How much slower the endpoint answers during the batch than during the probe."""
    return math.exp(random.gauss(0.0, _LATENCY_SPREAD))


def waited_s(quota: Quota, amount: float, seconds: float) -> float:
    """How long `amount` takes with a day's quota, where `seconds` would be enough without it."""
    if amount <= 0 or seconds <= 0:
        return seconds
    rate = amount / seconds
    resets_in_s = max(0.0, quota.resets_in_s)
    rest = amount - min(max(0.0, quota.left), rate * resets_in_s)
    if rest <= amount * 1e-9:
        return seconds
    a_day = min(max(1.0, quota.per_day), rate * DAY_S)
    days = max(0, math.ceil(rest / a_day - 1e-9) - 1)
    return resets_in_s + days * DAY_S + (rest - days * a_day) / rate


def finish_s(
    rows: int, hold: Hold | None, durations: Quantity, population: Population, *, calls_a_row: float, random: Random
) -> float:
    """When the last row ends, where `hold` binds and rows take the given durations; without limit all begin at once.

    The limit passes rows / hold rows a second, so (Little's law) that times a row's mean duration are in flight. When
    the last row begins, those go on: what is left of each follows the residual life of renewal theory (Cox, "Renewal
    Theory", 1962), and the batch ends with the longest of them. A limit of calls in flight, or of calls a minute for
    rows of many calls, has meanwhile been working off the others' rest.
    """
    mean, variance = population.moments(durations)
    if mean <= 0:
        return 0.0 if hold is None else hold.seconds
    in_flight = rows if hold is None or hold.seconds <= 0 else min(float(rows), rows / hold.seconds * mean)
    if hold is None or in_flight >= rows:
        return max(population.quantile(durations, random.random() ** (1 / rows)), 0.0 if hold is None else hold.seconds)
    overlap = (mean * mean + variance) / (2 * mean)
    if hold.limit in ("requests/min", "tokens/min"):
        overlap *= 1 - 1 / max(1.0, calls_a_row)
    last = population.rest(durations, 1 - random.random() ** (1 / max(1.0, in_flight)))
    return max(hold.seconds - min(overlap, last) + last, last)


def _pace(sure: Sure, random: Random) -> float:
    return _PACE[sure] * math.exp(random.gauss(0.0, _SPREADS[sure]))
