"""One budget for all processes of a host: a file that may be damaged, deleted or locked, and processes that may die."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.host_budget import HostBudget, read
from plait.flow.lanes import Lane
from plait.flow.leases import Bound
from plait.flow.queues import Place
from plait.flow.tickets import Outcome, Ticket
from plait.simulator import Profile, running

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
    end = time.time() + seconds
    print("ready", flush=True)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(row(session, number, end) for number in range(rows)))

asyncio.run(main())
lane.close()
budget.close()
print(json.dumps({"times": times, "refused": refused}))
"""


def sender(file: Path, url: str, seconds: float, *, rows: int = 40, **bound: Any) -> subprocess.Popen[str]:
    arguments = [str(file), url, str(seconds), json.dumps(bound), str(rows)]
    return subprocess.Popen([sys.executable, "-c", SENDER, *arguments], stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, list[float]]:
    out, _ = process.communicate(timeout=25)
    assert process.returncode == 0
    found: dict[str, list[float]] = json.loads(out.splitlines()[-1])
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "limits.db"


class Caller:
    """One process's part: a lane over a budget of its own."""

    def __init__(self, file: Path, holder: str = f"{os.getpid()}-0", name: str = "e", **bound: Any) -> None:
        self.budget = HostBudget(file, clock := SystemClock())
        self.lane = Lane(name, (Part(name, Bound(**bound)),), self.budget, clock, holder=holder)

    def take(self, within_s: float = 5.0) -> Ticket | None:
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


def test_two_processes_share_a_rate_and_a_third_starts_with_what_they_learnt(file: Path) -> None:
    with running(Profile(rpm=600, burst=20, latency_s=0.2, headers="none", retry_after="none")) as simulator:
        processes = [sender(file, simulator.base_url, 5.0) for _ in range(2)]
        found = [result(process) for process in processes]
        times = sorted(at for each in found for at in each["times"])
        span = times[-1] - times[0]
        assert len(times) >= 0.85 * (20 + 10 * (span - 0.3))
        assert sum(len(each["refused"]) for each in found) <= 40
        shares = [len(each["times"]) for each in found]
        assert min(shares) >= 0.25 * sum(shares)
        third = result(sender(file, simulator.base_url, 2.0))
        assert len(third["refused"]) <= 2
        assert len(third["times"]) >= 15


def test_two_processes_never_have_more_calls_in_flight_than_the_user_allows(file: Path) -> None:
    # A provider that refuses the fifth: it tells nobody unless they are too many.
    with running(Profile(max_concurrency=4, latency_s=0.05)) as simulator:
        processes = [sender(file, simulator.base_url, 3.0, max_concurrency=4) for _ in range(2)]
        found = [result(process) for process in processes]
        assert [len(each["refused"]) for each in found] == [0, 0]
        assert simulator.counters.peak == 4
        shares = [len(each["times"]) for each in found]
        assert min(shares) >= 0.3 * sum(shares)
        assert sum(shares) >= 100


def test_what_a_killed_process_held_comes_back_within_five_seconds(file: Path) -> None:
    with running(Profile(latency_s=30)) as simulator:
        process = sender(file, simulator.base_url, 60, max_concurrency=4)
        survivor = Caller(file, max_concurrency=4)
        try:
            deadline = time.monotonic() + 10
            while simulator.counters.in_flight < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert survivor.take(0.5) is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed = time.monotonic()
            tickets = [survivor.take() for _ in range(4)]
            assert all(tickets)
            assert time.monotonic() - killed <= 5
        finally:
            process.kill()
            process.wait()
            survivor.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


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
        time.sleep(1.2)
        first = caller.take()
        assert first
        time.sleep(1.2)
        assert later.take(0.5) is None
    finally:
        caller.close()
        later.close()


def test_a_file_that_another_process_locks_is_waited_for(file: Path, caller: Caller) -> None:
    caller.call()
    blocker = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    threading.Timer(1.5, lambda: blocker.execute("COMMIT")).start()
    began = time.monotonic()
    caller.call(200)
    assert time.monotonic() - began <= 5
    time.sleep(max(0.0, 1.7 - (time.monotonic() - began)))
    blocker.close()


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
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=25, capture_output=True)
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

def take(within_s=5.0):
    # As a gate does for each call: it asks for its lane.
    lane = lanes.lane("e", (Part("e", Bound(max_concurrency=2)),), Patience(), None)
    ticket, woken = lane.ticket(Place(0), 1.0), threading.Event()
    ticket.wake = woken.set
    ticket.try_acquire()
    return ticket if woken.wait(within_s) else None

assert take()  # held by the parent all the time
child = os.fork()
if child == 0:
    ticket = take(4.0)
    extra = take(1.5)
    os._exit(0 if ticket and not extra else 1 if not ticket else 2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len(take(5.0) and "one" or ""))
os._exit(0)
"""


def test_a_forked_child_shares_the_bound_with_its_parent(file: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=25, check=False)
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
