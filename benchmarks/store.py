"""Rows a second that a store takes, each with its paid answer: SQLite, and PostgreSQL from one process and from two.

A writer is a process (`python -m benchmarks.store STORE HOME`) with 2,000 rows in flight, each of which waits until
its answer is durable, then until its result is, as rows of a batch do; there is no model and no graph.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from benchmarks.batch_subjects import at_once
from benchmarks.measure import Figure, note
from benchmarks.records import ROOT

ROWS, IN_FLIGHT, ROUNDS = 10_000, 2_000, 3
_WARM_UP = 2_000
_TEXT = "word " * 100
"""Of an answer; it is stored as the provider's body and as the row's outputs: 1.3 kB a row."""
_BODY = json.dumps({"choices": [{"message": {"role": "assistant", "content": _TEXT}}]}).encode()


def main() -> None:
    """Print rows a second and CPU of a row in the writers' processes; the server is not in it."""
    from tests.servers import postgres_folder, postgres_server

    print(f"{ROWS} rows of 1.3 kB a process, {IN_FLIGHT} in flight, an answer and a result each, all durable, ", end="")
    print(f"{ROUNDS} rounds", flush=True)
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        subjects = {"SQLite": ("", 1)}
        if postgres_folder() is None:
            print("PostgreSQL: left out: it is not installed")
        else:
            url = stack.enter_context(postgres_server()).url
            subjects |= {"PostgreSQL": (url, 1), "PostgreSQL, 2 processes": (url, 2)}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
        for _ in range(ROUNDS):
            for name, (url, processes) in subjects.items():
                found[name].append(_round(url, home, processes))
    for name, rounds in found.items():
        rate, cpu = [each[0] for each in rounds], [each[1] * 1000 for each in rounds]
        note(name, "rows/s", rate)
        note(name, "CPU, ms", cpu)
        print(f"{name:<24} {Figure.of(rate).text(' rows/s', digits=0):<36} CPU {Figure.of(cpu).text(' ms')} a row")
    print(f"load {os.getloadavg()[0]:.1f}")


def _round(store: str, home: str, processes: int) -> tuple[float, float]:
    """Rows a second together, and CPU seconds a row."""
    command = [sys.executable, "-m", "benchmarks.store", store, home]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(processes)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            if writer.stdout.readline() != "ready\n":
                raise RuntimeError("a writer did not start")
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        spent = [json.loads(writer.communicate()[0]) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    wall_s, cpu_s = (sum(each[which] for each in spent) / processes for which in (0, 1))
    return ROWS * processes / wall_s, cpu_s / ROWS


async def _write(store: str, home: str) -> None:
    from plait.flow.calls import Call
    from plait.flow.recorders import Answer
    from plait.flow.usage import Tokens
    from plait.journal import Journal
    from plait.settings import from_env
    from plait.store.places import shelf_of
    from plait.store.rows import RowRecord

    settings = from_env({"PLAIT_HOME": home} | ({"PLAIT_STORE": store} if store else {}))
    place = shelf_of(settings).new_place("store", datetime.now(UTC))
    rows = await place.create({})
    journal = Journal(rows.writer, place.own_answers)
    answer = Answer(200, (("content-type", "application/json"),), _BODY, False, "m", Tokens(10, 0, 100))

    async def write(row: int) -> None:
        answers = await journal.open_row(f"r{row}", lambda: "answer")
        slot = answers.slot(Call("http://127.0.0.1:9", "m", False, 100, True, digest=row.to_bytes(16, "big")))
        assert slot is not None
        await slot.record(answer)
        await rows.stored(RowRecord(row, f"r{row}", "success", {"answer": _TEXT}, finished_at=time.time()))

    await at_once(write, _WARM_UP, IN_FLIGHT)
    print("ready", flush=True)
    sys.stdin.readline()
    wall, cpu = time.monotonic(), time.process_time()
    await at_once(lambda row: write(_WARM_UP + row), ROWS, IN_FLIGHT)
    print(json.dumps([time.monotonic() - wall, time.process_time() - cpu]), flush=True)
    journal.close()
    await rows.close()


if __name__ == "__main__":
    from plait.process import run_loop

    run_loop(_write(*sys.argv[1:]))
