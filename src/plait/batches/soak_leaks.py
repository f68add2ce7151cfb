"""What a soak leaves behind: permits, tasks, threads, open files and memory, before and after many rows."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from plait.flow.gate import Gate

_SETTLE_S = 3.0
_LOOK_S = 0.05
_ALIKE = 4
# Pools keep threads by design; who waits in one shows as a task.
_POOLS = ("plait-node", "plait-dns", "asyncio_", "ThreadPoolExecutor")
_FILES_SPARE = 8
_MEMORY_A_ROW = 50_000
_MEMORY_SPARE = 32_000_000


@dataclass(frozen=True, slots=True)
class Footing:
    """What is held at a moment when no row is in flight."""

    permits: int
    """Calls in flight, as the gate counts them."""
    waiting: int
    """Calls that wait for a permit."""
    tasks: int
    threads: int
    files: int
    memory_bytes: int
    task_names: tuple[str, ...] = ()
    thread_names: tuple[str, ...] = ()


async def footing(gates: Iterable[Gate], *, like: Footing | None = None) -> Footing:
    """What is held now, once what was under way has ended: at the latest after three seconds.

    With `like`, as soon as no more is held than there; without, once it stays the same.
    """
    gates = tuple(gates)
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    alike, last = 0, like
    while True:
        await asyncio.to_thread(gc.collect)
        found = await asyncio.to_thread(_look, gates, _tasks())
        if like is None:
            alike = alike + 1 if last and not leaks(last, found, rows=0, peak=0) else 0
        settled = alike >= _ALIKE if like is None else not leaks(like, found, rows=0, peak=0)
        if settled or asyncio.get_running_loop().time() > deadline:
            return found
        last = found
        await asyncio.sleep(_LOOK_S)


def leaks(before: Footing, after: Footing, *, rows: int, peak: int) -> list[str]:
    """In words, what `rows` rows in between have left behind. Pools may keep `peak` connections open."""
    found = []
    for what, number in (("permits are still held", after.permits), ("calls still wait for a permit", after.waiting)):
        if number:
            found.append(f"{number:,} {what}")
    for what, more, names in (
        ("tasks", after.tasks - before.tasks, _new(before.task_names, after.task_names)),
        ("threads", after.threads - before.threads, _new(before.thread_names, after.thread_names)),
    ):
        if more > 0:
            found.append(f"{more:,} more {what}: {names}")
    if (more := after.files - before.files) > peak + _FILES_SPARE:
        found.append(f"{more:,} more open files or connections after {rows:,} rows")
    grown = after.memory_bytes - before.memory_bytes
    if rows and grown > max(_MEMORY_SPARE, rows * _MEMORY_A_ROW):
        found.append(f"{grown / 1e6:,.0f} MB more memory after {rows:,} rows")
    return found


def _look(gates: tuple[Gate, ...], tasks: tuple[str, ...]) -> Footing:
    lanes = {id(lane): lane for gate in gates for _, lane in gate.used()}.values()
    threads = tuple(each.name for each in threading.enumerate() if not each.name.startswith(_POOLS))
    return Footing(
        permits=sum(lane.in_flight for lane in lanes),
        waiting=sum(lane.waiting for lane in lanes),
        tasks=len(tasks),
        threads=len(threads),
        files=_files(),
        memory_bytes=_memory_bytes(),
        task_names=tasks,
        thread_names=threads,
    )


def _tasks() -> tuple[str, ...]:
    return tuple(
        getattr(task.get_coro(), "__qualname__", task.get_name())
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task()
    )


def _new(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    more = Counter(after) - Counter(before)
    return ", ".join(f"{number} {name}" for name, number in more.most_common(5))


def _files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            return len(os.listdir(folder))
    return 0


def _memory_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
