"""What came in and what became of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_MOST_BODIES = 1_000_000


@dataclass(slots=True)
class Counters:
    """Changed on the simulator's loop, readable from any thread. Its own endpoints (/simulator/...) do not count."""

    received: int = 0
    accepted: int = 0
    """Requests that no limit refused and that were, or will be, answered in full unless their client leaves."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason: rpm, tpm, rpd, tpd, concurrency, and invalid (wrong key, path, model or body)."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind; `scripted` for failing behaviours, `answer` where the callable for answers raised."""
    duplicates: int = 0
    """Accepted requests whose body equals an accepted one's: what a client paid for twice."""
    in_flight: int = 0
    """Requests from their arrival until their answer is written or their client left; those who queue included."""
    peak: int = 0
    """The most that were in flight at once."""
    served: int = 0
    """Requests in flight that hold one of the places of `max_concurrency`; the others wait in the queue."""
    served_peak: int = 0
    closed_early: int = 0
    """Requests whose client went away before the end of the answer."""
    prompt_tokens: int = 0
    """Of accepted requests, as are the other tokens."""
    completion_tokens: int = 0
    cached_tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the endpoint."""
        return dataclasses.asdict(self) | {"refused": dict(self.refused), "faults": dict(self.faults)}

    def clear(self) -> None:
        """Count from nothing; what is in flight stays."""
        for each in dataclasses.fields(self):
            if each.name not in {"in_flight", "served"}:
                setattr(self, each.name, Counter() if each.name in {"refused", "faults"} else 0)
        self.peak, self.served_peak = self.in_flight, self.served


class Bodies:
    """How often each body came, and which were accepted; the oldest are forgotten beyond a million."""

    def __init__(self) -> None:
        self._attempts: dict[int, int] = {}
        self._accepted: dict[int, None] = {}

    def arrive(self, digest: int) -> int:
        """The how-manieth request with this body it is, from 1."""
        attempt = self._attempts[digest] = self._attempts.get(digest, 0) + 1
        if attempt == 1 and len(self._attempts) > _MOST_BODIES:
            del self._attempts[next(iter(self._attempts))]
        return attempt

    def accept(self, digest: int) -> bool:
        """Remember that it was accepted; whether it was accepted before."""
        if digest in self._accepted:
            return True
        self._accepted[digest] = None
        if len(self._accepted) > _MOST_BODIES:
            del self._accepted[next(iter(self._accepted))]
        return False
