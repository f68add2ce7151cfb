"""Kills a batch again and again, and holds what came of it against what was promised."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from plait.errors import StoreError
from plait.simulator import Profile, Simulator, running
from plait.store.files import open_to_read
from plait.store.folders import FolderPlace
from tests.reliability.providers import CALLS, KEY, Answers, environment, write_rows
from tests.reliability.sittings import Sitting, finish, start

MAX_CONCURRENCY = 32
AT_ONCE = 2
"""The calls that a row of either workflow has in flight at most."""
_POLL_S = 0.002
_PATIENCE_S = 60.0

Victim = Callable[[random.Random, int], int | None]
"""From (chance, the coordinator's process id) to the process that is killed; None: none of that kind runs now."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """What one batch took."""

    name: str
    rows: int
    seed: int
    needed: int
    """Calls of an uninterrupted run."""
    kills: int = 0
    received: int = 0
    """Requests at the server."""
    cut_off: int = 0
    """Requests that the server was at work on when their client was killed."""
    recorded: int = 0
    """Answers in the journals."""
    seconds: float = 0.0

    @property
    def paid_again(self) -> int:
        """Beyond what was needed."""
        return self.received - self.needed

    @property
    def bound(self) -> int:
        """Calls in flight at the kills: sent, and no answer of theirs was durable."""
        return self.received - self.recorded


def coordinator(_: random.Random, pid: int) -> int | None:
    """The process that was started."""
    return pid


def any_worker(chance: random.Random, pid: int) -> int | None:
    """One of its children, which are its workers."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(chance.choice(children)) if children else None


def any_process(chance: random.Random, pid: int) -> int | None:
    """The coordinator, or as often a worker."""
    return pid if chance.random() < 0.5 else any_worker(chance, pid)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is killed, how often."""

    rows: int
    kills: int
    seed: int
    workflow: str = "fan"
    workers: int = 1
    ray: str | None = None
    """The address of the cluster that the workers run on."""
    victim: Victim = coordinator


def kill_again_and_again(folder: Path, plan: Plan) -> Figures:
    """Run a batch, killed at random moments and gone on with, to its end; check it, return its figures."""
    chance, answers = random.Random(plan.seed), Answers()
    figures = Figures(name=plan.workflow, rows=plan.rows, seed=plan.seed, needed=plan.rows * CALLS[plan.workflow])
    data, home = write_rows(folder / "rows.jsonl", plan.rows), folder / "home"
    profile = Profile(latency_s=0.02, latency_law="lognormal", seed=plan.seed)
    began = time.monotonic()
    with running(profile, answer=answers, record=False) as provider:
        env = environment(provider, home, max_concurrency=MAX_CONCURRENCY)
        provider.behave = answers.note
        ledger = Ledger(answers)
        finished = False
        while not finished:
            process, kills = start(_next(plan, data, home), env), figures.kills
            try:
                finished = _sit_out(process, provider, plan, figures, chance)
            finally:
                process.kill()
            _await(lambda: provider.counters.in_flight == 0, "the server is idle")
            ledger.close(batches_of(home), figures.kills - kills)
        figures.received, figures.cut_off = provider.counters.received, provider.counters.closed_early
    figures.seconds = time.monotonic() - began
    _check(figures, batches_of(home)[0], answers, plan.workflow)
    return figures


def _next(plan: Plan, data: Path, home: Path) -> Sitting:
    options: dict[str, object] = {"workers": plan.workers} if plan.workers > 1 else {}
    options |= {"ray": plan.ray, "ray_timeout_s": 300.0} if plan.ray else {}
    found = batches_of(home)
    if found:
        return Sitting(workflow=plan.workflow, batch=found[0].name, options=options)
    return Sitting(workflow=plan.workflow, rows=str(data), options=options)


def _sit_out(
    process: subprocess.Popen[str], provider: Simulator, plan: Plan, figures: Figures, chance: random.Random
) -> bool:
    """One process from its start to its end or its death; whether the batch is finished."""
    while figures.kills < plan.kills:
        received = provider.counters.received
        share = max(0.0, figures.needed - received) / (plan.kills - figures.kills + 1)
        target = received + chance.uniform(0.0, 1.8) * share
        _await_calls(provider, target, process)
        time.sleep(chance.uniform(0.0, 0.02))
        victim = plan.victim(chance, process.pid)
        if process.poll() is not None:
            break
        if victim is None:
            continue
        os.kill(victim, signal.SIGKILL)
        figures.kills += 1
        if victim == process.pid:
            process.communicate(timeout=_PATIENCE_S)
            return False
    ending = finish(process)
    if ending.end == "BatchPaused" and "keep dying" in ending.message:
        return False  # its workers were killed more often than it replaces them
    assert ending.end == "finished", (plan.seed, ending)
    return True


def _await_calls(provider: Simulator, count: float, process: subprocess.Popen[str]) -> None:
    try:
        _await(lambda: provider.counters.received >= count or process.poll() is not None, "calls are made")
    except AssertionError:
        process.send_signal(signal.SIGUSR1)
        time.sleep(1.0)
        process.kill()
        raise AssertionError(f"the batch makes no calls: {process.communicate()[1][-8000:]}") from None


def _await(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(_POLL_S)


def batches_of(home: Path) -> list[Path]:
    """Those that began; one whose process was killed while it made the file has nothing to go on with."""
    found = []
    for folder in sorted((home / "batches").glob("*")):
        try:
            with FolderPlace(folder).read() as reader:
                if reader.meta:
                    found.append(folder)
        except StoreError:
            continue
    return found


class Ledger:
    """What was asked for, answered and kept, from one death to the next."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._done: dict[int, float] = {}
        self._lost: Counter[str] = Counter()

    def close(self, batches: Sequence[Path], deaths: int = 1) -> None:
        """Nobody runs: fail where a result is gone or was made anew, or a row lost more than its calls in flight.

        `deaths` are those since the last time.
        """
        kept: Counter[str] = Counter()
        for folder in batches:
            kept = _recorded(folder, self._answers)
            with FolderPlace(folder).read() as reader:
                now = {row.position: row.finished_at for row in reader.rows()}
            assert self._done.items() <= now.items(), "a stored result is gone, or its row ran again"
            self._done = now
        lost = self._answers.asked - kept
        for topic, count in (lost - self._lost).items():
            # A node goes on only when its answer is durable, so that a row loses at most what it asks for at a time.
            assert count <= AT_ONCE * deaths, f"{topic} lost {count} answers at once"
        self._lost = lost


def _check(figures: Figures, folder: Path, answers: Answers, workflow: str) -> None:
    with FolderPlace(folder).read() as reader:
        rows = list(reader.rows())
    assert [row.position for row in rows] == list(range(figures.rows))
    assert [row.id for row in rows] == [f"row-{position}" for position in range(figures.rows)]
    for row in rows:
        answers.check(workflow, row)
    keys = _keys(folder)
    figures.recorded = len(keys)
    assert figures.recorded == figures.needed, "the journal holds answers that no row needs, or one twice"
    assert figures.paid_again <= figures.bound
    assert figures.cut_off <= figures.kills * MAX_CONCURRENCY
    check_no_key(folder)


def _keys(folder: Path) -> list[int]:
    keys: list[int] = []
    for connection in _journals(folder):
        keys += [key for (key,) in connection.execute("SELECT key FROM calls")]
    return keys


def _recorded(folder: Path, answers: Answers) -> Counter[str]:
    """Kept answers by topic; the first of a row is plain text that names it."""
    lines: list[tuple[float, int, bytes]] = []
    for connection in _journals(folder):
        lines += connection.execute("SELECT at, scope, body FROM calls")
    topics: dict[int, str] = {}
    for _, scope, body in sorted(lines):
        if scope not in topics:
            topics[scope] = answers.topic_in(body.decode())
    return Counter(topics[scope] for _, scope, _ in lines)


def _journals(folder: Path) -> Iterator[sqlite3.Connection]:
    for file in [folder / "batch.db", *folder.glob("journal-*.db")]:
        with closing(open_to_read(file)) as connection:
            # A worker that was killed as it made its journal left a file without tables.
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone():
                yield connection


def check_no_key(folder: Path) -> None:
    """Fail where a key stands in any file of a batch."""
    for file in folder.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes(), file
