"""What was used of a day's allowance, and when the next day begins in the endpoint's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo


@dataclass(slots=True)
class Day:
    """Requests and tokens sent on one day; begins anew by itself."""

    date: str = ""
    requests: float = 0.0
    tokens: float = 0.0
    spent_until: float = 0.0
    """Wall time until which the endpoint itself has said that the day's allowance is used up."""

    def advance(self, wall: float, timezone: str) -> None:
        """Begin a new day if it has come. A clock that jumps back does not bring a day back."""
        date = datetime.fromtimestamp(wall, _zone(timezone)).date().isoformat()
        if date > self.date:
            self.date, self.requests, self.tokens = date, 0.0, 0.0

    def blocked_until(
        self, wall: float, timezone: str, requests_left: float | None, tokens_left: float | None
    ) -> float | None:
        """When calls may be sent again (wall time), None if now."""
        if self.spent_until > wall:
            return self.spent_until
        if (requests_left is not None and requests_left < 1) or (tokens_left is not None and tokens_left <= 0):
            return next_midnight(wall, timezone)
        return None


def next_midnight(wall: float, timezone: str) -> float:
    """The wall time at which the next day begins there; right in the hours that daylight saving skips or repeats."""
    zone = _zone(timezone)
    tomorrow = datetime.fromtimestamp(wall, zone).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time.min, zone).astimezone(UTC).timestamp()


@cache
def _zone(name: str) -> tzinfo:
    # Slim containers have no database of time zones, and need none for this one.
    return UTC if name == "UTC" else ZoneInfo(name)
