"""Sends subjects, each a process of its own, over one course at the same time, and takes down what the provider saw."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from benchmarks.limits_provider import Provider, provider
from benchmarks.measure import Figure
from benchmarks.peers.contest import Course, Tally
from benchmarks.peers.environments import NotInstalled, python_with

ROOT = Path(__file__).parents[1]
_PATIENCE_S = 400.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that does rows: a module, and what has to be installed to run it (nothing: this environment)."""

    name: str
    module: str
    requirements: tuple[str, ...] = ()
    setting: str = ""


PLAIT = Subject("plait.run", "benchmarks.limits_rows")
_LANGCHAIN = ("langgraph>=1.2,<2", "langchain-openai>=1.7,<2", "openai>=3.50,<4")
PEERS = (
    Subject("AsyncOpenAI, defaults", "benchmarks.peers.async_openai", _LANGCHAIN),
    Subject("LangGraph abatch, RetryPolicy(8)", "benchmarks.peers.langgraph_abatch", _LANGCHAIN),
    Subject("inspect_ai, defaults", "benchmarks.peers.inspect_eval", ("inspect-ai>=0.3.280,<0.4", "openai>=3.50,<4")),
)


def rate_limiter(setting: str) -> Subject:
    """LangChain's InMemoryRateLimiter with `requests a second/bucket/seconds between checks`."""
    return Subject(f"InMemoryRateLimiter({setting})", "benchmarks.peers.rate_limiter", _LANGCHAIN, setting)


@dataclass(slots=True)
class Race:
    """What one or more subjects did together."""

    tallies: list[Tally]
    provider: Provider
    load: float

    @property
    def done(self) -> int:
        return sum(tally.done for tally in self.tallies)

    @property
    def failed(self) -> dict[str, int]:
        return {name: count for tally in self.tallies for name, count in tally.failed.items()}

    @property
    def wall_s(self) -> float:
        return self.provider.wall_s

    @property
    def refused(self) -> int:
        return sum(self.provider.counters["refused"].values())

    @property
    def served_latency_s(self) -> float:
        """Mean seconds from a request's arrival to its answer, by Little's law on what the provider saw."""
        busy = self.provider.busy
        area = sum(now.in_flight * (then.at - now.at) for now, then in pairwise(busy))
        return area / max(1, busy[-1].accepted)


def race(
    subjects: Sequence[Subject],
    profile: Mapping[str, object],
    course: Course,
    *,
    meanwhile: Callable[[Provider], None] | None = None,
) -> Race:
    """Start the subjects at once against a fresh provider, on a home of their own. Raises NotInstalled.

    `meanwhile` runs beside them, told the provider.
    """
    pythons = [python_with(list(subject.requirements)) if subject.requirements else None for subject in subjects]
    with tempfile.TemporaryDirectory() as home, provider(profile) as found:
        processes = [
            _start(subject, python, replace(course, base_url=found.base_url, setting=subject.setting), home)
            for subject, python in zip(subjects, pythons, strict=True)
        ]
        try:
            for process in processes:
                assert process.stdout is not None
                if process.stdout.readline().strip() != "ready":
                    raise RuntimeError(f"{process.args!r} did not start")
            found.looks.clear()
            found.look()
            beside = threading.Thread(target=meanwhile, args=(found,), daemon=True) if meanwhile else None
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            if beside:
                beside.start()
            tallies = [_tally(process) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return Race(tallies, found, os.getloadavg()[0])


def _start(subject: Subject, python: Path | None, course: Course, home: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    environment = {**kept, "PLAIT_HOME": home, "LANGSMITH_TRACING": "false", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [str(python or sys.executable), "-m", subject.module, json.dumps(asdict(course))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def _tally(process: subprocess.Popen[str]) -> Tally:
    assert process.stdout is not None
    timer = threading.Timer(_PATIENCE_S, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    return Tally(**json.loads(line)) if line else Tally(failed={"gave no tally": 1})


HEAD = (
    f"{'subject':<33} {'rows done':>9} {'wall':>7} {'/ideal':>7} {'refusals':>8} {'latency mean/p50':>17} "
    f"{'CPU/row':>8} {'load':>5}"
)


def print_race(name: str, found: Race, course: Course, ideal_s: float) -> None:
    """A line of the table under HEAD; of latency, what the provider saw (mean) and what the rows saw (median)."""
    middle = [latency for tally in found.tallies for latency in tally.latencies_s]
    latency = f"{found.served_latency_s:.2f}/{statistics.median(middle):.2f}" if middle else "-"
    ratio = f"{found.wall_s / ideal_s:.2f}x" if found.done == course.rows else "-"
    cpu = sum(tally.cpu_s for tally in found.tallies) / max(1, found.done)
    print(
        f"{name:<33} {f'{found.done}/{course.rows}':>9} {found.wall_s:>6.1f}s {ratio:>7} {found.refused:>8} "
        f"{f'{latency} s':>17} {f'{cpu * 1000:.1f} ms':>8} {found.load:>5.1f}",
        flush=True,
    )
    for cause, count in found.failed.items():
        print(f"{'':<33} failed: {count} x {cause}")


def print_rounds(name: str, races: Sequence[Race], ideal_s: float) -> None:
    """The middle of several races of one subject."""
    walls = Figure.of([each.wall_s / ideal_s for each in races])
    refused = Figure.of([float(each.refused) for each in races])
    print(f"{name}: wall/ideal {walls.text('x')}, refusals {refused.text(digits=0)}, {len(races)} rounds")


def try_race(subject: Subject, profile: Mapping[str, object], course: Course, ideal_s: float) -> Race | None:
    """`race` for one subject, printed; a peer that cannot be installed is named and left out."""
    try:
        found = race([subject], profile, course)
    except NotInstalled as error:
        print(f"{subject.name:<33} not installed: {error}")
        return None
    print_race(subject.name, found, course, ideal_s)
    return found
