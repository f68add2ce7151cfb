"""What a holder of a budget reports, and what it gets for it: a lease on a part of an endpoint's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from plait.flow.headers import Advice, Kind

Cause = Literal["concurrency", "rpm", "tpm", "quota"]
"""What calls wait for."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An endpoint refused a call because of its limits."""

    kind: Kind
    sent_at: float
    in_flight: int
    """Calls in flight when it was sent, itself included."""
    requests_after: float
    """Requests that the same holder sent after it."""
    tokens: float
    """What was reserved for it."""
    tokens_after: float
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer's headers said, and what had been sent after it by the time it came."""

    advice: Advice
    sent_at: float
    requests_after: float
    tokens_after: float


@dataclass(frozen=True, slots=True)
class Bound:
    """The limits that the user set for one budget entry."""

    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    rpd: int | None = None
    tpd: int | None = None
    timezone: str = "UTC"


@dataclass(slots=True)
class Report:
    """What happened at one holder since its last report. Sums are of that time, states are of now."""

    holder: str
    in_flight: int = 0
    waiting: int = 0
    waiting_tokens: float = 0.0
    """Estimate for all that wait."""
    first_tokens: float = 0.0
    """Estimate for the first that waits."""
    asked: int = 0
    """Calls in flight that its user allows at most; 0: nothing was said."""
    held_up: Cause | None = None
    """What the first that waits was held up by."""
    sent: int = 0
    sent_tokens: float = 0.0
    """As reserved."""
    corrected_tokens: float = 0.0
    """Reserved less used, of calls that ended."""
    unanswered: int = 0
    """Calls that reached nobody: refused connections and the like."""
    successes: int = 0
    timed: int = 0
    """Those of them whose duration says something of the endpoint."""
    latency: float = 0.0
    """Sum of their latencies (`windows.per_token`)."""
    company: float = 0.0
    """Sum of the calls in flight at this holder when each of them was sent."""
    output_tokens: float = 0.0
    """Sum of their output tokens."""
    refusals: list[Refusal] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    new: bool = False
    """The first report of its holder, which wants to know what is known."""
    sizes: Mapping[str, float] | None = None
    """What calls cost in tokens, as known now; None where that has not changed."""
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """What a holder may do until `expires_at`; times are the clock's `now`, but `quota_until` is wall time."""

    slots: int
    """Calls it may have in flight."""
    requests: float
    tokens: float
    starts_at: float
    """Before this nothing is sent."""
    request_interval_s: float
    tokens_interval_s: float
    """Seconds from one token to the next."""
    renew_at: float
    expires_at: float
    cause: Cause
    """What binds."""
    quota_until: float | None = None
    quota_is_own: bool = False
    """Whether it is the user's bound, not the endpoint's word."""
    sizes: Mapping[str, float] | None = None


UNLIMITED = 1_000_000
"""Slots of a lease where nothing bounds them."""
NOTHING = Lease(0, 0.0, 0.0, -math.inf, 0.0, 0.0, -math.inf, -math.inf, "concurrency")
