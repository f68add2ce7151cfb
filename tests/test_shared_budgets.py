"""One budget for processes on several hosts: clocks that differ, processes that die, servers that come and go."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest

from plait.flow.budget_shares import ShareBudget, known
from plait.flow.budgets import Part
from plait.flow.clock import Clock, SystemClock
from plait.flow.control import exchange
from plait.flow.entries import Entry
from plait.flow.headers import Advice, Reading
from plait.flow.holders import lives, new_holder, placed
from plait.flow.lanes import Lane
from plait.flow.leases import Bound, Lease, Refusal, Report, Told
from plait.flow.ledgers import Change, Ledger, Moment, dump, readable
from plait.flow.queues import Place as Turn
from plait.flow.quotas import next_midnight
from plait.flow.shared_budgets import SharedBudget
from plait.flow.tickets import Outcome, Ticket
from plait.masking import shown_url as shown
from tests.clocks import FakeClock
from tests.command import PATIENCE_S
from tests.ledger_places import KINDS, SERVERS, Place, SkewedClock, Wire, killable_place_of, place_of
from tests.servers import Server


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request.param, request, tmp_path)


class Host:
    """A process's budget; `ask` waits for the lease."""

    def __init__(self, place: Place, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.budget = SharedBudget(place.open, self.clock)
        # As of another host: its process is not looked for here.
        pid, _, number = new_holder().partition("-")
        self.holder = f"{pid}@host{number}-{number}"

    def ask(self, *parts: Part, report: Report | None = None) -> Lease:
        leases = SimpleQueue[Lease]()
        self.budget.exchange(parts, report or Report(self.holder, waiting=9), leases.put)
        return leases.get(timeout=PATIENCE_S)


@contextmanager
def hosts(place: Place, *clocks: Clock) -> Generator[list[Host]]:
    found = [Host(place, clock) for clock in clocks or (SystemClock(), SystemClock())]
    try:
        yield found
    finally:
        for host in found:
            host.budget.close()


def entries(place: Place) -> tuple[dict[str, Entry], Moment]:
    ledger = place.open(SystemClock())
    states, moment = ledger.states()
    ledger.close()
    return readable(states), moment


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- sharing -------------------------------------------------------------------------------------------


def test_calls_in_flight_are_shared_and_come_back_when_a_holder_leaves(place: Place) -> None:
    part = Part("e", Bound(max_concurrency=4))
    with hosts(place) as (one, other):
        assert one.ask(part).slots == 4
        assert other.ask(part).slots == 0
        one.ask(part, report=Report(one.holder, leaving=True))
        assert other.ask(part).slots == 4


def test_a_lease_is_on_all_parts_or_on_none(place: Place) -> None:
    model, whole = Part("m"), Part("*", Bound(rpd=3), learns=False)
    with hosts(place) as (one, other):
        lease = one.ask(model, whole)
        found, _ = entries(place)
        assert lease.requests == found["m"].promised_requests == found["*"].promised_requests == 3
        # The day's rest is promised, so the model's part, which had room, promises nothing either.
        assert other.ask(model, whole).quota_until is not None
        found, _ = entries(place)
        assert [found[name].promised_requests for name in ("m", "*")] == [3, 3]
        assert len(found["m"].holders) == len(found["*"].holders) == 2


def test_times_are_each_hosts_own(server: Place) -> None:
    far = SkewedClock(-500_000.0, 7200.0)
    parts = Part("e", Bound(max_concurrency=4)), Part("day", Bound(rpd=1), learns=False)
    with hosts(server, SystemClock(), far) as (near, host):
        near.ask(parts[0], report=Report(near.holder, waiting=1, sent=5))
        lease = host.ask(parts[0])
        assert -1 < lease.expires_at - far.now() < 5
        assert -1 < lease.starts_at - far.now() < 5
        # A refusal that this host met an instant ago is of now for all.
        refusal = Refusal("requests", far.now(), 1, 0.0, 1.0, 0.0, 1.0)
        host.ask(parts[0], report=Report(host.holder, sent=1, refusals=[refusal]))
        found, moment = entries(server)
        assert 0 <= moment.now - found["e"].requests.since < 5
        lease = near.ask(parts[0])
        assert 0 < lease.starts_at - near.clock.now() < 5
        # The day ends at the server's midnight, which this host's wrong clock shows two hours late.
        near.ask(parts[1], report=Report(near.holder, sent=1))
        lease = host.ask(parts[1])
        assert lease.quota_until == pytest.approx(next_midnight(moment.wall, "UTC") + 7200, abs=2)


def test_what_one_host_learns_the_others_know(place: Place) -> None:
    told = Told(Advice(Reading(600.0, 50.0, None, 60.0), None, None, None), 0.0, 0.0, 0.0)
    with hosts(place) as (one, other):
        one.ask(Part("e"), report=Report(one.holder, waiting=9, sent=1, told=[told], sizes={"prompt": 3.0}))
        lease = other.ask(Part("e"), report=Report(other.holder, waiting=9, new=True))
        assert lease.sizes == {"prompt": 3.0}
        assert 1 / lease.request_interval_s < 80  # ten a second, and its stock of fifty
        assert entries(place)[0]["e"].requests.rate == 10.0


def test_what_a_dead_process_held_is_free_before_its_silence_would_tell(place: Place) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    part = Part("e", Bound(max_concurrency=4))
    with hosts(place) as (one, other):
        assert one.ask(part, report=Report(f"{dead.pid}-0", waiting=9, in_flight=4)).slots == 4
        began = entries(place)[1].now
        until(lambda: other.ask(part).slots == 4)
        assert entries(place)[1].now - began < 2.9  # the law itself waits for three seconds


def test_a_process_is_looked_for_on_its_own_machine_only() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    assert not lives(placed(f"{dead.pid}-0"))
    assert lives(placed(f"{os.getpid()}-0"))
    assert lives(f"{dead.pid}@4026531836.0a0b0c0d0e0f.7-0")
    assert lives(f"{dead.pid}@4026531836.0a0b0c0d0e0f-0")
    assert lives(f"{dead.pid}@1-0")
    assert lives("nonsense")
    name = placed("7-1")
    assert placed(name) == name != "7-1"


def test_a_state_that_makes_no_sense_is_learnt_anew_and_its_day_is_kept(place: Place) -> None:
    part = Part("e", Bound(rpd=100))
    with hosts(place) as (one, other):
        one.ask(part, report=Report(one.holder, sent=40))
        spoilt = entries(place)[0]["e"]
        spoilt.requests.rate = spoilt.requests.unit = 0.0
        ledger = place.open(SystemClock())
        ledger.change(["e"], lambda _states, _moment: [dump(spoilt)])
        ledger.close()
        assert other.ask(part).requests > 0
        assert one.ask(part).requests > 0
        assert one.budget.exchanges == 2
        found = entries(place)[0]["e"]
        assert (found.requests.rate, found.day.requests) == (None, 40)


def test_a_models_name_may_be_anything(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    names = ["a\0b", "\ud800", "'; DROP TABLE plait_budget; --", "%s", "*", "m" * 20_000, "m" * 20_000 + "n"]
    with hosts(place, SystemClock()) as (one,):
        for name in names:
            lease = one.ask(Part(name), Part(name, Bound(max_concurrency=2)))
            assert lease.slots == 2
        assert one.budget.exchanges == len(names)
        found = entries(place)[0]
        assert len(found) == len(names)
        assert max(map(len, found)) < 600
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING and "limits" in each.getMessage()]


def test_closing_gives_back_what_was_held(place: Place) -> None:
    part = Part("e", Bound(max_concurrency=4))
    with hosts(place) as (one, other):
        one.ask(part)
        one.budget.close()
        assert not [name for name in entries(place)[0]["e"].holders if name == one.holder]
        assert other.ask(part).slots == 4


# --- outages -------------------------------------------------------------------------------------------


class Caller:
    """A host whose calls go through a lane, one after another, on a thread, until told to stop."""

    def __init__(self, host: Host, bound: Bound, gauge: list[int]) -> None:
        self.lane = Lane("e", (Part("e", bound),), host.budget, host.clock, holder=host.holder)
        self.done = 0
        self._gauge = gauge
        """Calls in flight of all callers: now, and the most so far."""
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]

    def __enter__(self) -> Caller:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self.lane.close()

    def _call(self) -> None:
        while not self._stop.is_set():
            ticket = self._take()
            if ticket is None:
                continue
            with _gauge_lock:
                self._gauge[0] += 1
                self._gauge[1] = max(self._gauge)
            self._stop.wait(0.005)
            with _gauge_lock:
                self._gauge[0] -= 1
                self.done += 1
            ticket.release(Outcome(tokens=1.0, duration_s=0.005))

    def _take(self) -> Ticket | None:
        ticket, woken = self.lane.ticket(Turn(0), 1.0), threading.Event()
        ticket.wake = woken.set
        ticket.try_acquire()
        while not woken.wait(0.1):
            if self._stop.is_set():
                ticket.release()
                return None
        return ticket


