"""One gate for all runs of a process that have the same settings."""

from __future__ import annotations

import threading

from plait.flow.gate import Gate
from plait.settings import Settings

_KEPT = 64
_gates: list[tuple[Settings, Gate]] = []
"""The most recently used last. Bounded, for hosts that make settings per request (a key per customer)."""
_lock = threading.Lock()


def gate_for(settings: Settings) -> Gate:
    """The gate of these settings, made at the first call."""
    with _lock:
        for index, (known, gate) in enumerate(reversed(_gates)):
            if known is settings or known == settings:
                if index:
                    _gates.append(_gates.pop(-1 - index))
                return gate
        gate = Gate(settings)
        _gates.append((settings, gate))
        del _gates[:-_KEPT]
        return gate
