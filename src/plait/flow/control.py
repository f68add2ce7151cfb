"""The control law: what is known of an endpoint's limits, and what its holders report of them.

Pure: an `Entry` is changed by `exchange` under whatever lock or transaction its budget has; time is an argument. The
law is described in docs/design/flow-control.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from plait.flow.buckets import Bucket
from plait.flow.entries import GONE_S, Entry, Holder, tokens_bucket
from plait.flow.grants import grant
from plait.flow.hard_buckets import HardBucket
from plait.flow.headers import Reading
from plait.flow.leases import Bound, Lease, Refusal, Report, Told
from plait.flow.quotas import next_midnight
from plait.flow.windows import Window


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
    lease = grant(entries, report, now, wall)
    return replace(lease, sizes=first.sizes) if report.new and first.sizes else lease


def _restart_after_reboot(entry: Entry, now: float) -> None:
    """The clock counts from the machine's start: what lies in the future is from before it."""
    latest = max(entry.requests.at, entry.window.at, max((h.seen for h in entry.holders.values()), default=now))
    if latest <= now + 1.0:
        return
    entry.holders.clear()
    rates = (entry.requests.rate, entry.requests.burst, entry.tokens.rate, entry.tokens.burst)
    entry.requests, entry.tokens = Bucket(at=now, since=now), tokens_bucket()
    entry.tokens.at = entry.tokens.since = now
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
        entry.give_back(holder)


def _take_in(entry: Entry, bound: Bound, report: Report, now: float, wall: float) -> None:
    entry.seen_wall = wall
    entry.rpm = _hard(entry.rpm, bound.rpm, entry.promised_requests, now)
    entry.tpm = _hard(entry.tpm, bound.tpm, entry.promised_tokens, now)
    entry.day.advance(wall, bound.timezone)
    holder = entry.holders.setdefault(report.holder, Holder(now))
    entry.unanswered = 0 if report.successes else entry.unanswered + report.unanswered
    # Where nobody answers nothing is refused either, which says nothing of the limits.
    held_up = report.held_up if not entry.unanswered else None
    entry.requests.advance(now, binding=held_up == "rpm")
    entry.tokens.advance(now, binding=held_up == "tpm")
    entry.window.advance(now, binding=held_up == "concurrency")
    entry.give_back(holder)
    entry.requests.take_back(-report.sent)
    entry.tokens.take_back(-report.sent_tokens)
    entry.requests.note_sent(report.sent, now)
    entry.tokens.note_sent(report.sent_tokens, now)
    entry.tokens.correct(report.corrected_tokens)
    if entry.rpm:
        entry.rpm.correct(-report.sent)
    if entry.tpm:
        entry.tpm.correct(report.corrected_tokens - report.sent_tokens)
    entry.requests.note_unanswered(report.unanswered)
    entry.day.requests = max(0.0, entry.day.requests + report.sent - report.unanswered)
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


def _hard(bucket: HardBucket | None, per_minute: float | None, held: float, now: float) -> HardBucket | None:
    """The bucket of a bound; while one holder sets it, what the others send counts too."""
    if per_minute is None:
        if bucket is None or now - bucket.set_at > 60.0:  # full again: nothing is lost
            return None
    else:
        if bucket is None:
            bucket, held = HardBucket(per_minute, level=max(1.0, per_minute / 60)), 0.0
        bucket.per_minute, bucket.set_at = per_minute, now
    bucket.advance(now, held)
    return bucket


def _learn(entry: Entry, bound: Bound, report: Report, now: float, wall: float) -> None:
    everybody = entry.in_flight
    share = everybody / report.in_flight if report.in_flight else 1.0
    entry.window.note_successes(
        report.timed, report.latency, report.output_tokens, report.company * max(1.0, share), everybody, now
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
            refusal.sent_at, refusal.tokens_after, refusal.tokens, refusal.retry_after_s, now, entry.promised_tokens
        )
    else:
        entry.requests.note_refusal(
            refusal.sent_at, refusal.requests_after, 1.0, refusal.retry_after_s, now, entry.promised_requests
        )


def _heed(entry: Entry, told: Told, now: float, wall: float) -> None:
    advice, at = told.advice, told.sent_at
    requests, tokens = told.requests_after, told.tokens_after
    if len(entry.holders) > 1:
        requests, tokens = entry.requests.sent_since(at, requests), entry.tokens.sent_since(at, tokens)
    if advice.requests:
        entry.requests.advise(*_per_second(advice.requests), at, requests, entry.promised_requests, now)
    if advice.tokens:
        entry.tokens.advise(*_per_second(advice.tokens), at, tokens, entry.promised_tokens, now)
    for reading in (advice.requests_day, advice.tokens_day):
        if reading and reading.remaining is not None and reading.remaining < 1 and reading.reset_s:
            entry.day.spent_until = max(entry.day.spent_until, wall + reading.reset_s)


def _per_second(reading: Reading) -> tuple[float | None, float | None]:
    return None if reading.limit is None else reading.limit / reading.window_s, reading.remaining
