"""One budget for all processes of a host: a file that may be damaged, deleted or locked, and processes that may die."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.host_budget import AGAIN_S, HostBudget, read
from plait.flow.lanes import Lane
from plait.flow.leases import Bound, Lease, Report
from plait.flow.queues import Place
from plait.flow.tickets import Outcome, Ticket
from plait.simulator import Profile, running
from tests.clocks import FakeClock
from tests.command import PATIENCE_S

SENDER = """
import asyncio, json, os, sys, time
import aiohttp
from pathlib import Path
from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.headers import read_advice, why_refused
from plait.flow.host_budget import HostBudget
from plait.flow.lanes import Lane
from plait.flow.leases import Bound
from plait.flow.queues import Place
from plait.flow.tickets import Outcome

file, url, bound = sys.argv[1], sys.argv[2], json.loads(sys.argv[4])
seconds, rows = float(sys.argv[3]), int(sys.argv[5])
clock = SystemClock()
budget = HostBudget(Path(file), clock)
lane = Lane("e", (Part("e", Bound(**bound)),), budget, clock, holder=f"{os.getpid()}-0")
times = []
refused = []

async def row(session, number, end):
    while time.time() < end:
        ticket = lane.ticket(Place(number), 10.0)
        try:
            async with asyncio.timeout(end - time.time()):
                await ticket.acquire(number)
        except TimeoutError:
            return
        body = {"model": "m", "messages": [{"role": "user", "content": f"{os.getpid()} {number} {time.time()}"}]}
        async with session.post(url + "/chat/completions", json=body) as found:
            raw = await found.read()
        if found.status == 200:
            times.append(time.time())
            ticket.release(Outcome(tokens=10, output_tokens=3, duration_s=clock.now() - ticket.sent_at))
        else:
            refused.append(time.time())
            ticket.release(Outcome(kind=why_refused(found.status, found.headers, raw)))
            await asyncio.sleep(0.3)

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.time() + seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(row(session, number, end) for number in range(rows)))

asyncio.run(main())
lane.close()
budget.close()
print(json.dumps({"sent": len(times), "refused": len(refused)}))
"""


class Sender:
    """A process that sends what its lane lets through, from `go` on for some seconds."""

    def __init__(self, file: Path, url: str, seconds: float, *, rows: int = 40, **bound: Any) -> None:
        arguments = [str(file), url, str(seconds), json.dumps(bound), str(rows)]
        command = [sys.executable, "-c", SENDER, *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.sent = self.refused = 0

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def end(self) -> None:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert (self.process.returncode, err) == (0, "")  # it would warn if it did not share
        found: dict[str, int] = json.loads(out)
        self.sent, self.refused = found["sent"], found["refused"]


def sent_together(*senders: Sender) -> list[int]:
    """Let them begin at the same time, and count what each has sent."""
    for each in senders:
        each.wait_ready()
    for each in senders:
        each.go()
    for each in senders:
        each.end()
    return [each.sent for each in senders]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "limits.db"


class Caller:
    """One process's part: a lane over a budget of its own."""

    def __init__(self, file: Path, holder: str = f"{os.getpid()}-0", name: str = "e", **bound: Any) -> None:
        self.budget = HostBudget(file, clock := SystemClock())
        self.lane = Lane(name, (Part(name, Bound(**bound)),), self.budget, clock, holder=holder)

    def take(self, within_s: float = PATIENCE_S) -> Ticket | None:
        ticket, woken = self.lane.ticket(Place(0), 1.0), threading.Event()
        ticket.wake = woken.set
        ticket.try_acquire()
        if woken.wait(within_s):
            return ticket
        ticket.release()
        return None

    def call(self, count: int = 1) -> None:
        for _ in range(count):
            ticket = self.take()
            assert ticket is not None
            ticket.release(Outcome(tokens=1.0, duration_s=0.001))

    def close(self) -> None:
        self.lane.close()
        self.budget.close()


@pytest.fixture
def caller(file: Path) -> Generator[Caller]:
    found = Caller(file)
    yield found
    found.close()


