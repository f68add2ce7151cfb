"""The rules of a comparison: every subject is a process that says it is ready, waits for the start, counts its rows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, slots=True)
class Course:
    """What a subject has to do: `rows` model calls, at most `in_flight` rows at once, against `base_url`."""

    base_url: str
    rows: int
    in_flight: int
    words: int = 0
    """Words in the prompt besides the question."""
    setting: str = ""
    """For subjects that are tuned by hand."""
    calls: int = 1
    """Model calls of a row, one after another."""
    folder: str = ""
    """Where a subject may keep what it needs after a kill; what it finds there, it began itself."""

    def question(self, row: int, call: int = 0) -> str:
        """No two rows ask the same, nor two calls of a row."""
        part = [f"Part {call}."] if call else []
        return " ".join([f"Tell story {row}.", *part, *["word"] * self.words])


@dataclass(slots=True)
class Tally:
    """What came of it."""

    done: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """By the name of the exception."""
    latencies_s: list[float] = field(default_factory=list)
    """From sending to the answer, as far as the subject can tell, in the order of the answers."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    versions: str = ""


async def do_rows(course: Course, call: Callable[[int], Awaitable[float | None]]) -> Tally:
    """Call once a row; what it returns is the row's latency. A row that raises has failed."""
    tally, failed = Tally(), Counter[str]()
    rows = iter(range(course.rows))

    async def work() -> None:
        for row in rows:
            try:
                latency_s = await call(row)
            except Exception as error:  # noqa: BLE001 - whatever it is, the row has failed
                failed[type(error).__name__] += 1
            else:
                tally.done += 1
                if latency_s is not None:
                    tally.latencies_s.append(latency_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(course.in_flight):
            group.create_task(work())
    tally.failed = dict(failed)
    return tally


def take_part(subject: Callable[[Course], Tally], packages: Sequence[str]) -> None:
    """Read the course from the command line, say "ready", start at the first line of stdin, print the tally."""
    course = Course(**json.loads(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    sys.stdout = sys.stderr  # some write their progress there
    started, cpu = time.monotonic(), time.process_time()
    tally = subject(course)
    tally.wall_s, tally.cpu_s = time.monotonic() - started, time.process_time() - cpu
    tally.versions = ", ".join(f"{package} {_version(package)}" for package in packages)
    print(json.dumps(asdict(tally)), file=sys.__stdout__, flush=True)
    os._exit(0)  # threads that outlive the work are no part of it


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
