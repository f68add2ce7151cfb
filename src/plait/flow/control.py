"""The control law: what is known of an endpoint's limits, what its holders report, and what each may do next.

Pure: an `Entry` is changed by `exchange` under whatever lock or transaction its budget has; time is an argument. The
law is described in docs/design/flow-control.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from plait.flow.buckets import UNBOUNDED, Bucket, HardBucket
from plait.flow.headers import Reading
from plait.flow.leases import Bound, Cause, Lease, Refusal, Report, Told
from plait.flow.quotas import Day, next_midnight
from plait.flow.windows import Window

GONE_S = 3.0
"""A holder that has not reported for so long is dead, and what it held is free."""
_RENEW_S = 0.25
_EXPIRES_S = 1.0
_RETHINK_S = 0.5
_AHEAD_S = 0.1
"""A lease carries about this much of a rate."""
_AHEAD_UNKNOWN_S = 0.03
_STOCK = 100
_TYPICAL_COST = 500.0


def _tokens_bucket() -> Bucket:
    return Bucket(unit=_TYPICAL_COST, ramps=False, burst=UNBOUNDED, level=0.0)


@dataclass(slots=True)
class Holder:
    """What one process (or one lane of it) holds."""

    seen: float
    slots: int = 0
    in_flight: int = 0
    waiting: int = 0
    requests: float = 0.0
    tokens: float = 0.0


@dataclass(slots=True)
class Entry:
    """All that is known of one endpoint, key and model; or the user's limits for all models of an endpoint."""

    learns: bool = True
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=_tokens_bucket)
    rpm: HardBucket | None = None
    tpm: HardBucket | None = None
    window: Window = field(default_factory=Window)
    day: Day = field(default_factory=Day)
    holders: dict[str, Holder] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    """Refusals so far, by kind."""
    sizes: dict[str, float] = field(default_factory=dict)
    """What calls cost in tokens (`estimates.Sizes`)."""
    accepted: int = 0
    seen_wall: float = 0.0
    """Wall time of the last report."""

    @property
    def in_flight(self) -> int:
        return sum(holder.in_flight for holder in self.holders.values())


def exchange(entries: Sequence[tuple[Entry, Bound]], report: Report, now: float, wall: float) -> Lease:
    """Take in a report and grant a lease on all entries in one step: never on one without the others."""
    for entry, bound in entries:
        _restart_after_reboot(entry, now)
        _drop_the_dead(entry, now)
        _take_in(entry, bound, report, now, wall)
    first = entries[0][0]
    if report.sizes:
        first.sizes = dict(report.sizes)
    if report.leaving:
        for entry, _ in entries:
            entry.holders.pop(report.holder, None)
        return Lease(0, 0.0, 0.0, now, 0.0, 0.0, now, now, "concurrency")
    lease = _grant(entries, report, now, wall)
    return replace(lease, sizes=first.sizes) if report.new and first.sizes else lease


def _restart_after_reboot(entry: Entry, now: float) -> None:
    """The clock counts from the machine's start: what lies in the future is from before it."""
    latest = max(entry.requests.at, entry.window.at, max((h.seen for h in entry.holders.values()), default=now))
    if latest <= now + 1.0:
        return
    entry.holders.clear()
    rates = (entry.requests.rate, entry.requests.burst, entry.tokens.rate, entry.tokens.burst)
    entry.requests, entry.tokens = Bucket(at=now), _tokens_bucket()
    entry.tokens.at = now
    entry.requests.rate, entry.tokens.rate = rates[0], rates[2]
    if rates[0] is not None:
        entry.requests.burst, entry.requests.level = rates[1], 0.0
    if rates[2] is not None:
        entry.tokens.burst, entry.tokens.level = rates[3], 0.0
    entry.rpm = entry.tpm = None
    entry.window = Window(at=now, floor=entry.window.floor)


def _drop_the_dead(entry: Entry, now: float) -> None:
    for name in [name for name, holder in entry.holders.items() if now - holder.seen > GONE_S]:
        holder = entry.holders.pop(name)
        # It may have sent what it was promised: a rate refills by itself, a day does not.
        entry.day.requests += holder.requests
        _give_back(entry, holder)


def _give_back(entry: Entry, holder: Holder) -> None:
    entry.requests.take_back(holder.requests)
    entry.tokens.take_back(holder.tokens)
    if entry.rpm:
        entry.rpm.correct(holder.requests)
    if entry.tpm:
        entry.tpm.correct(holder.tokens)


