"""Which bounds hold for a call, and where it queues: one lane for each endpoint, key and model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import urlsplit

from plait.flow.budgets import Budget, MemoryBudget, Part
from plait.flow.calls import Call
from plait.flow.clock import Clock, SystemClock
from plait.flow.holders import new_holder
from plait.flow.lanes import Lane, Patience
from plait.flow.leases import Bound
from plait.flow.limits import Limit
from plait.flow.retries import RetryPolicy
from plait.settings import Bounds, Endpoint, Settings

_MOST_LANES = 1000
"""Idle lanes go beyond so many: a host may use a key per customer."""

_T = TypeVar("_T", int, float)


class EndpointState:
    """What this process knows about one base URL."""

    def __init__(self) -> None:
        self.reached = False
        """Whether it ever answered."""
        self.rejects_stream_options = False
        """Whether it refuses to report the usage of streams."""


class Lanes:
    """The lanes over one budget: calls that have the same bounds and go to the same place share one."""

    def __init__(self, budget: Budget, clock: Clock) -> None:
        self._budget = budget
        self._clock = clock
        self._lanes: dict[Hashable, Lane] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def lane(self, name: str, parts: tuple[Part, ...], patience: Patience, process: Limit | None) -> Lane:
        """The lane of these bounds, made at its first call."""
        if self._pid != os.getpid():  # a forked child: the calls in flight are its parent's
            self._pid, self._lanes, self._lock = os.getpid(), {}, threading.Lock()
        key = (name, parts, patience, process)
        lane = self._lanes.get(key)
        if lane is None:
            with self._lock:
                lane = self._lanes.get(key)
                if lane is None:
                    if len(self._lanes) >= _MOST_LANES:
                        self._lanes = {known: kept for known, kept in self._lanes.items() if not kept.idle}
                    lane = self._lanes[key] = Lane(
                        name,
                        parts,
                        self._budget,
                        self._clock,
                        holder=new_holder(),
                        patience=patience,
                        process=process,
                    )
        return lane

    def close(self) -> None:
        """Give everything back."""
        for lane in list(self._lanes.values()):
            lane.close()
        self._budget.close()


class Gate:
    """The bounds and the retry policy that all calls of a process with the same settings share."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        limit: Callable[[str, int], Limit] = Limit,
        lanes: Lanes | None = None,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._settings = settings
        self._lanes = lanes or Lanes(MemoryBudget(self.clock), self.clock)
        self._private = Lanes(MemoryBudget(self.clock), self.clock)
        self.process = limit("process", settings.max_concurrency) if settings.max_concurrency else None
        self.unscoped_calls = 0
        """Calls that belong to no run: bounded like all others, counted here."""
        self.built: dict[Hashable, Any] = {}
        """Clients and models made for these settings; kept here so that they go when the gate goes."""
        self._named: dict[str, list[Endpoint]] = {}
        for endpoint in settings.endpoints.values():
            if endpoint.base_url:
                self._named.setdefault(_canonical(endpoint.base_url), []).append(endpoint)
        self._endpoints: dict[str, EndpointState] = {}
        self.declared: dict[str, int] = {}
        """Calls in flight at endpoints that live in this process."""
        self._own: set[str] = set()
        self._pid = os.getpid()
        self._found: dict[tuple[str, str, str], tuple[Lane, RetryPolicy]] = {}

    def binding(self) -> str | None:
        """What most waiting calls wait for, in words; None where none waits."""
        lanes = [lane for lane, _ in list(self._found.values()) if lane.waiting]
        if not lanes:
            return None
        lane = max(lanes, key=lambda lane: lane.waiting)
        return f"{lane.binding} at {lane.name}"

    def used(self) -> list[tuple[str, Lane]]:
        """The lanes of the calls so far, each with the model that was called."""
        return [(model, lane) for (_, _, model), (lane, _) in list(self._found.items())]

    def endpoint(self, base_url: str) -> EndpointState:
        """The state of an endpoint, made at its first call."""
        return self._endpoints.setdefault(base_url, EndpointState())

    def declare(self, base_url: str, *, max_concurrency: int) -> None:
        """Bound an endpoint of this process alone, such as the embedded model's few slots: nothing is learnt of it."""
        self.declared.setdefault(_canonical(base_url), max_concurrency)

    def serve_at(self, *origins: str) -> None:
        """Let calls to these (`http://127.0.0.1:8123`) through untouched: this process answers them itself.

        A run that held a permit while another run behind that endpoint waits for one would wait for ever.
        """
        self._own.update(origin.lower().rstrip("/") for origin in origins)

    def is_own(self, endpoint: str) -> bool:
        """Whether an endpoint's base URL is one that this process serves."""
        return bool(self._own) and "/".join(endpoint.split("/", 3)[:3]).lower() in self._own

    def lane(self, call: Call) -> tuple[Lane, RetryPolicy]:
        """Where a call queues, and how often it is tried."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._found.clear()
        key = (call.endpoint, call.account, call.model)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_LANES:
                self._found.clear()
            found = self._found[key] = self._find(*key)
        return found

    def _find(self, base_url: str, account: str, model: str) -> tuple[Lane, RetryPolicy]:
        settings = self._settings
        name = f"{base_url} {model}".rstrip()
        if base_url in self.declared:
            part = Part(name, Bound(max_concurrency=self.declared[base_url]), learns=False)
            patience = Patience(settings.deadline_s, settings.max_wait_s)
            return self._private.lane(name, (part,), patience, self.process), self._retries(())
        named = self._named.get(base_url, [])
        # Of endpoints that have several names the strictest bounds hold.
        of_model = [endpoint.models[model] for endpoint in named if model in endpoint.models]
        of_endpoint = [_filled(endpoint.bounds, settings) for endpoint in named] or [_filled(Bounds(), settings)]
        zone = named[0].quota_timezone if named else settings.quota_timezone
        digest = _digest(account)
        parts = [Part(f"{base_url} {digest} {model}", _bound(of_model, zone))]
        whole = _bound(of_endpoint, zone)
        if whole != Bound(timezone=zone):
            parts.append(Part(f"{base_url} {digest} *", whole, learns=False))
        bounds = [*of_model, *of_endpoint]
        retries = self._retries(bounds)
        patience = Patience(retries.deadline_s, _least(settings.max_wait_s, [b.max_wait_s for b in bounds]))
        return self._lanes.lane(name, tuple(parts), patience, self.process), retries

    def _retries(self, bounds: Sequence[Bounds]) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=_least(self._settings.max_attempts, [b.max_attempts for b in bounds]) or 1,
            deadline_s=_least(self._settings.deadline_s, [b.deadline_s for b in bounds]) or 1.0,
        )


def _filled(bounds: Bounds, settings: Settings) -> Bounds:
    """An endpoint's bounds, with the general ones where it has none of its own."""
    general = {name: getattr(settings, name) for name in ("rpm", "tpm", "rpd", "tpd") if getattr(bounds, name) is None}
    return replace(bounds, **general)


def _bound(bounds: Sequence[Bounds], timezone: str) -> Bound:
    return Bound(
        max_concurrency=_least(None, [b.max_concurrency for b in bounds]),
        rpm=_least(None, [b.rpm for b in bounds]),
        tpm=_least(None, [b.tpm for b in bounds]),
        rpd=_least(None, [b.rpd for b in bounds]),
        tpd=_least(None, [b.tpd for b in bounds]),
        timezone=timezone,
    )


def _least(otherwise: _T | None, values: Sequence[_T | None]) -> _T | None:
    given = [value for value in values if value is not None]
    return min(given) if given else otherwise


@lru_cache(maxsize=256)
def _digest(account: str) -> str:
    """Tells accounts apart where they are stored, without the key."""
    return blake2b(account.encode(), digest_size=4, person=b"plait").hexdigest() if account else "-"


def _canonical(base_url: str) -> str:
    """The form in which a request's URL is reported: host in lower case, no default port, no slash at the end."""
    parts = urlsplit(base_url)
    port = "" if parts.port in {None, {"http": 80, "https": 443}.get(parts.scheme)} else f":{parts.port}"
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