@pytest.mark.real_time
def test_two_processes_share_a_rate_and_a_third_starts_with_what_they_learnt(file: Path) -> None:
    with running(Profile(rpm=600, burst=20, latency_s=0.2, headers="none", retry_after="none")) as simulator:
        both = Sender(file, simulator.base_url, 5.0), Sender(file, simulator.base_url, 5.0)
        shares = sent_together(*both)
        # Both told the file of each call, and neither pushed the other aside.
        learnt, third = read(file)["e"], HostBudget(file, SystemClock())
        assert sum(shares) == simulator.counters.accepted == learnt.accepted
        assert sum(each.refused for each in both) == simulator.counters.refused["rpm"] == learnt.refused["requests"]
        assert min(shares) >= 0.15 * sum(shares)
    leases = SimpleQueue[Lease]()
    third.exchange((Part("e"),), Report(f"{os.getpid()}-0", waiting=40, new=True), leases.put)
    # Where nothing is known it may begin with hundreds a second.
    assert 1 < 1 / leases.get(timeout=PATIENCE_S).request_interval_s < 50
    third.close()


@pytest.mark.real_time
def test_two_processes_never_have_more_calls_in_flight_than_the_user_allows(file: Path) -> None:
    # A provider that refuses the fifth: it tells nobody unless they are too many.
    with running(Profile(max_concurrency=4, latency_s=0.05)) as simulator:
        both = [Sender(file, simulator.base_url, 3.0, max_concurrency=4) for _ in range(2)]
        shares = sent_together(*both)
        assert [each.refused for each in both] == [0, 0]
        assert simulator.counters.peak == 4
        assert min(shares) >= 0.15 * sum(shares)
        assert sum(shares) == read(file)["e"].accepted


@pytest.mark.real_time
def test_what_a_killed_process_held_comes_back(file: Path) -> None:
    with running(Profile(latency_s=300)) as simulator:
        sender = Sender(file, simulator.base_url, 300, max_concurrency=4)
        survivor = Caller(file, max_concurrency=4)
        try:
            sender.wait_ready()
            sender.go()
            simulator.wait_arrived(4)
            assert survivor.take(0.5) is None
            sender.process.kill()
            sender.process.communicate()
            assert all(survivor.take() for _ in range(4))
        finally:
            sender.process.kill()
            sender.process.communicate()
            survivor.close()