def _take_in(entry: Entry, bound: Bound, report: Report, now: float, wall: float) -> None:
    entry.seen_wall = wall
    entry.rpm = _hard(entry.rpm, bound.rpm, now)
    entry.tpm = _hard(entry.tpm, bound.tpm, now)
    entry.day.advance(wall, bound.timezone)
    holder = entry.holders.setdefault(report.holder, Holder(now))
    # Calls that go on now were held up before, or would have been.
    entry.requests.advance(now, binding=report.held_up == "rpm")
    entry.tokens.advance(now, binding=report.held_up == "tpm")
    entry.window.advance(now, binding=report.held_up == "concurrency")
    _give_back(entry, holder)
    entry.requests.take_back(-report.sent)
    entry.tokens.take_back(-report.sent_tokens)
    entry.requests.note_sent(report.sent, now)
    entry.tokens.note_sent(report.sent_tokens, now)
    entry.tokens.correct(report.corrected_tokens)
    if entry.rpm:
        entry.rpm.correct(-report.sent)
    if entry.tpm:
        entry.tpm.correct(report.corrected_tokens - report.sent_tokens)
    entry.day.requests += report.sent
    entry.day.tokens = max(0.0, entry.day.tokens + report.sent_tokens - report.corrected_tokens)
    entry.accepted += report.successes
    holder.seen, holder.in_flight, holder.waiting = now, report.in_flight, report.waiting
    holder.requests = holder.tokens = 0.0
    if report.sent:
        # What a typical call costs: two of them are the error of every measurement in tokens.
        cost = max(1.0, report.sent_tokens / report.sent)
        entry.tokens.unit += 0.1 * (cost - entry.tokens.unit)
    if entry.learns:
        _learn(entry, bound, report, now, wall)


def _hard(bucket: HardBucket | None, per_minute: float | None, now: float) -> HardBucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        bucket = HardBucket(per_minute, level=max(1.0, per_minute / 60))
    bucket.per_minute = per_minute
    bucket.advance(now)
    return bucket


def _learn(entry: Entry, bound: Bound, report: Report, now: float, wall: float) -> None:
    entry.window.note_successes(
        report.timed, report.latency, report.output_tokens, report.last_end, entry.in_flight, now
    )
    for told in report.told:
        _heed(entry, told, now, wall)
    others = entry.in_flight - report.in_flight
    for refusal in report.refusals:
        entry.refused[refusal.kind] = entry.refused.get(refusal.kind, 0) + 1
        _learn_refusal(entry, bound, refusal, others, now, wall)


def _learn_refusal(entry: Entry, bound: Bound, refusal: Refusal, others: int, now: float, wall: float) -> None:
    # A refused call used nothing of the day up; its tokens were given back already.
    entry.day.requests = max(0.0, entry.day.requests - 1)
    if refusal.kind == "day":
        asked = refusal.retry_after_s
        entry.day.spent_until = wall + asked if asked is not None else next_midnight(wall, bound.timezone)
    elif refusal.kind == "concurrency":
        entry.window.note_refusal(refusal.sent_at, refusal.in_flight + others, now)
    elif refusal.kind == "overload":
        entry.window.note_overload(refusal.sent_at, refusal.in_flight + others, now)
    elif refusal.kind == "tokens":
        entry.tokens.note_refusal(
            refusal.sent_at, refusal.tokens_after, refusal.tokens, refusal.retry_after_s, now, _promised_tokens(entry)
        )
    else:
        entry.requests.note_refusal(
            refusal.sent_at, refusal.requests_after, 1.0, refusal.retry_after_s, now, _promised_requests(entry)
        )


def _promised_requests(entry: Entry) -> float:
    return sum(holder.requests for holder in entry.holders.values())


def _promised_tokens(entry: Entry) -> float:
    return sum(holder.tokens for holder in entry.holders.values())


def _heed(entry: Entry, told: Told, now: float, wall: float) -> None:
    advice = told.advice
    if advice.requests:
        entry.requests.advise(
            *_per_second(advice.requests), told.sent_at, told.requests_after, _promised_requests(entry), now
        )
    if advice.tokens:
        entry.tokens.advise(*_per_second(advice.tokens), told.sent_at, told.tokens_after, _promised_tokens(entry), now)
    for reading in (advice.requests_day, advice.tokens_day):
        if reading and reading.remaining is not None and reading.remaining < 1 and reading.reset_s:
            entry.day.spent_until = max(entry.day.spent_until, wall + reading.reset_s)


def _per_second(reading: Reading) -> tuple[float | None, float | None]:
    return None if reading.limit is None else reading.limit / reading.window_s, reading.remaining


# --- granting ------------------------------------------------------------------------------------------


def _grant(entries: Sequence[tuple[Entry, Bound]], report: Report, now: float, wall: float) -> Lease:
    slots, cause = _slots(entries, report)
    requests = float(_requests_wanted(entries, report))
    quota_until = None
    for entry, bound in entries:
        left = _left(bound.rpd, entry.day.requests, _promised_requests(entry))
        tokens_left = _left(bound.tpd, entry.day.tokens, _promised_tokens(entry))
        until = entry.day.blocked_until(wall, bound.timezone, left, tokens_left)
        quota_until = until if quota_until is None else max(quota_until, until or 0.0)
        if left is not None:
            requests = min(requests, max(0.0, math.floor(left)))
    quiet_until = max(max(entry.requests.quiet_until, entry.tokens.quiet_until) for entry, _ in entries)
    lease = Lease(slots, 0.0, 0.0, now, 0.0, 0.0, now + _RENEW_S, now + _EXPIRES_S, cause, quota_until)
    if quota_until is not None:
        return lease
    if quiet_until > now:
        held = _binding_bucket(entries)
        expires_at = max(quiet_until, lease.expires_at)
        return replace(lease, starts_at=quiet_until, renew_at=quiet_until, expires_at=expires_at, cause=held)
    if requests < 1:
        return lease
    return _promise(entries, report, lease, requests, now)


def _promise(
    entries: Sequence[tuple[Entry, Bound]], report: Report, lease: Lease, requests: float, now: float
) -> Lease:
    tokens = _tokens_wanted(entries, report, requests)
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
