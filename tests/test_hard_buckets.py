"""Bounds of the user's that several holders share: kept in every minute, used up, and big calls have their turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from plait.flow.budgets import Part, new_entry
from plait.flow.control import exchange
from plait.flow.entries import Entry
from plait.flow.hard_buckets import HardBucket
from plait.flow.leases import Bound, Lease, Report

TPM = 60_000
STEP_S = 0.005
WALL = 1.7e9


@dataclass(slots=True)
class Holder:
    """Sends calls of one size as fast as its leases let it; fifty always wait."""

    name: str
    size: float
    report: Report = field(init=False)
    lease: Lease | None = None
    asks_at: float = 0.0
    times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.report = Report(self.name)

    def act(self, entry: Entry, bound: Bound, now: float) -> None:
        lease = self.lease
        if lease is not None and lease.requests >= 1 and now >= lease.starts_at:
            count = min(int(lease.requests), int(lease.tokens // self.size))
            self.report.sent += count
            self.report.sent_tokens += count * self.size
            self.report.successes += count
            self.times += [now] * count
            self.lease, self.asks_at = None, now
        if now >= self.asks_at:
            self.report.waiting, self.report.first_tokens, self.report.waiting_tokens = 50, self.size, 50 * self.size
            self.lease = exchange([(entry, bound)], self.report, now, WALL + now)
            self.report = Report(self.name)
            # As lanes do: timers are no finer.
            self.asks_at = max(now + 0.02, self.lease.starts_at)


def compete(*holders: Holder, seconds: float = 120.0) -> None:
    bound = Bound(tpm=TPM)
    entry = new_entry(Part("e", bound), 0.0)
    entry.requests.rate = entry.requests.told = 1000.0  # no bound here
    for step in range(int(seconds / STEP_S)):
        for holder in holders:
            holder.act(entry, bound, step * STEP_S)


def worst_minute(holders: tuple[Holder, ...]) -> float:
    spent = sorted((at, holder.size) for holder in holders for at in holder.times)
    most, total, first = 0.0, 0.0, 0
    for at, size in spent:
        total += size
        while spent[first][0] <= at - 60:
            total -= spent[first][1]
            first += 1
        most = max(most, total)
    return most


@pytest.mark.parametrize("others", [1, 3, 8])
def test_big_calls_never_starve_among_the_small_ones_of_others(others: int) -> None:
    big = Holder("big", 900.0)
    small = [Holder(f"small {n}", 10.0) for n in range(others)]
    compete(big, *small)
    gaps = [after - before for before, after in zip(big.times, big.times[1:], strict=False)]
    # Its own tokens come in 0.9 s, and each of the others takes a tenth of a second's at its turn.
    assert max(gaps) < 0.9 + 0.1 * others + 1.0
    assert len({len(holder.times) // 10 for holder in small}) <= 2
    assert sum(holder.size * len(holder.times) for holder in (big, *small)) > 0.95 * TPM * 2
    assert worst_minute((big, *small)) <= TPM


def test_a_holder_that_gave_up_its_turn_holds_nobody_up() -> None:
    bound, entry = Bound(tpm=TPM), new_entry(Part("e", Bound(tpm=TPM)), 0.0)
    entry.requests.rate = entry.requests.told = 1000.0

    def ask(holder: str, tokens: float, now: float) -> Lease:
        return exchange([(entry, bound)], Report(holder, waiting=1, first_tokens=tokens), now, WALL + now)

    assert ask("first", 1000.0, 0.0).tokens == 1000.0
    exchange([(entry, bound)], Report("first", sent=1, sent_tokens=1000.0), 0.1, WALL)
    late = ask("gone", 900.0, 0.1)
    assert late.requests == 0
    # It comes after the one that waits, and the one that waits does not come.
    behind = ask("behind", 100.0, 0.2)
    assert behind.starts_at > late.starts_at
    assert ask("behind", 100.0, late.starts_at).requests == 0
    assert ask("behind", 100.0, late.starts_at + 0.6).requests == 1


def test_a_part_of_a_small_limit_is_no_more_than_it_says() -> None:
    assert HardBucket(0.5).rate == pytest.approx(0.5 / 60)
