"""One gate for all runs of a process that have the same settings, over one budget for all gates."""

from __future__ import annotations

import atexit
import threading
from functools import cache
from pathlib import Path
from weakref import WeakValueDictionary

from plait.flow.budget_places import budget_url, ledger_at
from plait.flow.budgets import MemoryBudget
from plait.flow.clock import SystemClock
from plait.flow.gate import Gate, Lanes
from plait.flow.host_budget import HostBudget
from plait.flow.limits import Limit
from plait.flow.shared_budgets import SharedBudget
from plait.settings import Settings

_KEPT = 64
_gates: list[tuple[Settings, Gate]] = []
"""The most recently used last. Bounded, for hosts that make settings per request (a key per customer)."""
_limits: WeakValueDictionary[tuple[str, int], Limit] = WeakValueDictionary()
_lock = threading.Lock()
_clock = SystemClock()


def gate_for(settings: Settings) -> Gate:
    """The gate of these settings, made at the first call."""
    with _lock:
        for index, (known, gate) in enumerate(reversed(_gates)):
            if known is settings or known == settings:
                if index:
                    _gates.append(_gates.pop(-1 - index))
                return gate
        gate = Gate(settings, clock=_clock, limit=_shared_limit, lanes=_lanes(settings))
        _gates.append((settings, gate))
        del _gates[:-_KEPT]
        return gate


def _lanes(settings: Settings) -> Lanes:
    url = budget_url(settings)
    if url is not None:
        return _server_lanes(url)
    return _host_lanes(settings.home) if settings.share and settings.home != Path() else _own_lanes()


@cache
def _own_lanes() -> Lanes:
    return Lanes(MemoryBudget(_clock), _clock)


@cache
def _host_lanes(home: Path) -> Lanes:
    return _closed_at_exit(Lanes(HostBudget(home / "limits.db", _clock), _clock))


@cache
def _server_lanes(url: str) -> Lanes:
    return _closed_at_exit(Lanes(SharedBudget(ledger_at(url), _clock), _clock))


def _closed_at_exit(lanes: Lanes) -> Lanes:
    atexit.register(lanes.close)
    return lanes


def _shared_limit(name: str, capacity: int) -> Limit:
    # A bound of the process or of an endpoint is one bound, though runs may differ in other settings.
    limit = _limits.get((name, capacity))
    if limit is None:
        limit = _limits[name, capacity] = Limit(name, capacity)
    return limit
