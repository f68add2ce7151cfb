"""plait.batch and others at the same rows: under a limit, at a fast endpoint, and killed in the middle.

Each is used as its documentation says, in an environment of its own; one that cannot be installed is left out by name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.limits import BURST20, COURSE, ideal_s
from benchmarks.limits_provider import Look, provider
from benchmarks.limits_subjects import HEAD, PEERS, ROOT, Race, Subject, race, try_race
from benchmarks.peers.contest import Course, Tally
from benchmarks.peers.environments import NotInstalled, python_with

PLAIT = Subject("plait.batch", "benchmarks.batch_contestant")
_SDK, _ABATCH, _INSPECT = PEERS
_LANGCHAIN = _ABATCH.requirements
SUBJECTS = (
    PLAIT,
    _SDK,
    _ABATCH,
    Subject("LangGraph abatch_as_completed", "benchmarks.peers.langgraph_as_completed", _LANGCHAIN),
    Subject("langsmith aevaluate, no upload", "benchmarks.peers.langsmith_aevaluate", _LANGCHAIN),
    _INSPECT,
    Subject(
        "pydantic-evals, 8 attempts",
        "benchmarks.peers.pydantic_evaluate",
        ("pydantic-evals>=2.62,<3", "pydantic-ai-slim[retries]>=2.62,<3", "openai>=3.50,<4"),
    ),
    Subject(
        "async-batch-llm, 1 s cooldown",
        "benchmarks.peers.prompts_batch",
        ("async-batch-llm>=0.28,<0.29", "openai>=3.50,<4"),
    ),
)
FAST = replace(COURSE, rows=1000)
KILLED = Course("", rows=200, in_flight=20, calls=3)
"""600 calls in 200 rows."""
KILLED_LATENCY_S = 0.2
_PATIENCE_S = 200.0


def main() -> None:
    """All three tables."""
    versions: set[str] = set()
    limited(versions)
    fast(versions)
    killed(versions)
    print(", ".join(sorted(versions - {""})))


def limited(versions: set[str]) -> None:
    """600 rpm, burst 20, Retry-After only."""
    ideal = ideal_s(COURSE.rows)
    print(f"600 rpm, burst 20, Retry-After only: {COURSE.rows} rows of one call, ", end="")
    print(f"{COURSE.in_flight} in flight, ideal {ideal:.1f} s\n{HEAD}", flush=True)
    for subject in SUBJECTS:
        found = try_race(subject, BURST20, COURSE, ideal)
        if found is not None:
            versions |= set(found.tallies[0].versions.split(", "))


def fast(versions: set[str]) -> None:
    """No limit and no latency: what is left is the client."""
    print(f"\nno limit, answers at once: {FAST.rows} rows of one call, {FAST.in_flight} in flight")
    print(f"{'subject':<33} {'rows done':>9} {'wall':>7} {'rows/s':>7} {'CPU/row':>8} {'load':>5}", flush=True)
    for subject in SUBJECTS:
        try:
            found = race([subject], {"headers": "none"}, FAST)
        except NotInstalled as error:
            print(f"{subject.name:<33} not installed: {error}")
            continue
        versions |= set(found.tallies[0].versions.split(", "))
        _print_fast(subject.name, found)


def _print_fast(name: str, found: Race) -> None:
    tally = found.tallies[0]
    print(
        f"{name:<33} {f'{found.done}/{FAST.rows}':>9} {tally.wall_s:>6.1f}s {found.done / (tally.wall_s or 1.0):>7.0f} "
        f"{f'{tally.cpu_s / max(1, found.done) * 1000:.1f} ms':>8} {found.load:>5.1f}",
        flush=True,
    )
    for cause, count in found.failed.items():
        print(f"{'':<33} failed: {count} x {cause}")


@dataclass(frozen=True, slots=True)
class Killed:
    """What a subject did that was killed once and started again."""

    tally: Tally
    """Of the second start."""
    in_flight: int
    """Calls that the provider was answering at the kill."""
    before: int
    """Calls paid until then."""
    paid: int
    """Calls paid in all."""


def killed(versions: set[str]) -> None:
    """kill -9 when half of the calls are paid, and the same command again."""
    needed = KILLED.rows * KILLED.calls
    print(f"\nkill -9 in the middle of {KILLED.rows} rows of {KILLED.calls} calls, ", end="")
    print(f"{KILLED.in_flight} in flight, {KILLED_LATENCY_S} s a call; started again; {needed} calls are needed")
    print(f"{'subject':<33} {'rows done':>9} {'lost':>5} {'paid at the kill':>16} {'in flight':>9} ", end="")
    print(f"{'paid in all':>11} {'paid again':>10}", flush=True)
    for subject in SUBJECTS:
        try:
            # Those that adapt keep to the same number of calls in flight here.
            found = kill_once(replace(subject, setting="static"), KILLED)
        except NotInstalled as error:
            print(f"{subject.name:<33} not installed: {error}")
            continue
        versions |= set(found.tally.versions.split(", "))
        again = found.paid - needed
        print(
            f"{subject.name:<33} {f'{found.tally.done}/{KILLED.rows}':>9} {KILLED.rows - found.tally.done:>5} "
            f"{found.before:>16} {found.in_flight:>9} {found.paid:>11} "
            f"{f'{again} ({again / needed:.0%})':>10}",
            flush=True,
        )
        for cause, count in found.tally.failed.items():
            print(f"{'':<33} failed: {count} x {cause}")


def kill_once(subject: Subject, course: Course) -> Killed:
    """Start it, kill it when half of its calls are paid, start it again on what it left. Raises NotInstalled."""
    python = python_with(list(subject.requirements)) if subject.requirements else Path(sys.executable)
    with tempfile.TemporaryDirectory() as folder, provider({"headers": "none", "latency_s": KILLED_LATENCY_S}) as found:
        course = replace(course, base_url=found.base_url, setting=subject.setting, folder=folder)
        half: list[Look] = []

        def paid_half() -> bool:
            half[:] = found.looks[-1:]
            return half[0].accepted >= course.rows * course.calls // 2

        _run(subject, python, course, until=paid_half)
        found.look()
        before = found.looks[-1].accepted
        tally = _run(subject, python, course, until=None)
        found.look()
        return Killed(tally, half[0].in_flight, before, found.looks[-1].accepted)


def _run(subject: Subject, python: Path, course: Course, *, until: Callable[[], bool] | None) -> Tally:
    """To its end, or until something is true: then it is killed."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    home = {"PLAIT_HOME": str(Path(course.folder) / "home"), "XDG_DATA_HOME": str(Path(course.folder) / "data")}
    process = subprocess.Popen(
        [str(python), "-m", subject.module, json.dumps(asdict(course))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**kept, **home, "LANGSMITH_TRACING": "false"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(_PATIENCE_S, process.kill)
    timer.start()
    try:
        process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.flush()
        while until is not None and not until() and process.poll() is None:
            time.sleep(0.01)
        line = process.stdout.readline() if until is None else ""
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    return Tally(**json.loads(line)) if line else Tally(failed={"gave no tally": 1})
