"""One budget over several processes: they share what there is, and the user's bounds hold over all of them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait.flow.budgets import Deliver, Part
from plait.flow.lanes import Patience
from plait.flow.leases import Bound, Report
from tests.law import World


def most_in_a_minute(sent: Sequence[tuple[float, float]]) -> float:
    """The most units sent in any sixty seconds; `sent` has times and units."""
    most = total = 0.0
    window: deque[tuple[float, float]] = deque()
    for at, units in sorted(sent):
        window.append((at, units))
        total += units
        while window[0][0] <= at - 60:
            total -= window.popleft()[1]
        most = max(most, total)
    return most


@pytest.mark.parametrize("delay_s", [0.0, 0.003])
@pytest.mark.parametrize("holders", [2, 4])
def test_processes_together_use_the_limit_with_no_more_refusals_than_one(holders: int, delay_s: float) -> None:
    alone = World(rate=10, burst=20)
    alone.load(90)
    world = World(rate=10, burst=20, holders=holders, delay_s=delay_s)
    world.load(90)
    assert world.throughput(60) >= 9.5
    assert world.refusals <= 2 * alone.refusals + 20
    shares = [len(client.done) for client in world.clients]
    assert min(shares) >= 0.8 * sum(shares) / holders


def test_processes_that_come_later_get_their_share_within_seconds() -> None:
    world = World(bound=Bound(max_concurrency=8), holders=4, delay_s=0.003)
    first, *others = world.clients
    first.keep(100)
    world.time.run(20)
    assert len(first.done) >= 19 * 8
    for client in others:
        client.keep(100)
    world.time.run(5)
    before = [len(client.done) for client in world.clients]
    world.time.run(30)
    shares = [len(client.done) - count for client, count in zip(world.clients, before, strict=True)]
    assert min(shares) >= 0.8 * sum(shares) / 4
    assert sum(shares) >= 0.95 * 30 * 8
    assert world.provider.most == 8


def test_a_process_that_dies_gives_its_share_back_within_five_seconds() -> None:
    world = World(bound=Bound(max_concurrency=4), holders=2, latency_s=0.5)
    dead, alive = world.clients
    dead.keep(20)
    world.time.run(2)
    alive.keep(20)
    # It is killed: nothing of it happens any more.
    dead.lane._do = lambda event: None  # type: ignore[method-assign]
    world.time.run(5)
    before = len(alive.done)
    world.time.run(10)
    assert len(alive.done) - before >= 0.95 * 10 * 4 / 0.5


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 4),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.003, 0.05]),
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 15), st.integers(0, 3), st.integers(1, 8)), min_size=1, max_size=30),
)
def test_no_demand_exceeds_the_users_concurrency(
    holders: int, most: int, delay_s: float, headers: bool, demand: list[tuple[float, int, int]]
) -> None:
    world = World(
        bound=Bound(max_concurrency=most), holders=holders, delay_s=delay_s, latency_s=0.3, rate=100, headers=headers
    )
    for at, which, rows in demand:
        client = world.clients[which % holders]
        world.time.call_later(at, lambda client=client, rows=rows: client.rows(rows))  # type: ignore[misc]
    world.time.run(400)
    assert world.provider.most <= most
    assert not any(client.waiting for client in world.clients)


def burst(rpm: float | None, tpm: float | None, holders: int, delay_s: float, seed: int) -> tuple[float, float]:
    """The most requests and tokens that random demand gets through in any minute."""
    world = World(bound=Bound(rpm=rpm, tpm=tpm), holders=holders, delay_s=delay_s, latency_s=0.3)
    chance = random.Random(seed)
    for _ in range(60):
        client, rows = chance.choice(world.clients), chance.randint(1, 40)
        world.time.call_later(
            chance.uniform(0, 200),
            lambda client=client, rows=rows: client.rows(rows, tokens=50.0, used=50.0),  # type: ignore[misc]
        )
    world.time.run(260)
    sent = [at for client in world.clients for at in client.sent]
    return most_in_a_minute([(at, 1) for at in sent]), most_in_a_minute([(at, 50.0) for at in sent])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 600), st.integers(1, 4), st.sampled_from([0.0, 0.003]), st.integers(0, 10_000))
def test_requests_exceed_the_users_rate_by_a_promise_of_each_process_at_most(
    rpm: int, holders: int, delay_s: float, seed: int
) -> None:
    assert burst(rpm, None, holders, delay_s, seed)[0] <= rpm + holders + 1


@settings(deadline=None, max_examples=25)
@given(st.integers(1000, 60_000), st.integers(1, 3), st.sampled_from([0.0, 0.003]), st.integers(0, 10_000))
def test_tokens_exceed_the_users_rate_by_a_few_calls_at_most(tpm: int, holders: int, delay_s: float, seed: int) -> None:
    assert burst(None, tpm, holders, delay_s, seed)[1] <= tpm + 50 * (holders + 1)


@pytest.mark.parametrize("holders", [1, 4])
def test_no_minute_has_more_requests_than_the_user_allows(holders: int) -> None:
    for rpm in (1, 2, 7, 30):
        for seed in range(4):
            assert burst(rpm, None, holders, 0.003, seed)[0] <= rpm


@pytest.mark.parametrize("rpm", [60, 600, 6000])
def test_the_users_rate_is_used_up(rpm: int) -> None:
    world = World(bound=Bound(rpm=rpm), latency_s=0.1)
    world.load(130)
    assert len([at for at in world.clients[0].sent if at >= world.started + 60]) / 70 >= 0.95 * rpm / 60
    assert most_in_a_minute([(at, 1.0) for at in world.clients[0].sent]) <= rpm


@pytest.mark.parametrize("holders", [1, 4])
def test_the_users_rate_is_asked_for_in_groups_of_calls(holders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(bound=Bound(rpm=6000), holders=holders, delay_s=0.003, latency_s=0.1)
    exchange, asked = world.budget.exchange, 0

    def counted(parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        nonlocal asked
        asked += 1
        exchange(parts, report, deliver)

    monkeypatch.setattr(world.budget, "exchange", counted)
    world.load(60)
    sent = [len(client.sent) for client in world.clients]
    assert asked < 0.5 * sum(sent)
    assert min(sent) > 0.9 * sum(sent) / holders


@pytest.mark.parametrize("tokens", [90.0, 150.0])
def test_two_bounds_of_the_user_are_used_up_and_shared(tokens: float) -> None:
    world = World(bound=Bound(rpm=60, tpm=6000), holders=4, delay_s=0.003, latency_s=0.1)
    world.load(180, tokens=tokens)
    sent = [len(client.sent) for client in world.clients]
    assert sum(sent) / 3 >= 0.95 * min(60.0, 5900 / tokens)
    assert max(sent) - min(sent) <= 2


def test_turns_of_others_are_no_reason_to_give_up() -> None:
    world = World(bound=Bound(rpm=10), holders=8, delay_s=0.003, patience=Patience(deadline_s=30.0), latency_s=0.1)
    world.load(600, depth=5)
    assert [client.failed for client in world.clients] == [[]] * 8
    assert {len(client.sent) for client in world.clients} <= {12, 13, 14}


@pytest.mark.parametrize("delay_s", [0.0, 0.003])
def test_a_bound_of_the_user_below_the_endpoints_limit_needs_no_refusal(delay_s: float) -> None:
    world = World(rate=10, burst=20, bound=Bound(rpm=300), holders=2, delay_s=delay_s)
    world.load(60)
    assert world.refusals == 0
    assert world.throughput(40) >= 4.75


def test_a_reboot_takes_the_clock_back_and_keeps_what_was_learnt() -> None:
    world = World(rate=10, burst=20)
    world.load(60)
    for client in world.clients:
        client.depth = 0
    world.time.run(60)
    learnt = world.entry.requests.rate
    assert learnt
    world.time._now = 5.0  # the machine starts again
    again = World(rate=10, burst=20, time=world.time)
    again.budget._entries["endpoint"] = world.entry
    again.load(40)
    assert again.throughput(30) >= 9.5
    assert again.refusals <= 12
