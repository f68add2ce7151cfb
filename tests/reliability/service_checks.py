"""Holds what servers left that were killed against what was promised."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plait.simulator import Body
from plait.simulator.prompts import last_user_message
from plait.store.addresses import Address, medium_of
from plait.store.connections import Connection
from tests.reliability.service_clients import Asked, Clients
from tests.reliability.service_graphs import AT_ONCE, CALLS
from tests.reliability.service_processes import until

_TOPIC = re.compile(r"topic-\d{5}")
OVER = ("success", "error", "timeout", "interrupted")


class Calls:
    """What the provider was asked and answered: by topic, since every run has its own."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def note(self, body: Body, _: int) -> None:
        """Count a request, for Simulator.behave."""
        self.asked[_topic(last_user_message(body))] += 1

    def answer(self, body: Body) -> str:
        """Every answer names its topic, and is the only one to its prompt."""
        words = last_user_message(body).split()
        return " ".join([*(word.strip(".:") for word in words[:2]), f"answer-{_topic(last_user_message(body))}"])


@dataclass(frozen=True, slots=True)
class Run:
    """As the store has it."""

    run_id: str
    thread_id: str
    topic: str
    status: str
    attempt: int
    error: str


@contextmanager
def reading(address: Address) -> Iterator[Connection]:
    """A connection to look at what servers have in their store."""
    medium = medium_of(address)
    connection = medium.open_to_read()
    try:
        yield connection
    finally:
        medium.close(connection, whole=False)


def runs_in(address: Address) -> list[Run]:
    """All of them, the oldest first."""
    sql = "SELECT run_id, thread_id, kwargs, status, attempt, error FROM runs ORDER BY number"
    with reading(address) as connection:
        return [
            Run(run_id, thread_id, _topic(kwargs), status, attempt, error or "")
            for run_id, thread_id, kwargs, status, attempt, error in connection.execute(sql)
        ]


def count_open(address: Address) -> int:
    """How many runs are pending or running."""
    return sum(run.status not in OVER for run in runs_in(address))


def all_over(address: Address) -> bool:
    """Whether nothing is pending or running."""
    return not count_open(address)


async def all_end(address: Address) -> None:
    """Return when nothing is pending or running; those of one thread may take minutes, but not long for each."""

    async def fewer() -> bool:
        return await asyncio.to_thread(count_open, address) < left

    while left := await asyncio.to_thread(count_open, address):
        await until(fewer)


class Ledger:
    """What was asked for and kept, from one death to the next."""

    def __init__(self, calls: Calls, address: Address) -> None:
        self._calls = calls
        self._address = address
        self._ended: dict[str, int] = {}
        """Calls of runs that were over at a death."""
        self.lost: Counter[str] = Counter()

    def close(self, deaths: int = 1) -> None:
        """Nobody runs: note what is lost. Fails where a run lost more than it had in flight at its deaths."""
        kept, asked = _kept(self._address), Counter(self._calls.asked)
        for run in runs_in(self._address):
            if run.status in OVER:
                self._ended.setdefault(run.topic, asked[run.topic])
                continue
            lost = asked[run.topic] - kept[run.topic]
            assert lost - self.lost[run.topic] <= AT_ONCE * deaths, f"{run} lost {lost} answers"
            self.lost[run.topic] = lost

    def check(self) -> None:
        """All is over: no run was paid for again, but for what it had in flight when its server died."""
        asked = self._calls.asked
        for run in runs_in(self._address):
            more = asked[run.topic] - CALLS
            assert more <= AT_ONCE * (run.attempt - 1), f"{run} was paid {more} calls too often"
            assert more >= 0 or run.status != "success", run
        for topic, count in self._ended.items():
            assert asked[topic] == count, f"{topic} was over, and was run again"

    def check_lost(self) -> None:
        """The same, exactly, where nobody ran when it was closed."""
        for run in runs_in(self._address):
            if run.status == "success":
                assert self._calls.asked[run.topic] == CALLS + self.lost[run.topic], run


def check_ends(address: Address) -> Counter[str]:
    """No run is forgotten and no thread stays busy; how many runs ended how."""
    found = runs_in(address)
    for run in found:
        assert run.status == "success" or (run.status == "error" and "ServerDied" in run.error), run
    with reading(address) as connection:
        threads = connection.execute('SELECT thread_id, status, "values" FROM threads').fetchall()
    open_threads = [thread for thread, status, _ in threads if status not in ("idle", "interrupted", "error")]
    assert open_threads == []
    for thread, _, values in threads:
        told = json.loads(values or "{}").get("told", [])
        lines = {f"Tell {run.topic} answer-{run.topic}": run.status for run in found if run.thread_id == thread}
        ended = {line for line, status in lines.items() if status == "success"}
        # One that was given up may have got as far as its last checkpoint.
        assert ended <= set(told) <= set(lines), thread
        assert len(told) == len(set(told)), thread
    return Counter(run.status for run in found)


def check_turns(notes: Path) -> None:
    """On a thread one run after the other, and a run at one server after the other: never two at once."""
    seen: dict[str, list[str]] = {}
    places: dict[str, list[str]] = {}
    for line in notes.read_text(encoding="ascii").splitlines():
        pid, thread, run, _ = line.split()
        _turn(seen.setdefault(thread, []), run)
        _turn(places.setdefault(run, []), pid)
    for thread, runs in seen.items():
        assert len(set(runs)) == len(runs), f"runs of thread {thread} took turns: {runs}"
    for run, pids in places.items():
        assert len(set(pids)) == len(pids), f"servers took turns at run {run}: {pids}"


async def check_streams(clients: Clients) -> int:
    """Every client of a resumable run has read each event once, in order, and to the end; how many events."""
    count = 0
    for asked in clients.asked:
        if asked.way != "resumable" or not asked.run_id:
            continue
        whole = await clients.whole(asked)
        assert asked.events == whole, f"{asked.run_id}: {_difference(asked, [event.id for event in whole])}"
        places = [tuple(map(int, event.id.split("-"))) for event in whole]
        assert places == sorted(set(places)), f"{asked.run_id}: ids do not grow: {places}"
        assert whole[0].name == "metadata"
        count += len(whole)
    return count


async def check_states(clients: Clients) -> None:
    """Fail where a thread does not stand where its last run left it."""
    for asked in clients.asked:
        if asked.way != "stateless" and asked.run_id:
            told, last = await clients.told(asked)
            assert told == last, f"thread {asked.thread_id} of {asked.way} says {told}, its last checkpoint {last}"


def known(asked: Sequence[Asked], runs: Sequence[Run]) -> None:
    """Every run that a client was told of is there, but for stateless ones: those are removed a minute later."""
    found = {run.run_id: run.topic for run in runs}
    for each in asked:
        kept = each.run_id and each.way != "stateless"
        assert not kept or found.get(each.run_id) == each.topic, each


def _difference(asked: Asked, whole: list[str]) -> str:
    read = [event.id for event in asked.events]
    return f"not read {sorted(set(whole) - set(read))}, unknown {sorted(set(read) - set(whole))}, twice or out of turn"


def _turn(line: list[str], name: str) -> None:
    if not line or line[-1] != name:
        line.append(name)


def _kept(address: Address) -> Counter[str]:
    with reading(address) as connection:
        bodies = connection.execute("SELECT body FROM calls").fetchall()
    return Counter(_topic(body.decode()) for (body,) in bodies)


def _topic(text: str) -> str:
    found = _TOPIC.search(text)
    assert found is not None, text
    return found[0]
