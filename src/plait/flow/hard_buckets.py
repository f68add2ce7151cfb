"""A limit that the user set, kept in any sixty seconds."""

from __future__ import annotations

from dataclasses import dataclass

from plait.flow.buckets import NEVER


@dataclass(slots=True)
class HardBucket:
    """A limit that the user set: never more than `per_minute` units in any sixty seconds."""

    per_minute: float
    level: float = 0.0
    at: float = NEVER

    @property
    def burst(self) -> float:
        return max(1.0, self.per_minute / 60)

    @property
    def rate(self) -> float:
        """Units per second; what the burst adds is taken off, so that the worst minute holds too."""
        return (self.per_minute - self.burst + 1.0) / 60 if self.per_minute > 1 else 1 / 60

    def advance(self, now: float, held: float) -> None:
        """Refill up to `now`. `held`: units that holders may still send, at a time that nobody knows."""
        elapsed = max(0.0, now - self.at)
        self.at = now
        self.level = min(self.burst - held, self.level + self.rate * elapsed)

    def promise(self, units: float, first: float, now: float) -> tuple[float, float]:
        """Reserve units; returns when the first call may be sent, and the seconds from one unit to the next."""
        starts = now + max(0.0, (first - self.level) / self.rate)
        self.level -= units
        return starts, 1.0 / self.rate if self.level < 0 else 0.0

    def correct(self, units: float) -> None:
        """Units promised and not sent, or reserved and not used."""
        self.level += units
