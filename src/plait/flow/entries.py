"""What is known of one endpoint, key and model, and of who shares it: the state that the control law changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from plait.flow.buckets import NEVER, UNBOUNDED, Bucket
from plait.flow.hard_buckets import HardBucket
from plait.flow.quotas import Day
from plait.flow.windows import Window

GONE_S = 3.0
"""A holder that has not reported for so long is dead, and what it held is free."""
_TYPICAL_COST = 500.0


def tokens_bucket() -> Bucket:
    """A bucket of tokens of which nothing is known."""
    return Bucket(unit=_TYPICAL_COST, ramps=False, burst=UNBOUNDED, level=0.0)


@dataclass(slots=True)
class Holder:
    """What one process (or one lane of it) holds."""

    seen: float
    slots: int = 0
    in_flight: int = 0
    waiting: int = 0
    bounded: bool = False
    """Whether its user set a bound on calls in flight."""
    had_at: float = NEVER
    """When it last had a slot."""
    requests: float = 0.0
    tokens: float = 0.0


@dataclass(slots=True)
class Entry:
    """All that is known of one endpoint, key and model; or the user's limits for all models of an endpoint."""

    learns: bool = True
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=tokens_bucket)
    rpm: HardBucket | None = None
    tpm: HardBucket | None = None
    window: Window = field(default_factory=Window)
    day: Day = field(default_factory=Day)
    holders: dict[str, Holder] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """Refusals so far, by kind."""
    sizes: dict[str, float] = field(default_factory=dict)
    """What calls cost in tokens (`estimates.Sizes`)."""
    unanswered: int = 0
    """Calls in a row that reached nobody."""
    accepted: int = 0
    seen_wall: float = 0.0
    """Wall time of the last report."""

    @property
    def in_flight(self) -> int:
        return sum(holder.in_flight for holder in self.holders.values())

    @property
    def promised_requests(self) -> float:
        """Requests that holders may still send."""
        return sum(holder.requests for holder in self.holders.values())

    @property
    def promised_tokens(self) -> float:
        return sum(holder.tokens for holder in self.holders.values())

    def give_back(self, holder: Holder) -> None:
        """Take back what a holder was promised."""
        self.requests.take_back(holder.requests)
        self.tokens.take_back(holder.tokens)
        if self.rpm:
            self.rpm.correct(holder.requests)
        if self.tpm:
            self.tpm.correct(holder.tokens)
