"""Where the time of model calls went: waits by cause, connecting, the first token, the rest of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WAITS = ("concurrency", "rpm", "tpm", "quota", "retry")
"""What calls wait for: a free slot, requests and tokens per minute, a day's quota; and what failed attempts cost, with
the waits after them."""


@dataclass(slots=True)
class Timing:
    """Seconds of one call, or the sums of several; of calls that ran at once the sum exceeds the time that passed."""

    calls: int = 0
    waits: dict[str, float] = field(default_factory=dict)
    """By cause, those of `WAITS` that occurred."""
    connect_s: float = 0.0
    """Opening connections, name look-ups and TLS included."""
    first_token_s: float = 0.0
    """From the request to the first token of a stream, or to the head of a plain answer."""
    generation_s: float = 0.0
    """From there to the last byte."""

    @property
    def total_s(self) -> float:
        return sum(self.waits.values()) + self.connect_s + self.first_token_s + self.generation_s

    def wait(self, cause: str, seconds: float) -> None:
        """Add a wait."""
        self.waits[cause] = self.waits.get(cause, 0.0) + seconds

    def add(self, other: Timing) -> None:
        """Add the seconds and calls of another."""
        self.calls += other.calls
        for cause, seconds in other.waits.items():
            self.wait(cause, seconds)
        self.connect_s += other.connect_s
        self.first_token_s += other.first_token_s
        self.generation_s += other.generation_s

    def copy(self) -> Timing:
        """As it is now."""
        return Timing(self.calls, dict(self.waits), self.connect_s, self.first_token_s, self.generation_s)


def total(timings: Mapping[str, Timing]) -> Timing:
    """The sum over all nodes."""
    found = Timing()
    for timing in timings.values():
        found.add(timing)
    return found
