"""Batches: CPU time of a row, rows a second, a million rows, and others at the same rows; `batch.NAME` runs one."""

from __future__ import annotations

import os
from collections.abc import Callable

from benchmarks import batch_million, batch_peers, batch_throughput
from benchmarks.batch_subjects import measure
from benchmarks.endpoint import endpoint
from benchmarks.measure import Figure, interleave, print_ratios

ROWS = 1000
IN_FLIGHT = 50
ROUNDS = 7
PEER = "AsyncOpenAI, default client"
ABATCH = "LangGraph abatch"
PLAIN = "plait.runs.run, own process"
BATCH = "plait.batch, journal and store"
SUBJECTS = {
    PEER: "sdk",
    "AsyncOpenAI on uvloop": "sdk-uvloop",
    ABATCH: "abatch",
    PLAIN: "run",
    "plait.batch, no journal": "batch-no-journal",
    BATCH: "batch",
}


def cpu() -> None:
    """CPU milliseconds a row of one call; each subject is a process of its own, and the provider another."""
    with endpoint() as base_url:

        def measured(subject: str) -> Callable[[], float]:
            return lambda: measure(subject, base_url, ROWS, IN_FLIGHT).cpu_s / ROWS

        found = interleave({name: measured(subject) for name, subject in SUBJECTS.items()}, rounds=ROUNDS)
    print(f"CPU per row, {ROWS} rows a round, {IN_FLIGHT} at once, {ROUNDS} rounds; ", end="")
    print(f"targets for plait.batch: <= 1.70x, and <= 0.75x of abatch; load {os.getloadavg()[0]:.1f}")
    print_ratios(found, PEER, unit="ms", scale=1000)
    print()
    print_ratios({name: found[name] for name in (ABATCH, PLAIN, BATCH)}, ABATCH, unit="ms", scale=1000)
    overhead = Figure.of([mine - plain for mine, plain in zip(found[BATCH], found[PLAIN], strict=True)])
    print(f"durable run overhead: {overhead.text(' ms', scale=1000)} above {PLAIN}; target: <= 1.2 ms")


SCENARIOS: dict[str, Callable[[], None]] = {
    "cpu": cpu,
    "throughput": batch_throughput.main,
    "million": batch_million.main,
    "peers": batch_peers.main,
}


def main() -> None:
    """All scenarios; `python -m benchmarks batch.NAME` runs one."""
    for name, scenario in SCENARIOS.items():
        print(f"\n### batch.{name}: {(scenario.__doc__ or '').partition(chr(10))[0]}", flush=True)
        scenario()
