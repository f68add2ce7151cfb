"""A limit that the user set, kept in any sixty seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from plait.flow.buckets import NEVER

_LATE_S = 0.5


@dataclass(slots=True)
class HardBucket:
    """A limit that the user set: never more than `per_minute` units in any sixty seconds."""

    per_minute: float
    level: float = 0.0
    at: float = NEVER
    set_at: float = NEVER
    """When somebody who set it last reported."""
    queue: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The holders that wait, first come first: what each needs, and until when that is kept for it. Else the small
    calls of some would always be quicker than a big one of others."""

    @property
    def burst(self) -> float:
        return max(1.0, self.per_minute / 60)

    @property
    def rate(self) -> float:
        """Units per second; what the burst adds is taken off, so that the worst minute holds too."""
        return (self.per_minute - self.burst + 1.0) / 60

    def advance(self, now: float, held: float) -> None:
        """Refill up to `now`. `held`: units that holders may still send, at a time that nobody knows."""
        elapsed = max(0.0, now - self.at)
        self.at = now
        self.level = min(self.burst - held, self.level + self.rate * elapsed)

    def wait_s(self, units: float, chunk: float, holder: str, now: float) -> float:
        """Seconds until a holder may send `units`, or `chunk` where others wait. Nothing is promised ahead of time."""
        self.queue = {name: kept for name, kept in self.queue.items() if now < kept[1]}
        needed = chunk if self.queue.keys() - {holder} else units
        missing = min(needed, self.burst) - self.free(holder)
        return max(missing / self.rate, 0.001) if missing > 1e-6 else 0.0

    def alone_s(self, units: float) -> float:
        """Seconds until so many are there, whoever waits for them."""
        return (min(units, self.burst) - self.level) / self.rate

    def free(self, holder: str) -> float:
        """Units that are not kept for those who came before."""
        before = takewhile(lambda name: name != holder, self.queue)
        return self.level - sum(self.queue[name][0] for name in before)

    def wait(self, units: float, holder: str, until: float) -> None:
        """Keep its place in the queue; who is not back by then is late, dead or has given up."""
        self.queue[holder] = (min(units, self.burst), until + _LATE_S)

    def take(self, units: float) -> None:
        """Promise units to a holder, to be sent soon."""
        self.level -= units

    def correct(self, units: float) -> None:
        """Units promised and not sent, or reserved and not used."""
        self.level += units
