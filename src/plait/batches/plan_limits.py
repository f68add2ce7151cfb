"""What limits a batch, as a forecast wants it: what its user set and what was learnt of the endpoints it calls."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from plait.flow.buckets import UNBOUNDED, Bucket
from plait.flow.entries import Entry
from plait.flow.gate import Gate
from plait.flow.hard_buckets import HardBucket
from plait.flow.leases import Bound
from plait.flow.quotas import Day, next_midnight
from plait.forecasts import Concurrency, Part, Quota, Rate

# As `plait limits` has it: a rate so near to what headers name is what they name.
_AS_TOLD = 0.99


def known_parts(
    gate: Gate, entries: Mapping[str, Entry], *, max_concurrency: int | None, wall: float
) -> tuple[Part, ...]:
    """The limits of the calls that the gate has seen; `entries` are what the budget knows, by the name of the part.

    `max_concurrency` is the bound of this process, `wall` the time in seconds since 1970.
    """
    models: dict[str, set[str]] = {}
    bounds: dict[str, Bound] = {}
    for model, lane in gate.used():
        for part in lane.parts:
            models.setdefault(part.name, set()).add(model)
            bounds[part.name] = part.bound
    found = [] if max_concurrency is None else [Part("", max_concurrency=Concurrency(max_concurrency, own=True))]
    for name, bound in bounds.items():
        found.append(_part(_title(name), frozenset(models[name]), entries.get(name), bound, wall))
    return tuple(part for part in found if part != Part(part.name, part.models))


def _title(name: str) -> str:
    url, _, model = name.split(" ", 2)
    return (urlsplit(url).hostname or url) if model == "*" else model


def _part(title: str, models: frozenset[str], entry: Entry | None, bound: Bound, wall: float) -> Part:
    day = Day() if entry is None else entry.day
    day.advance(wall, bound.timezone)
    resets_in_s = next_midnight(wall, bound.timezone) - wall
    return Part(
        title,
        models,
        requests_per_min=_rate(entry.requests if entry else None, bound.rpm),
        tokens_per_min=_rate(entry.tokens if entry else None, bound.tpm),
        max_concurrency=_concurrency(entry, bound.max_concurrency),
        requests_per_day=_quota(bound.rpd, day.requests, resets_in_s),
        tokens_per_day=_quota(bound.tpd, day.tokens, resets_in_s),
    )


def _rate(learnt: Bucket | None, most: float | None) -> Rate | None:
    """The stricter of what was learnt and what the user set."""
    found = []
    if learnt is not None and learnt.rate is not None:
        told = learnt.told is not None and learnt.rate >= _AS_TOLD * learnt.told
        burst = learnt.burst if (told or learnt.burst_learnt) and learnt.burst < UNBOUNDED else 0.0
        found.append(Rate(learnt.rate * 60, "told" if told else "unknown" if learnt.guessed else "measured", burst))
    if most is not None:
        hard = HardBucket(most)
        found.append(Rate(hard.rate * 60, "told", hard.burst))
    return min(found, key=lambda rate: rate.per_minute, default=None)


def _concurrency(entry: Entry | None, most: int | None) -> Concurrency | None:
    found = []
    if entry is not None and entry.learns and (entry.window.ceiling is not None or entry.window.cap is not None):
        found.append(Concurrency(int(entry.window.limit), "measured"))
    if most is not None:
        found.append(Concurrency(most, own=True))
    return min(found, key=lambda bound: bound.limit, default=None)


def _quota(a_day: int | None, used: float, resets_in_s: float) -> Quota | None:
    return None if a_day is None else Quota(float(a_day), max(0.0, a_day - used), resets_in_s)