_gauge_lock = threading.Lock()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING and "budget at" in each.msg]


@pytest.mark.real_time
@pytest.mark.parametrize("kind", SERVERS)
def test_calls_go_on_while_the_server_is_killed_and_restarted_and_are_shared_again(
    kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    server, process = killable_place_of(kind, request)
    bound, gauge = Bound(max_concurrency=4, rpd=1_000_000), [0, 0]
    with hosts(server) as pair:
        with Caller(pair[0], bound, gauge) as one, Caller(pair[1], bound, gauge) as other:
            until(lambda: min(one.done, other.done) > 20)
            process.stop(kill=True)
            before = one.done, other.done
            until(lambda: one.done > before[0] + 20 and other.done > before[1] + 20)
            process.start()
            steps = [host.budget.exchanges for host in pair]
            until(lambda: all(host.budget.exchanges > before for host, before in zip(pair, steps, strict=True)))
            after = one.done, other.done
            until(lambda: one.done > after[0] + 20 and other.done > after[1] + 20)
        total = one.done + other.done
    # The bound held all the time, and the day's count has what was sent meanwhile.
    assert gauge[1] <= 4
    found = entries(server)[0]["e"]
    assert found.holders == {}
    # A crash may take the last moments back, and what was promised then is counted as sent.
    assert 0.9 * total <= found.day.requests <= 1.2 * total + 100
    said = warnings(caplog)
    assert len(said) == 2  # one from each
    assert all(shown(server.url) in each and "keeps to 1/2" in each for each in said)


def test_a_server_that_falls_silent_stops_no_call(server: Place, caplog: pytest.LogCaptureFixture) -> None:
    host, _, rest = server.url.partition("127.0.0.1:")
    port, _, rest = rest.partition("/")
    wire = Wire(int(port))
    place = place_at(server.kind, f"{host}127.0.0.1:{wire.port}/{rest}")
    with hosts(place, SystemClock()) as (one,):
        one.ask(Part("e"))
        assert one.budget.exchanges == 1
        wire.silent = True
        for _ in range(3):
            assert one.ask(Part("e")).slots
        assert one.budget.exchanges == 1
        wire.silent = False
        wire.close()  # what was swallowed will never come
        assert one.ask(Part("e")).slots
    assert len(warnings(caplog)) == 1


def cut_all(server: Place) -> None:
    if server.kind == "postgres":
        import psycopg

        with psycopg.connect(server.url, autocommit=True) as connection:
            others = "pid <> pg_backend_pid() AND datname = current_database() AND application_name = 'plait budget'"
            found = connection.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")
            assert found.fetchall() == [(True,)]
    else:
        import redis

        with redis.Redis.from_url(server.url) as client:
            assert client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_a_connection_that_was_cut_is_made_anew_without_a_word(server: Place, caplog: pytest.LogCaptureFixture) -> None:
    with hosts(server, SystemClock()) as (one,):
        one.ask(Part("e"))
        cut_all(server)
        one.ask(Part("e"), report=Report(one.holder, successes=1))
        assert one.budget.exchanges == 2
    assert warnings(caplog) == []
    assert entries(server)[0]["e"].accepted == 1


class LosesAnswers:
    """A ledger whose connection is cut after a step was written, before the answer to it is there: once."""

    remote = True

    def __init__(self, ledger: Ledger, left: list[None]) -> None:
        self.where = ledger.where
        self.again_s, self.cure, self.close = ledger.again_s, ledger.cure, ledger.close
        self.check, self.states = ledger.check, ledger.states
        self._ledger = ledger
        self._left = left

    def change(self, names: Sequence[str], change: Change) -> None:
        self._ledger.change(names, change)
        if self._left:
            self._left.pop()
            self._ledger.close()
            raise ConnectionResetError("cut")


def test_a_step_whose_answer_was_lost_is_counted_once(server: Place, caplog: pytest.LogCaptureFixture) -> None:
    left: list[None] = []
    losing = Place(server.kind, server.url, lambda clock: LosesAnswers(server.open(clock), left))
    with hosts(losing, SystemClock()) as (one,):
        one.ask(Part("e", Bound(rpd=100)))
        left.append(None)
        lease = one.ask(Part("e", Bound(rpd=100)), report=Report(one.holder, waiting=9, sent=3, successes=1))
        assert (left, one.budget.exchanges) == ([], 2)
        assert lease.requests > 0
        found = entries(server)[0]["e"]
    assert (found.day.requests, found.accepted) == (3, 1)
    assert warnings(caplog) == []


def place_at(kind: str, url: str) -> Place:
    from plait.flow.budget_places import ledger_at

    return Place(kind, url, ledger_at(url))


@pytest.mark.parametrize("url", ["redis://user:geheim@127.0.0.1:1/0", "postgresql://user:geheim@127.0.0.1:1/plait"])
def test_a_server_that_was_never_there_stops_no_call_and_is_told_once(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with hosts(place_at("", url), SystemClock()) as (one,):
        for _ in range(20):
            assert one.ask(Part("e", Bound(max_concurrency=3))).slots == 3
    (said,) = warnings(caplog)
    assert url.rpartition("@")[2] in said
    assert "geheim" not in caplog.text


def test_what_a_server_lost_is_brought_back_by_who_still_knows_it(
    redis_instance: Server, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import redis

    place = place_of("redis", request, tmp_path)
    with hosts(place) as (one, other), redis.Redis.from_url(place.url) as client:
        part = Part("e", Bound(rpd=10))
        one.ask(part, report=Report(one.holder, sent=9))
        client.flushall()
        lease = one.ask(part)
        assert lease.requests == 1
        assert other.ask(part).quota_until is not None


# --- the share that is kept to meanwhile ---------------------------------------------------------------


def shared_by(count: int, bound: Bound, *, sent: int = 0, told_per_minute: float | None = None) -> Entry:
    entry, told = Entry(), []
    if told_per_minute:
        told = [Told(Advice(Reading(told_per_minute, 0.0, None, 60.0), None, None, None), 100.0, 0.0, 0.0)]
    for number in range(count):
        report = Report(f"{number}@here-0", in_flight=1, sent=sent, told=told)
        exchange([(entry, bound)], report, 100.0, 1.7e9)
    return entry


def share(entry: Entry, bound: Bound, slots: int | None = None) -> Callable[[Report], Lease]:
    state = known(dump(entry), entry, Moment(100.0, 1.7e9), None)
    budget = ShareBudget(FakeClock(), {"e": state}, {"h": slots} if slots is not None else {})

    def ask(report: Report) -> Lease:
        leases: list[Lease] = []
        budget.exchange([Part("e", bound)], report, leases.append)
        return leases[0]

    return ask


def test_a_share_of_a_day_is_what_was_left_divided() -> None:
    bound = Bound(rpd=100)
    ask = share(shared_by(3, bound, sent=10), bound)
    # 70 were left to three.
    assert ask(Report("h", waiting=500, sent=20)).quota_until is None
    lease = ask(Report("h", waiting=500, sent=3))
    assert lease.quota_until is not None
    assert lease.quota_is_own


def test_a_share_of_calls_in_flight_is_what_the_last_lease_had() -> None:
    bound = Bound(max_concurrency=9)
    entry = shared_by(3, bound)
    assert share(entry, bound, slots=5)(Report("h", waiting=50)).slots == 5
    assert share(entry, bound, slots=0)(Report("h", waiting=50)).slots == 1
    assert share(entry, bound)(Report("h", waiting=50)).slots == 3


def test_a_share_of_a_rate_stays_one_whatever_headers_say_meanwhile() -> None:
    entry = shared_by(4, Bound(), told_per_minute=600.0)
    ask = share(entry, Bound())
    assert 1 / ask(Report("h", waiting=50)).request_interval_s == pytest.approx(2.5)
    told = Told(Advice(Reading(600.0, 0.0, None, 60.0), None, None, None), 0.0, 0.0, 0.0)
    assert 1 / ask(Report("h", waiting=50, sent=1, told=[told])).request_interval_s == pytest.approx(2.5)


def test_processes_that_rest_for_a_moment_keep_their_share() -> None:
    first = known("{}", shared_by(4, Bound()), Moment(100.0, 1.7e9), None)
    alone = shared_by(1, Bound())
    assert known("{}", alone, Moment(200.0, 1.7e9), first).processes == 4
    assert known("{}", alone, Moment(500.0, 1.7e9), first).processes == 1
