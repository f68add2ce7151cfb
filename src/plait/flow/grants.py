"""What a holder may do next: how many calls in flight, how many requests and tokens, from when, at what spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from plait.flow.entries import Entry, Holder
from plait.flow.leases import UNLIMITED, Bound, Cause, Lease, Report

_RENEW_S = 0.25
_EXPIRES_S = 1.0
_RETHINK_S = 0.5
_PARKED_S = 5.0
_AHEAD_S = 0.1
"""A lease carries about this much of a rate."""
_AHEAD_UNKNOWN_S = 0.03
_STOCK = 100
_RETURN_S = 1.0
"""Who waits for the turns of others looks again after this, or when it could go if there were none."""


def grant(entries: Sequence[tuple[Entry, Bound]], report: Report, now: float, wall: float) -> Lease:
    """A lease on all entries in one step."""
    slots = _slots(entries, report, now)
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
    renew_at = now + (_RENEW_S if slots else _RENEW_S / 5)
    lease = Lease(slots, 0.0, 0.0, now, 0.0, 0.0, renew_at, now + _EXPIRES_S, "concurrency", quota_until)
    if quota_until is not None:
        return replace(lease, quota_is_own=own, renew_at=now + _PARKED_S, expires_at=now + 2 * _PARKED_S)
    if quiet_until > now:
        return _come_back(lease, quiet_until, _binding_bucket(entries))
    if requests < 1:
        return lease
    return _promise(entries, report, lease, requests, allowance, now)


def _promise(
    entries: Sequence[tuple[Entry, Bound]], report: Report, lease: Lease, requests: float, allowance: float, now: float
) -> Lease:
    # One call may go a little over the day's end: what it will cost is not known before.
    tokens = min(_tokens_wanted(entries, report, requests), max(report.first_tokens, allowance))
    first = max(1.0, report.first_tokens)
    wait_s, cause = _held_up(entries, report.holder, requests, (first, max(first, tokens)), now)
    if wait_s:
        return _come_back(lease, now + wait_s, cause)
    for entry, _ in entries:
        requests = min(requests, max(1.0, math.floor(entry.rpm.free(report.holder)))) if entry.rpm else requests
        tokens = min(tokens, max(first, entry.tpm.free(report.holder))) if entry.tpm else tokens
    starts, spacing, token_spacing = now, 0.0, 0.0
    binding: Cause = "rpm"
    for entry, _ in entries:
        holder = entry.holders[report.holder]
        holder.requests, holder.tokens = requests, 0.0 if math.isinf(tokens) else tokens
        if entry.rpm:
            entry.rpm.take(holder.requests)
            entry.rpm.queue.pop(report.holder, None)
        if entry.tpm:
            entry.tpm.take(holder.tokens)
            entry.tpm.queue.pop(report.holder, None)
        if not entry.learns:
            continue
        at, interval = entry.requests.promise(requests, 1.0, now)
        starts, spacing = max(starts, at), max(spacing, interval)
        if holder.tokens:
            at, interval = entry.tokens.promise(tokens, first, now)
            binding = "tpm" if at > starts else binding
            starts, token_spacing = max(starts, at), max(token_spacing, interval)
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
        cause=binding,
    )


def _held_up(
    entries: Sequence[tuple[Entry, Bound]], holder: str, requests: float, tokens: tuple[float, float], now: float
) -> tuple[float, Cause]:
    """Seconds until the user's bounds have room for a holder's next calls; it queues with the others for it.

    For requests it waits until so many can go: each alone would be a lease of its own, and be asked for twice. For
    tokens until its first call can, or where others wait for all it wants: `tokens` are those of the two.
    """
    waits_s: list[tuple[float, Cause]] = [(0.0, "rpm")]
    alone_s = [_RETURN_S]
    for entry, _ in entries:
        if entry.rpm:
            waits_s.append((entry.rpm.wait_s(requests, requests, holder, now), "rpm"))
            alone_s.append(entry.rpm.alone_s(requests))
        if entry.tpm:
            waits_s.append((entry.tpm.wait_s(*tokens, holder, now), "tpm"))
            alone_s.append(entry.tpm.alone_s(tokens[0]))
    wait_s, cause = max(waits_s)
    if not wait_s:
        return 0.0, cause
    for entry, _ in entries:  # in all of them: a turn that passed while another bound was short would be lost
        if entry.rpm:
            entry.rpm.wait(requests, holder, now + wait_s)
        if entry.tpm:
            entry.tpm.wait(tokens[1], holder, now + wait_s)
    # Who waits for many others comes back meanwhile: what those leave undone is its own, and no deadline is theirs.
    return min(wait_s, max(alone_s)), cause


def _come_back(lease: Lease, at: float, cause: Cause) -> Lease:
    return replace(lease, starts_at=at, renew_at=at, expires_at=max(at, lease.expires_at), cause=cause)


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


def _slots(entries: Sequence[tuple[Entry, Bound]], report: Report, now: float) -> int:
    """Calls that the holder may have in flight: by need, but none more than its part where all need more."""
    wanted = report.in_flight + report.waiting
    found = UNLIMITED
    asked = max(report.asked, *(bound.max_concurrency or 0 for _, bound in entries))
    for entry, bound in entries:
        learnt = entry.window.limit_from(asked) if entry.learns else math.inf
        own = math.inf if bound.max_concurrency is None else bound.max_concurrency
        entry.holders[report.holder].bounded = bound.max_concurrency is not None
        others = [holder for name, holder in entry.holders.items() if name != report.holder]
        # A user's bound is of those who set it; what was learnt is everybody's.
        for most, sharers in ((learnt, others), (own, [holder for holder in others if holder.bounded])):
            if not math.isinf(most):
                found = min(found, _share(int(most), wanted, entry.holders[report.holder], sharers))
    for entry, _ in entries:
        holder = entry.holders[report.holder]
        holder.slots = found
        if found:
            holder.had_at = now
    return found


def _share(most: int, wanted: int, mine: Holder, others: Sequence[Holder]) -> int:
    free = most - sum(max(holder.slots, holder.in_flight) for holder in others)
    if not others:
        return max(0, most)
    hungry = [holder for holder in others if holder.in_flight + holder.waiting]
    starving = [holder for holder in hungry if holder.waiting and not max(holder.slots, holder.in_flight)]
    if len(hungry) >= most and any(holder.had_at < mine.had_at for holder in starving):
        return 0  # fewer slots than holders: they take turns
    needs = [holder.in_flight + holder.waiting for holder in others]
    part = _part(most, wanted, needs)
    # What is needed now and a little for what comes; more where there is plenty, so that a burst need not ask again.
    spare = max(0, most - wanted - sum(needs)) // (2 * len(others) + 2)
    return max(0, min(free, part, wanted + max(2, spare)))


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
