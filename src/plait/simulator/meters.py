"""The provider's own limits: token buckets for minutes, counts for days. Pure but for the clock that passes in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from plait.simulator.clocks import Clock
from plait.simulator.profiles import Profile, zone

Limit = Literal["rpm", "tpm", "rpd", "tpd", "concurrency"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit was reached; `wait_s` until the same request would be admitted, None where nobody can say."""

    limit: Limit
    allowed: float
    used: float
    requested: float
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of one limit, as headers tell it; `reset_s` until all of it is there again."""

    limit: float
    remaining: int
    reset_s: float


class Bucket:
    """Refills evenly, `limit` a minute, up to `capacity`."""

    def __init__(self, limit: float, capacity: float, now: float) -> None:
        self.limit = limit
        self.capacity = capacity
        self._level = capacity
        self._seen = now

    def level(self, now: float) -> float:
        """What it holds."""
        self._level = min(self.capacity, self._level + (now - self._seen) * self.limit / 60)
        self._seen = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until it holds that much: 0 where it does, infinity where it never can."""
        # The tolerance is for sums of floats: a client that comes back exactly on time must not be refused.
        missing = amount - self.level(now)
        if amount > self.capacity:
            return math.inf
        return missing * 60 / self.limit if missing > 1e-6 else 0.0

    def take(self, amount: float) -> None:
        """Take out what `wait_s` said is there."""
        self._level -= amount

    def resized(self, limit: float, capacity: float, now: float) -> Bucket:
        """One of another size that holds as much, at most its capacity."""
        other = Bucket(limit, capacity, now)
        other.take(max(0.0, capacity - self.level(now)))
        return other

    def standing(self, now: float) -> Standing:
        """What headers tell."""
        level = self.level(now)
        return Standing(self.limit, max(0, math.floor(level + 1e-6)), (self.capacity - level) * 60 / self.limit)


class Day:
    """Counts up to `limit` from midnight to midnight in a time zone."""

    def __init__(self, limit: int, zone_name: str) -> None:
        self.limit = limit
        self.used = 0.0
        self._zone = zone(zone_name)
        self._ends = -math.inf

    def wait_s(self, amount: float, wall: float) -> float:
        """Seconds until it admits that much: 0 where it does, infinity where it never can."""
        left_s = self.left_s(wall)
        if amount > self.limit:
            return math.inf
        return left_s if self.used + amount > self.limit else 0.0

    def left_s(self, wall: float) -> float:
        """Seconds until the day ends; a new day begins with nothing used."""
        if wall >= self._ends:
            self.used = 0.0
            today = datetime.fromtimestamp(wall, self._zone).date()
            midnight = datetime.combine(today + timedelta(days=1), datetime.min.time(), self._zone)
            self._ends = midnight.timestamp()
        return self._ends - wall

    def resized(self, limit: int, zone_name: str, wall: float) -> Day:
        """One with another limit, of which as much is used."""
        self.left_s(wall)
        other = Day(limit, zone_name)
        other.left_s(wall)
        other.used = self.used
        return other

    def standing(self, wall: float) -> Standing:
        """What headers tell."""
        left_s = self.left_s(wall)
        return Standing(self.limit, max(0, math.floor(self.limit - self.used)), left_s)


class Meters:
    """All rates of a profile at once: a request is admitted by all and charged to all, or charged to none."""

    def __init__(self, profile: Profile, clock: Clock) -> None:
        self._clock = clock
        self._minutes: dict[Limit, Bucket] = {}
        self._days: dict[Limit, Day] = {}
        self.change(profile)

    def change(self, profile: Profile) -> None:
        """Take over a profile's limits; what was used under the old ones stays used."""
        now, wall = self._clock.now(), self._clock.wall()
        minutes: dict[Limit, Bucket] = {}
        rates: tuple[tuple[Limit, float | None, float], ...] = (
            ("rpm", profile.rpm, profile.burst or max(1.0, (profile.rpm or 0) / 30)),
            ("tpm", profile.tpm, profile.token_burst or profile.tpm or 0),
        )
        for name, limit, capacity in rates:
            if limit is not None:
                old = self._minutes.get(name)
                minutes[name] = old.resized(limit, capacity, now) if old else Bucket(limit, capacity, now)
        days: dict[Limit, Day] = {}
        counts: tuple[tuple[Limit, int | None], ...] = (("rpd", profile.rpd), ("tpd", profile.tpd))
        for name, most in counts:
            if most is not None:
                day = self._days.get(name)
                days[name] = day.resized(most, profile.reset_zone, wall) if day else Day(most, profile.reset_zone)
        self._minutes, self._days = minutes, days

    @property
    def count_tokens(self) -> bool:
        """Whether `admit` looks at tokens at all."""
        return "tpm" in self._minutes or "tpd" in self._days

    def admit(self, tokens: float) -> Refusal | None:
        """Charge a request, or say which limit refuses it (then nothing is charged)."""
        if not self._minutes and not self._days:
            return None
        now, wall = self._clock.now(), self._clock.wall()
        for name, bucket in self._minutes.items():
            amount = 1.0 if name == "rpm" else tokens
            if wait_s := bucket.wait_s(amount, now):
                used = max(0.0, bucket.limit - math.floor(bucket.level(now)))
                return Refusal(name, bucket.limit, used, amount, wait_s if math.isfinite(wait_s) else None)
        for name, day in self._days.items():
            amount = 1.0 if name == "rpd" else tokens
            if wait_s := day.wait_s(amount, wall):
                return Refusal(name, day.limit, day.used, amount, wait_s if math.isfinite(wait_s) else None)
        for name, bucket in self._minutes.items():
            bucket.take(1.0 if name == "rpm" else tokens)
        for name, day in self._days.items():
            day.used += 1.0 if name == "rpd" else tokens
        return None

    def requests(self) -> Standing | None:
        """What is left of the requests: the minute's, or else the day's."""
        return self._standing("rpm", "rpd")

    def tokens(self) -> Standing | None:
        """What is left of the tokens: the minute's, or else the day's."""
        return self._standing("tpm", "tpd")

    def _standing(self, minute: Limit, day: Limit) -> Standing | None:
        if bucket := self._minutes.get(minute):
            return bucket.standing(self._clock.now())
        if days := self._days.get(day):
            return days.standing(self._clock.wall())
        return None
