"""A day's allowance: counted over all holders, kept, waited for or refused, and begun anew at the zone's midnight."""

from __future__ import annotations

import sqlite3
import threading
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.errors import GaveUp, QuotaReached
from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.host_budget import HostBudget, read
from plait.flow.lanes import Lane, Patience
from plait.flow.leases import Bound
from plait.flow.queues import Place
from plait.flow.quotas import Day, next_midnight
from plait.flow.retries import RetryPolicy
from plait.flow.tickets import Outcome
from tests.law import Time, World


def at(zone: str, *when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("zone", "now", "midnight", "hours"),
    [
        ("UTC", (2026, 7, 1, 12), (2026, 7, 2), 12),
        ("America/Los_Angeles", (2026, 7, 1, 12), (2026, 7, 2), 12),
        ("America/Los_Angeles", (2026, 3, 8, 0), (2026, 3, 9), 23),  # clocks go forward
        ("America/Los_Angeles", (2026, 11, 1, 0), (2026, 11, 2), 25),  # and back
        ("Europe/Berlin", (2026, 10, 25, 0), (2026, 10, 26), 25),
        ("Asia/Kathmandu", (2026, 12, 31, 23), (2027, 1, 1), 1),
        ("Africa/Cairo", (2026, 4, 23, 12), (2026, 4, 24), 12),  # midnight itself is skipped: the day begins at one
    ],
)
def test_a_day_ends_at_midnight_in_its_zone(
    zone: str, now: tuple[int, ...], midnight: tuple[int, ...], hours: float
) -> None:
    assert next_midnight(at(zone, *now), zone) == at(zone, *midnight)
    assert next_midnight(at(zone, *now), zone) - at(zone, *now) == hours * 3600


@given(
    st.floats(1.5e9, 2.2e9),
    st.sampled_from(["UTC", "America/Los_Angeles", "Europe/London", "Africa/Cairo", "Asia/Tehran", "Pacific/Apia"]),
)
def test_a_new_day_begins_exactly_when_it_was_said(wall: float, zone: str) -> None:
    day = Day()
    day.advance(wall, zone)
    day.requests = 5
    midnight = next_midnight(wall, zone)
    assert 0 < midnight - wall <= 25 * 3600
    day.advance(max(wall, midnight - 0.01), zone)
    assert day.requests == 5
    day.advance(midnight, zone)
    assert day.requests == 0


def test_a_clock_that_goes_back_brings_no_day_back() -> None:
    day = Day()
    day.advance(at("UTC", 2026, 7, 2, 0, 1), "UTC")
    day.requests = 5
    day.advance(at("UTC", 2026, 7, 1, 23, 59), "UTC")
    day.advance(at("UTC", 2026, 7, 2, 0, 2), "UTC")
    assert day.requests == 5


@pytest.mark.parametrize("holders", [1, 3])
def test_no_more_is_sent_on_a_day_than_the_user_allows(holders: int) -> None:
    world = World(bound=Bound(rpd=100), holders=holders, delay_s=0.003, patience=Patience(600, None))
    for client in world.clients:
        client.keep(30)
    world.time.run(3600)
    assert len(world.provider.accepted) == 100


def test_tokens_of_a_day_are_bounded_by_what_was_used() -> None:
    world = World(bound=Bound(tpd=10_000), patience=Patience(600, None), latency_s=0.1)
    world.clients[0].rows(500, tokens=100, used=50)
    world.time.run(3600)
    assert 9_500 <= world.provider.tokens <= 10_050


def test_a_quota_that_resets_late_is_an_error_with_the_time() -> None:
    world = World(bound=Bound(rpd=10, timezone="America/Los_Angeles"), patience=Patience(600, 60))
    client = world.clients[0]
    client.rows(15)
    world.time.run(5)
    assert (len(client.done), len(client.failed)) == (10, 5)
    error = client.failed[0]
    assert isinstance(error, QuotaReached)
    assert error.resets_at == at("America/Los_Angeles", 2026, 7, 2)
    assert "resets at" in str(error)
    client.rows(1)  # who comes later need not wait for it either
    world.time.run(2)
    assert len(client.failed) == 6


def test_a_quota_that_resets_soon_is_waited_for() -> None:
    time = Time(wall=at("Europe/Paris", 2026, 7, 1, 23, 59, 30))
    world = World(bound=Bound(rpd=10, timezone="Europe/Paris"), patience=Patience(600, 60), time=time)
    client = world.clients[0]
    client.rows(15)
    world.time.run(29)
    assert (len(client.done), client.waiting) == (10, 5)
    world.time.run(3)
    assert (len(client.done), len(client.failed)) == (15, 0)


def test_a_batch_waits_for_midnight_however_long_and_uses_the_new_day() -> None:
    time = Time(wall=at("UTC", 2026, 7, 1, 22, 30))
    world = World(bound=Bound(rpd=100), patience=Patience(600, None), time=time)
    client = world.clients[0]
    client.rows(150)
    world.time.run(5390)
    assert (len(client.done), len(client.failed)) == (100, 0)
    world.time.run(20)
    assert (len(client.done), len(client.failed)) == (150, 0)


def test_a_provider_that_says_the_day_is_used_up_is_believed() -> None:
    world = World(patience=Patience(600, 60), policy=RetryPolicy(deadline_s=1e6))
    client = world.clients[0]
    client.rows(5)
    world.time.run(3)
    world.provider.refuses, world.provider._wait_s = "daily limit reached", lambda tokens: 3600  # type: ignore[method-assign]
    client.rows(1)
    world.time.run(1)
    client.rows(20)
    world.time.run(1)
    assert [type(error) for error in client.failed] == [QuotaReached] * 20
    assert len(world.provider.refused) == 1


def test_a_batch_waits_for_a_day_that_the_provider_says_is_used_up() -> None:
    world = World(patience=Patience(600, None), policy=RetryPolicy(deadline_s=1e6))
    client = world.clients[0]
    world.provider.refuses, world.provider._wait_s = "daily limit reached", lambda tokens: 3600  # type: ignore[method-assign]
    client.rows(1)
    world.time.run(1)
    client.rows(20)
    world.time.run(1)
    world.provider.refuses = ""
    world.time.run(3700)
    assert not [error for error in client.failed if isinstance(error, GaveUp)]
    assert len(client.done) == 21


def test_what_was_used_today_survives_a_restart(tmp_path: Path) -> None:
    part, clock = Part("endpoint", Bound(rpd=5)), SystemClock()

    def send(count: int) -> list[str]:
        budget = HostBudget(tmp_path / "limits.db", clock)
        lane = Lane("endpoint", (part,), budget, clock, holder="1-0", patience=Patience(600, 0))
        found = []
        for _ in range(count):
            ticket, done = lane.ticket(Place(0), 1.0), threading.Event()
            ticket.wake = done.set
            ticket.try_acquire()
            assert done.wait(60)
            found.append("failed" if ticket.failure else "sent")
            ticket.release(Outcome(tokens=1.0, duration_s=0.01))
        lane.close()
        budget.close()
        return found

    assert send(3) == ["sent"] * 3
    assert send(4) == ["sent", "sent", "failed", "failed"]
    assert read(tmp_path / "limits.db")["endpoint"].day.requests == 5
    with sqlite3.connect(tmp_path / "limits.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
