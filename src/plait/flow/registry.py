"""One gate for all runs of a process that have the same settings."""

from __future__ import annotations

import threading

from plait.flow.gate import Gate
from plait.settings import Settings

_gates: list[tuple[Settings, Gate]] = []
_lock = threading.Lock()


def gate_for(settings: Settings) -> Gate:
    """The gate of these settings, made at the first call."""
    with _lock:
        for known, gate in _gates:
            if known is settings or known == settings:
                return gate
        gate = Gate(settings)
        _gates.append((settings, gate))
        return gate