def test_what_a_dead_process_held_is_free_before_its_silence_would_tell(file: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    clock, leases, parts = FakeClock(), SimpleQueue[Lease](), (Part("e", Bound(max_concurrency=4)),)
    budget = HostBudget(file, clock)

    def slots(holder: str) -> int:
        budget.exchange(parts, Report(holder, waiting=9, held_up="concurrency"), leases.put)
        return leases.get(timeout=PATIENCE_S).slots

    assert slots(f"{dead.pid}-0") == 4
    assert slots(f"{os.getpid()}-0") == 0
    clock.advance(0.5)
    assert slots(f"{os.getpid()}-0") == 4
    budget.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Those about this test's file: a lane of an earlier test may report once more after its end."""
    here = str(Path(os.environ["PLAIT_HOME"]).parent)
    found = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    return [each for each in found if "limits.db" not in each or here in each]


def test_a_folder_that_cannot_be_written_is_done_without_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    caller = Caller(tmp_path / "state" / "limits.db", max_concurrency=1)
    caller.call(20)
    caller.close()
    assert len(warnings(caplog)) == 1
    assert "PLAIT_HOME" in warnings(caplog)[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder := tmp_path / "state").mkdir(mode=0o500)
    caller = Caller(folder / "limits.db", max_concurrency=1)
    caller.call(5)
    caller.close()
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\x00" + bytes(5000), os.urandom(9000)]
)
def test_a_damaged_file_is_put_aside_and_told_once(
    file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    caller = Caller(file, max_concurrency=1)
    caller.call(20)
    caller.close()
    assert len(warnings(caplog)) == 1
    assert [each.read_bytes() for each in file.parent.glob("*.damaged-*")] == [content]
    assert read(file)["e"].accepted == 20


def test_an_empty_file_is_used(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.parent.mkdir(parents=True)
    file.touch()
    caller = Caller(file)
    caller.call(3)
    caller.close()
    assert not warnings(caplog)
    assert read(file)["e"].accepted == 3


def test_a_file_of_a_newer_version_is_left_alone(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.parent.mkdir(parents=True)
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE entries (everything TEXT)")
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    caller = Caller(file, max_concurrency=1)
    caller.call(5)
    caller.close()
    assert len(warnings(caplog)) == 1
    assert "99" in warnings(caplog)[0]
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT * FROM entries").fetchall() == []


def damaged_entry(file: Path, state: str) -> None:
    caller = Caller(file)
    caller.call()
    caller.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entries SET state = ?", (state,))
    connection.close()


@pytest.mark.parametrize("state", ["", "{", "[]", "null", '{"requests": 5}', '{"holders": {"1-0": {}}}'])
def test_an_entry_that_cannot_be_read_is_learnt_anew(file: Path, state: str, caplog: pytest.LogCaptureFixture) -> None:
    damaged_entry(file, state)
    caller = Caller(file)
    caller.call(20)
    caller.close()
    assert len(warnings(caplog)) == 1
    assert read(file)["e"].accepted == 20


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": 0.0, "level": 0.0},
        {"rate": "NaN"},
        {"rate": -1.0, "burst": -5.0},
        {"unit": 0.0, "rate": 0.0},
    ],
)
def test_an_entry_that_makes_no_sense_stops_nobody(file: Path, changes: dict[str, Any]) -> None:
    damaged_entry(file, json.dumps({"requests": changes}))
    caller = Caller(file)
    caller.call(5)
    caller.close()


def test_a_file_deleted_while_in_use_stops_nobody(file: Path, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caller.call(5)
    for each in file.parent.glob("limits.db*"):
        each.unlink()
    caller.call(100)
    time.sleep(0.3)
    caller.call(5)
    assert len(warnings(caplog)) <= 1


def test_a_file_deleted_while_in_use_is_made_anew(file: Path) -> None:
    caller, later = Caller(file, max_concurrency=1), Caller(file, f"{os.getpid()}-1", max_concurrency=1)
    try:
        caller.call()
        for each in file.parent.glob("limits.db*"):
            each.unlink()
        first = caller.take()
        assert first
        deadline = time.monotonic() + PATIENCE_S
        while not in_flight(file):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert later.take(0.5) is None
    finally:
        caller.close()
        later.close()


def in_flight(file: Path) -> int:
    with suppress(sqlite3.Error):  # it may have no table yet
        return sum(entry.in_flight for entry in read(file).values())
    return 0


def locked(file: Path) -> sqlite3.Connection:
    """As by another process in the middle of a write; a new file is in rollback mode, not yet in WAL mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    blocker = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    return blocker


def test_a_file_that_another_process_locks_is_waited_for(
    file: Path, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caller.call()
    with closing(locked(file)) as blocker:
        release = threading.Timer(1.5, lambda: blocker.execute("COMMIT"))
        release.start()
        caller.call(200)
        release.join()
    caller.close()
    assert not warnings(caplog)
    assert read(file)["e"].accepted == 201


def test_a_new_file_that_another_process_writes_is_waited_for(
    file: Path, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(locked(file)) as blocker:
        release = threading.Timer(0.3, lambda: blocker.execute("COMMIT"))
        release.start()
        caller.call(20)
        release.join()
    caller.close()
    assert not warnings(caplog)
    assert read(file)["e"].accepted == 20


def test_processes_that_start_together_on_a_new_file_all_share_it(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(30):
        new, leases = file.with_name(f"{number}.db"), SimpleQueue[Lease]()
        budgets = [HostBudget(new, SystemClock()) for _ in range(6)]
        for holder, budget in enumerate(budgets):
            budget.exchange((Part("e"),), Report(f"{os.getpid()}-{holder}", successes=1), leases.put)
        for _ in budgets:
            leases.get(timeout=PATIENCE_S)
        assert read(new)["e"].accepted == len(budgets)
        for budget in budgets:
            budget.close()
    assert not warnings(caplog)


@pytest.mark.parametrize("before", [0, 1])
def test_a_file_that_stays_busy_is_done_without_for_a_while_and_then_used_again(
    file: Path, before: int, caplog: pytest.LogCaptureFixture
) -> None:
    clock, leases = FakeClock(), SimpleQueue[Lease]()
    budget = HostBudget(file, clock, busy_s=0.05)

    def exchange(times: int = 1) -> None:
        for _ in range(times):
            budget.exchange((Part("e"),), Report(f"{os.getpid()}-0", successes=1), leases.put)
            assert leases.get(timeout=PATIENCE_S).slots

    exchange(before)
    with closing(locked(file)) as blocker:
        exchange(3)
        clock.advance(AGAIN_S)
        exchange(3)
        blocker.execute("ROLLBACK")
    clock.advance(AGAIN_S - 1)
    exchange(3)
    clock.advance(1)
    exchange()
    budget.close()
    assert read(file)["e"].accepted == before + 1
    assert len(warnings(caplog)) == 1
    assert f"for {AGAIN_S:.0f} s at a time" in warnings(caplog)[0]


def test_only_the_owner_may_read_the_file(file: Path, caller: Caller) -> None:
    caller.call()
    for each in file.parent.glob("limits.db*"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_file_holds_no_key(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from plait import chat_model
async def main():
    print((await chat_model("openai:m").ainvoke("hello")).text)
asyncio.run(main())
"""
    key = "sk-a-very-secret-key"
    with running(Profile()) as simulator:
        environment = os.environ | {
            "OPENAI_API_KEY": key,
            "OPENAI_BASE_URL": simulator.base_url,
            "PLAIT_HOME": str(tmp_path / "home"),
        }
        subprocess.run(
            [sys.executable, "-c", script], env=environment, check=True, timeout=PATIENCE_S, capture_output=True
        )
    files = [each for each in (tmp_path / "home").rglob("*") if each.is_file()]
    assert tmp_path / "home" / "limits.db" in files
    assert not [each for each in files if key.encode() in each.read_bytes()]


FORKING = """
import os, sys, threading
from pathlib import Path
from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.host_budget import HostBudget
from plait.flow.gate import Lanes
from plait.flow.lanes import Patience
from plait.flow.leases import Bound
from plait.flow.queues import Place
from plait.flow.tickets import Outcome

clock = SystemClock()
lanes = Lanes(HostBudget(Path(sys.argv[1]), clock), clock)

def take(within_s=20.0):
    # As a gate does for each call: it asks for its lane.
    lane = lanes.lane("e", (Part("e", Bound(max_concurrency=2)),), Patience(), None)
    ticket, woken = lane.ticket(Place(0), 1.0), threading.Event()
    ticket.wake = woken.set
    ticket.try_acquire()
    return ticket if woken.wait(within_s) else None

assert take()  # held by the parent all the time
child = os.fork()
if child == 0:
    ticket = take(20.0)
    extra = take(1.5)
    os._exit(0 if ticket and not extra else 1 if not ticket else 2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(take(20.0) and "one" or ""))
os._exit(0)
"""


def test_a_forked_child_shares_the_bound_with_its_parent(file: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert found.stdout.split() == ["0", "3"], found.stderr


def test_a_clock_that_went_back_keeps_what_was_learnt(file: Path) -> None:
    caller = Caller(file)
    caller.call(3)
    caller.close()
    with sqlite3.connect(file) as connection:
        entry = json.loads(connection.execute("SELECT state FROM entries").fetchone()[0])
        later = time.monotonic() + 1e6
        entry["requests"] |= {"at": later, "quiet_until": later + 60, "rate": 10.0, "burst": 20.0}
        entry["window"]["at"] = later
        entry["holders"] = {"1-0": {"seen": later, "slots": 128, "in_flight": 128}}
        connection.execute("UPDATE entries SET state = ?", (json.dumps(entry),))
    connection.close()
    caller = Caller(file)
    caller.call(3)
    caller.close()
    assert read(file)["e"].requests.rate == pytest.approx(10.0)
