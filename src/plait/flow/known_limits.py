"""What the shared budget knows of each endpoint and model, in the words of `plait limits` and of `GET /limits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

from plait.flow.buckets import UNBOUNDED, Bucket
from plait.flow.entries import GONE_S, Entry, Holder
from plait.flow.hard_buckets import HardBucket
from plait.flow.quotas import Day
from plait.masking import masked
from plait.settings import Bounds, Endpoint, Settings


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests or tokens a minute."""

    per_minute: float | None
    """What is believed; None while nothing has told."""
    source: Literal["headers", "refusals"] | None
    certainty: Literal["guess", "confirmed"] | None
    at_once: float | None
    """How many go through at once after a rest."""
    trying_per_minute: float | None
    """The pace above it that is being tried now."""
    set_per_minute: float | None
    """What the user allows at most."""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Calls that may be in flight at once, of all processes together; None while no bound was found."""

    limit: int | None
    source: Literal["set", "refusals", "latency"] | None


@dataclass(frozen=True, slots=True)
class Today:
    """What the present day has used, in the endpoint's time zone, and what the settings allow."""

    date: str
    requests: int
    tokens: int
    most_requests: int | None
    most_tokens: int | None
    used_up: bool
    """The endpoint itself has said that nothing is left."""


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of one endpoint, account and model."""

    name: str
    endpoint: str
    account: str
    """A digest of the key; `-` without one."""
    model: str
    """`*` for all models of the endpoint together."""
    title: str
    """The model for people, with the account where the endpoint has several."""
    learns: bool
    """False where only the user's bounds count: for all models together."""
    requests: Rate
    tokens: Rate
    in_flight: int
    waiting: int
    processes: int
    """That share it now."""
    concurrency: Concurrency
    paused_until: datetime | None
    today: Today
    timezone: str
    accepted: int
    refused: Mapping[str, int]
    """By kind."""
    last_used: datetime


def known_limits(entries: Mapping[str, Entry], settings: Settings, now: float, wall: float) -> list[Known]:
    """What the entries say at this moment; `now` on the clock of the budget, `wall` in seconds since 1970."""
    accounts: dict[str, set[str]] = {}
    for name in entries:
        url, account, _ = _parts(name)
        accounts.setdefault(url, set()).add(account)
    found = []
    for name, entry in entries.items():
        url, account, model = _parts(name)
        title = {"*": "all models", "": "no model named"}.get(model, model)
        if len(accounts[url]) > 1:
            title += " (without a key)" if account == "-" else f" (key {account})"
        found.append(_known(name, title, entry, settings, now, wall))
    return found


def _parts(name: str) -> tuple[str, str, str]:
    url, _, rest = name.partition(" ")
    account, _, model = rest.partition(" ")
    return url, account, model


def _known(name: str, title: str, entry: Entry, settings: Settings, now: float, wall: float) -> Known:
    url, account, model = _parts(name)
    bounds, zone = _bounds(settings, url, model)
    entry.day.advance(wall, zone)
    # The clock counts from the machine's start; what lies ahead of it is from before.
    present = max(entry.requests.at, entry.window.at) <= now + 1.0
    holders = {n: h for n, h in entry.holders.items() if present and -1.0 <= now - h.seen <= GONE_S}
    return Known(
        name=name,
        endpoint=masked(url),
        account=account,
        model=model,
        title=title,
        learns=entry.learns,
        requests=_rate(entry.requests, entry.rpm, present),
        tokens=_rate(entry.tokens, entry.tpm, present),
        in_flight=sum(holder.in_flight for holder in holders.values()),
        waiting=sum(holder.waiting for holder in holders.values()),
        processes=_processes(holders),
        concurrency=_concurrency(entry, bounds),
        paused_until=_paused_until(entry, now if present else None, wall),
        today=_today(entry.day, bounds, wall),
        timezone=zone,
        accepted=entry.accepted,
        refused=dict(entry.refused),
        last_used=datetime.fromtimestamp(entry.seen_wall, UTC),
    )


def _rate(bucket: Bucket, hard: HardBucket | None, present: bool) -> Rate:
    rate, told = bucket.rate, bucket.told
    from_headers = rate is not None and told is not None and rate >= 0.99 * told
    trying = present and rate is not None and bucket.accrual > 1.02 * rate
    return Rate(
        per_minute=None if rate is None else rate * 60,
        source=None if rate is None else "headers" if from_headers else "refusals",
        certainty=None if rate is None else "guess" if bucket.guessed else "confirmed",
        at_once=None if rate is None or bucket.burst >= UNBOUNDED else max(1.0, bucket.burst),
        trying_per_minute=bucket.accrual * 60 if trying else None,
        set_per_minute=hard.per_minute if hard else None,
    )


def _today(day: Day, bounds: Bounds, wall: float) -> Today:
    return Today(
        day.date, round(day.requests), round(day.tokens), bounds.rpd, bounds.tpd, used_up=day.spent_until > wall
    )


def _concurrency(entry: Entry, bounds: Bounds) -> Concurrency:
    window = entry.window
    found = Concurrency(None, None)
    if entry.learns and (window.ceiling is not None or window.cap is not None):
        by_latency = window.cap is not None and replace(window, cap=None).limit > window.cap
        found = Concurrency(int(window.limit), "latency" if by_latency else "refusals")
    if bounds.max_concurrency is not None and (found.limit is None or bounds.max_concurrency < found.limit):
        found = Concurrency(bounds.max_concurrency, "set")
    return found


def _paused_until(entry: Entry, now: float | None, wall: float) -> datetime | None:
    until = entry.day.spent_until
    if now is not None:
        quiet_s = max(entry.requests.quiet_until, entry.tokens.quiet_until) - now
        until = max(until, wall + quiet_s)
    return datetime.fromtimestamp(until, UTC) if until > wall else None


def _processes(holders: Mapping[str, Holder]) -> int:
    return len({name.partition("-")[0] for name in holders})


# --- what the user set ---------------------------------------------------------------------------------


def _bounds(settings: Settings, url: str, model: str) -> tuple[Bounds, str]:
    """The strictest bounds that the settings have for an endpoint's models together, or for one of them."""
    named = [endpoint for endpoint in settings.endpoints.values() if _is_at(endpoint, url)]
    zone = named[0].quota_timezone if named else settings.quota_timezone
    if model != "*":
        return _strictest([endpoint.models[model] for endpoint in named if model in endpoint.models]), zone
    every = _strictest([endpoint.bounds for endpoint in named])
    return replace(
        every,
        rpd=settings.rpd if every.rpd is None else every.rpd,
        tpd=settings.tpd if every.tpd is None else every.tpd,
    ), zone


def _strictest(bounds: Sequence[Bounds]) -> Bounds:
    def least(values: Sequence[int | None]) -> int | None:
        return min((value for value in values if value is not None), default=None)

    return Bounds(
        max_concurrency=least([each.max_concurrency for each in bounds]),
        rpd=least([each.rpd for each in bounds]),
        tpd=least([each.tpd for each in bounds]),
    )


def _is_at(endpoint: Endpoint, url: str) -> bool:
    ours, theirs = urlsplit(endpoint.base_url), urlsplit(url)
    ports = {"http": 80, "https": 443}
    return (ours.scheme, ours.hostname, ours.port or ports.get(ours.scheme), ours.path.rstrip("/")) == (
        theirs.scheme,
        theirs.hostname,
        theirs.port or ports.get(theirs.scheme),
        theirs.path.rstrip("/"),
    )
