"""The limits of requests and tokens are found from refusals and headers, in virtual time (`law.World`)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.law import World


def slowdown(rows: int, **provider: Any) -> tuple[float, int]:
    """The time that rows take, over the least possible; and how many attempts were refused."""
    world = World(**provider)
    took = world.finish(rows)
    least = max(0.0, rows - world.provider.burst) / world.provider.rate + world.provider.latency_s
    return took / least, world.refusals


@pytest.mark.parametrize("rtt_s", [0.002, 0.005, 0.02])
@pytest.mark.parametrize("tells_when", [True, False])
@pytest.mark.parametrize("latency_s", [0.05, 1.0, 3.0])
def test_a_rate_is_found_with_few_refusals(latency_s: float, tells_when: bool, rtt_s: float) -> None:
    ratio, refusals = slowdown(300, rate=10, burst=20, latency_s=latency_s, tells_when=tells_when, rtt_s=rtt_s)
    assert ratio <= 1.05
    assert refusals <= 20


@pytest.mark.parametrize(
    ("burst", "most_slowdown", "most_refusals"),
    # A bucket of one has no room for the unevenness of any pace: what is lost there is lost for good.
    [(1, 1.5, 25), (5, 1.06, 20), (60, 1.05, 20), (600, 1.05, 25)],
)
@pytest.mark.parametrize("tells_when", [True, False])
def test_buckets_of_all_sizes_are_used(burst: int, most_slowdown: float, most_refusals: int, tells_when: bool) -> None:
    ratio, refusals = slowdown(max(300, 2 * burst), rate=10, burst=burst, tells_when=tells_when)
    assert ratio <= most_slowdown
    assert refusals <= most_refusals


@pytest.mark.parametrize(
    ("rate", "burst", "rows", "most_slowdown", "most_refusals"),
    [
        (1, 1, 300, 1.25, 25),
        (1, 2, 300, 1.05, 25),
        (100, 200, 3000, 1.05, 30),
        # Some of 19 seconds' work is lost to the first guess; refusals are what is looked at.
        (1000, 2000, 20_000, 1.15, 300),
    ],
)
def test_slow_and_fast_rates_are_found(
    rate: float, burst: float, rows: int, most_slowdown: float, most_refusals: int
) -> None:
    ratio, refusals = slowdown(rows, rate=rate, burst=burst)
    assert ratio <= most_slowdown
    assert refusals <= most_refusals


@pytest.mark.parametrize("seed", range(3))
def test_a_small_bucket_that_refills_fast_is_not_believed_to_refill_faster(seed: int) -> None:
    world = World(rate=100, burst=20, rtt_s=0.002 + 0.001 * seed, seed=seed)
    world.load(60)
    assert world.throughput(30) >= 95
    assert world.refusals <= 60


def test_a_rate_believed_too_high_is_corrected_within_seconds() -> None:
    world = World(rate=100, burst=200)
    world.load(60)
    assert world.throughput(30) >= 95
    assert world.refusals <= 80


@pytest.mark.parametrize("tells_when", [True, False])
@pytest.mark.parametrize("rate", [1, 10, 100])
def test_headers_leave_hardly_anything_to_refusals(rate: float, tells_when: bool) -> None:
    world = World(rate=rate, burst=2 * rate, headers=True, tells_when=tells_when)
    world.load(60)
    assert world.throughput(40) >= 0.95 * rate
    assert world.refusals <= 2


@pytest.mark.parametrize("headers", [True, False])
@pytest.mark.parametrize("rate", [10, 100])
def test_a_limit_that_is_halved_and_restored_is_followed(rate: float, headers: bool) -> None:
    world = World(rate=rate, burst=2 * rate, headers=headers)
    world.load(60)
    world.provider.rate = rate / 2
    before = world.refusals
    world.time.run(10)
    assert world.refusals - before <= 0.1 * rate * 10
    world.time.run(10)
    assert world.throughput(10) >= 0.95 * rate / 2
    world.provider.rate = rate
    world.time.run(10)
    world.time.run(10)
    assert world.throughput(10) >= 0.95 * rate


def test_a_slow_limit_that_rises_is_found_within_a_minute() -> None:
    # One request a second: a probe after twenty requests is as fast as it gets without asking for refusals.
    world = World(rate=1, burst=2)
    world.load(60)
    world.provider.rate = 0.5
    world.time.run(60)
    world.provider.rate = 1
    world.time.run(60)
    world.time.run(20)
    assert world.throughput(20) >= 0.9


def test_a_limit_that_rises_tenfold_is_found_within_twenty_seconds() -> None:
    world = World(rate=10, burst=20)
    world.load(60)
    world.provider.rate, world.provider.burst = 100, 200
    world.time.run(20)
    world.time.run(10)
    assert world.throughput(10) >= 95


@pytest.mark.parametrize("tells_when", [True, False])
@pytest.mark.parametrize("limit", [60, 600])
def test_a_limit_counted_by_the_calendar_minute_is_used_up_each_minute(limit: int, tells_when: bool) -> None:
    world = World(per_minute=limit, tells_when=tells_when)
    world.load(599)
    whole = [world.provider.accepted_in(world.started + 60 * minute, 60) for minute in range(1, 9)]
    assert min(whole) >= 0.95 * limit
    # Without Retry-After somebody has to ask whether the minute is over.
    assert world.refusals <= (40 if tells_when else 250)
    assert not world.clients[0].failed


@pytest.mark.parametrize("seed", range(4))
def test_refusals_without_a_reason_do_not_make_throughput_collapse(seed: int) -> None:
    world = World(chance=0.02, seed=seed)
    world.load(180, depth=100)
    # Of 100 a second. A refusal ends the probing of a higher rate, which takes three seconds without one to begin:
    # so about 1 / (3 s x chance) is what chance leaves.
    assert world.throughput(120) >= 16
    world = World(chance=0.02, rate=10, seed=seed)
    world.load(120)
    assert world.throughput(60) >= 9.5


@pytest.mark.parametrize("headers", [True, False])
def test_tokens_bind(headers: bool) -> None:
    world = World(token_rate=1000, token_burst=5000, headers=headers)
    world.load(90, depth=100, tokens=100)
    before = world.provider.tokens
    world.time.run(60)
    assert (world.provider.tokens - before) / 60 >= 950
    assert world.refusals <= (5 if headers else 60)


def test_estimates_that_are_too_high_are_refunded() -> None:
    world = World(token_rate=1000, token_burst=5000, headers=True)
    client = world.clients[0]
    client.rows(2000, tokens=300, used=100)
    world.time.run(60)
    before = world.provider.tokens
    world.time.run(60)
    assert (world.provider.tokens - before) / 60 >= 900


@pytest.mark.parametrize("tells_when", [True, False])
def test_a_provider_that_refuses_for_ever_is_asked_ever_more_seldom(tells_when: bool) -> None:
    world = World(refuses="too many requests", tells_when=tells_when)
    client = world.clients[0]
    client.rows(100)
    world.time.run(599)
    times = [at - world.started for at in world.provider.refused]
    asked = [sum(60 * minute <= at < 60 * minute + 60 for at in times) for minute in range(9)]
    assert asked[0] <= 12
    assert max(asked[1:]) <= 2
    assert client.waiting == 100 - client.gave_up
    world.time.run(120)
    assert client.waiting == 0
    assert {type(error).__name__ for error in client.failed} <= {"GaveUp"}
    assert len(client.failed) + client.gave_up == 100
    waited = client.failed[0]
    assert "requests per minute" in str(waited)
    assert "10 min" in str(waited)


def test_a_provider_that_recovers_just_before_the_deadline_is_used_again() -> None:
    world = World(refuses="too many requests")
    client = world.clients[0]
    client.rows(100)
    world.time.run(500)
    world.provider.refuses = ""
    world.time.run(90)
    assert len(client.done) >= 95


@pytest.mark.parametrize("clock_jump_s", [-900.0, 86_400.0])
def test_a_clock_that_jumps_stops_nothing(clock_jump_s: float) -> None:
    world = World(rate=10, burst=20)
    world.load(30)
    bucket = world.entry.requests
    bucket.advance(bucket.at + clock_jump_s, binding=False)
    world.time.run(30)
    assert world.throughput(20) >= 9.5
    assert math.isfinite(bucket.level)
