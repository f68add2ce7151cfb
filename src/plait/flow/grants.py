"""What a holder may do next: how many calls in flight, how many requests and tokens, from when, at what spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from plait.flow.entries import Entry
from plait.flow.leases import Bound, Cause, Lease, Report

_RENEW_S = 0.25
_EXPIRES_S = 1.0
_RETHINK_S = 0.5
_PARKED_S = 5.0
_AHEAD_S = 0.1
"""A lease carries about this much of a rate."""
_AHEAD_UNKNOWN_S = 0.03
_STOCK = 100


def grant(entries: Sequence[tuple[Entry, Bound]], report: Report, now: float, wall: float) -> Lease:
    """A lease on all entries in one step."""
    slots, cause = _slots(entries, report)
    requests = float(_requests_wanted(entries, report))
    quota_until: float | None = None
    own, allowance = False, math.inf
    for entry, bound in entries:
        left = _left(bound.rpd, entry.day.requests, entry.promised_requests)
        tokens_left = _left(bound.tpd, entry.day.tokens, entry.promised_tokens)
        until = entry.day.blocked_until(wall, bound.timezone, left, tokens_left)
        if until is not None and until > (quota_until or 0.0):
            quota_until, own = until, entry.day.spent_until <= wall
        if tokens_left is not None:
            allowance = min(allowance, tokens_left)
        if left is not None:
            requests = min(requests, max(0.0, math.floor(left)))
    quiet_until = max(max(entry.requests.quiet_until, entry.tokens.quiet_until) for entry, _ in entries)
    lease = Lease(slots, 0.0, 0.0, now, 0.0, 0.0, now + _RENEW_S, now + _EXPIRES_S, cause, quota_until)
    if quota_until is not None:
        return replace(lease, quota_is_own=own, renew_at=now + _PARKED_S, expires_at=now + 2 * _PARKED_S)
    if quiet_until > now:
        held = _binding_bucket(entries)
        expires_at = max(quiet_until, lease.expires_at)
        return replace(lease, starts_at=quiet_until, renew_at=quiet_until, expires_at=expires_at, cause=held)
    if requests < 1:
        return lease
    return _promise(entries, report, lease, requests, allowance, now)


def _promise(
    entries: Sequence[tuple[Entry, Bound]], report: Report, lease: Lease, requests: float, allowance: float, now: float
) -> Lease:
    # One call may go a little over the day's end: what it will cost is not known before.
    tokens = min(_tokens_wanted(entries, report, requests), max(report.first_tokens, allowance))
    starts, spacing, token_spacing = now, 0.0, 0.0
    cause: Cause = "rpm"
    for entry, _ in entries:
        holder = entry.holders[report.holder]
        for bucket in (entry.requests if entry.learns else None, entry.rpm):
            if bucket is not None:
                at, interval = bucket.promise(requests, 1.0, now)
                starts, spacing = max(starts, at), max(spacing, interval)
        for token_bucket in (entry.tokens if entry.learns else None, entry.tpm):
            if token_bucket is not None and not math.isinf(tokens):
                at, interval = token_bucket.promise(tokens, max(1.0, report.first_tokens), now)
                if at > starts:
                    cause = "tpm"
                starts, token_spacing = max(starts, at), max(token_spacing, interval)
        holder.requests, holder.tokens = requests, 0.0 if math.isinf(tokens) else tokens
    return replace(
        lease,
        requests=requests,
        tokens=tokens,
        starts_at=starts,
        request_interval_s=spacing,
        tokens_interval_s=token_spacing,
        # A pace that grows meanwhile makes the wait shorter.
        renew_at=max(lease.renew_at, min(starts, now + _RETHINK_S)),
        expires_at=max(lease.expires_at, starts + _EXPIRES_S),
        cause=cause,
    )


def _requests_wanted(entries: Sequence[tuple[Entry, Bound]], report: Report) -> int:
    """A chunk of what the slowest rate lets through; a little on stock where no rate is known, for calls to come."""
    known = [entry.requests for entry, _ in entries if entry.learns and entry.requests.rate is not None]
    rates = [bucket.accrual for bucket in known] + [entry.rpm.rate for entry, _ in entries if entry.rpm]
    if rates:
        return min(report.waiting, max(1, int(min(rates) * _AHEAD_S)))
    learning = [entry.requests for entry, _ in entries if entry.learns]
    if not learning:
        return max(report.waiting, _STOCK)
    # What is promised when the first refusal comes is still sent, so it is little while the limit may be near.
    chunk = max(int(bucket.pace * _AHEAD_UNKNOWN_S) for bucket in learning)
    return max(1, chunk, min(report.waiting, int(min(bucket.level for bucket in learning))))


def _tokens_wanted(entries: Sequence[tuple[Entry, Bound]], report: Report, requests: float) -> float:
    """As many as those requests will need, or a chunk of what the slowest rate lets through; never too few for one."""
    rates = [entry.tokens.accrual for entry, _ in entries if entry.learns and entry.tokens.rate is not None]
    rates += [entry.tpm.rate for entry, _ in entries if entry.tpm]
    if not rates:
        return math.inf
    share = report.waiting_tokens * min(1.0, requests / report.waiting) if report.waiting else 0.0
    return max(report.first_tokens, min(share, min(rates) * _AHEAD_S))


def _left(most: float | None, used: float, promised: float) -> float | None:
    return None if most is None else most - used - promised


def _binding_bucket(entries: Sequence[tuple[Entry, Bound]]) -> Cause:
    tokens = any(entry.tokens.quiet_until > entry.requests.quiet_until for entry, _ in entries)
    return "tpm" if tokens else "rpm"


def _slots(entries: Sequence[tuple[Entry, Bound]], report: Report) -> tuple[int, Cause]:
    """Calls that the holder may have in flight: by need, but none more than its part where all need more."""
    wanted = report.in_flight + report.waiting
    found = 1_000_000
    for entry, bound in entries:
        most = min(
            entry.window.limit if entry.learns else math.inf,
            math.inf if bound.max_concurrency is None else bound.max_concurrency,
        )
        if math.isinf(most):
            continue
        others = [holder for name, holder in entry.holders.items() if name != report.holder]
        free = int(most) - sum(max(holder.slots, holder.in_flight) for holder in others)
        part = _part(int(most), wanted, [holder.in_flight + holder.waiting for holder in others])
        # With others about, only what is needed now and a little for what comes.
        most_useful = int(most) if not others else min(part, wanted + 2)
        found = min(found, max(0, min(free, most_useful)))
    for entry, _ in entries:
        entry.holders[report.holder].slots = found
    return found, "concurrency"


def _part(capacity: int, mine: int, theirs: Sequence[int]) -> int:
    """Max-min fair: who needs little gets it, and the others share the rest equally."""
    left, holders = capacity, len(theirs) + 1
    for need in sorted([mine, *theirs]):
        part = math.ceil(left / holders)
        if need > part:
            return max(part, 1)
        left -= need
        holders -= 1
    return mine + left
