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
    set_at: float = NEVER
    """When somebody who set it last reported."""

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

    def wait_s(self, units: float) -> float:
        """Seconds until a call of so many units may be sent: what is not there is not promised."""
        missing = min(units, self.burst) - self.level
        return max(missing / self.rate, 0.001) if missing > 1e-6 else 0.0

    def take(self, units: float) -> None:
        """Promise units to a holder, to be sent soon."""
        self.level -= units

    def correct(self, units: float) -> None:
        """Units promised and not sent, or reserved and not used."""
        self.level += units
