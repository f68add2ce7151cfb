"""How many calls an endpoint takes at once is found from its refusals and from its latency, in virtual time."""

from __future__ import annotations

import pytest

from plait.flow.leases import Bound
from tests.law import World


@pytest.mark.parametrize("latency_s", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("most", [1, 4, 40])
def test_an_endpoint_that_refuses_is_filled_and_not_overrun(most: int, latency_s: float) -> None:
    world = World(concurrency=most, latency_s=latency_s)
    world.load(60)
    before = world.refusals
    world.time.run(60)
    assert world.throughput(60) >= 0.9 * most / latency_s
    assert world.refusals - before <= 0.1 * 60 * most / latency_s + 30


@pytest.mark.parametrize("latency_s", [0.2, 1.0])
@pytest.mark.parametrize("most", [4, 40])
def test_an_endpoint_that_queues_is_kept_busy_without_a_long_queue(most: int, latency_s: float) -> None:
    world = World(concurrency=most, queues=True, latency_s=latency_s)
    world.load(90)
    assert world.throughput(30) >= 0.95 * most / latency_s
    assert not world.refusals
    queued = len(world.provider.line)
    assert queued <= 2 * most


def test_more_slots_are_found_where_a_queue_gets_shorter() -> None:
    world = World(concurrency=8, queues=True)
    world.load(90)
    world.provider.concurrency = 16
    world.time.run(90)
    assert world.throughput(20) >= 0.9 * 16


def test_more_slots_are_found_where_refusals_end() -> None:
    world = World(concurrency=8)
    world.load(60)
    world.provider.concurrency = 32
    world.time.run(40)
    assert world.throughput(20) >= 0.9 * 32


def test_fewer_slots_are_respected_at_once() -> None:
    world = World(concurrency=40)
    world.load(60)
    world.provider.concurrency = 10
    world.time.run(10)
    before = world.refusals
    world.time.run(20)
    assert world.throughput(20) >= 9
    assert world.refusals - before <= 40


def test_latency_that_is_no_queue_costs_no_throughput() -> None:
    # The endpoint becomes slower for everyone, whatever is in flight.
    world = World(latency_s=1.0)
    world.load(60, depth=50)
    world.provider.latency_s = 4.0
    world.time.run(120)
    assert world.throughput(40) >= 0.85 * 50 / 4


@pytest.mark.parametrize("holders", [1, 3])
def test_the_users_bound_holds_whatever_the_endpoint_would_take(holders: int) -> None:
    world = World(bound=Bound(max_concurrency=7), holders=holders, delay_s=0.003)
    world.load(60, depth=40)
    assert world.provider.most == 7
    assert world.throughput(30) >= 0.95 * 7


def test_a_bound_that_the_user_set_is_believed_before_the_first_answer() -> None:
    def before_the_first_answer(bound: Bound) -> int:
        world = World(latency_s=20.0, bound=bound)
        world.load(15, depth=400)
        return world.provider.most

    assert before_the_first_answer(Bound()) == 128
    assert before_the_first_answer(Bound(max_concurrency=300)) == 300


def test_a_bound_far_above_what_an_endpoint_takes_gives_way_to_what_it_says() -> None:
    refusing = World(concurrency=4, bound=Bound(max_concurrency=100_000))
    refusing.load(60, depth=1000)
    assert refusing.throughput(30) >= 0.9 * 4
    queueing = World(concurrency=40, queues=True, bound=Bound(max_concurrency=100_000))
    queueing.load(90, depth=1000)
    assert queueing.throughput(30) >= 0.95 * 40
    assert len(queueing.provider.line) <= 2 * 40
    assert queueing.provider.most <= 40 + 512
