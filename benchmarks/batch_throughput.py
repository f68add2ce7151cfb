"""Rows a second against a provider that takes half a second: the share of the ideal, and what two processes make."""

from __future__ import annotations

import os
import statistics

from benchmarks.batch_subjects import Spent, measure
from benchmarks.endpoint import endpoint
from benchmarks.measure import Figure

LATENCY_S = 0.5
IN_FLIGHT = 500
ROWS = 10_000
ROUNDS = 3
SUBJECTS = {"AsyncOpenAI": "sdk", "LangGraph abatch": "abatch", "plait.batch": "batch"}
FEWER = 200
"""In flight, in each process."""


def main(rows: int = ROWS, rounds: int = ROUNDS) -> None:
    """Print rows a second, alternating; the provider is one more process, and takes its part of the machine."""
    cores = os.cpu_count()
    print(f"provider with {LATENCY_S * 1000:.0f} ms latency, a process of its own on the same {cores} cores ", end="")
    print("(it answers some 13,000/s on a core of its own)")
    with endpoint(delay_s=LATENCY_S) as base_url:
        _one_process(base_url, rows, rounds)
        _two_processes(base_url, rows, rounds)


def _one_process(base_url: str, rows: int, rounds: int) -> None:
    ideal = IN_FLIGHT / LATENCY_S
    print(f"{rows} rows, {IN_FLIGHT} in flight, ideal {ideal:,.0f} rows/s; target: plait.batch >= 55 %", flush=True)
    found: dict[str, list[Spent]] = {name: [] for name in SUBJECTS}
    for _ in range(rounds):
        for name, subject in SUBJECTS.items():
            found[name].append(measure(subject, base_url, rows, IN_FLIGHT))
    for name, each in found.items():
        share = Figure.of([rows / spent.wall_s / ideal for spent in each])
        print(f"{name:<20} {share.text('%', scale=100, digits=0):<20} of the ideal, {_costs(each, rows)}", flush=True)


def _two_processes(base_url: str, rows: int, rounds: int) -> None:
    print(f"{rows} rows, {FEWER} in flight in each process; target: two >= 1.8x of one", flush=True)
    found: dict[int, list[Spent]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, each in found.items():
            each.append(measure("batch", base_url, rows, FEWER * workers, workers))
    for workers, each in found.items():
        ideal = FEWER * workers / LATENCY_S
        rate = Figure.of([rows / spent.wall_s for spent in each])
        share = f"{rate.median / ideal:.0%} of the ideal"
        print(f"workers={workers}            {rate.text(' rows/s', digits=0):<28} {share}, {_costs(each, rows)}")
    pairs = list(zip(found[1], found[2], strict=True))
    factor = Figure.of([one.wall_s / two.wall_s for one, two in pairs])
    middle = Figure.of([one.middle_s / two.middle_s for one, two in pairs])
    print(
        f"factor {factor.text('x')} with the start of the processes, {middle.text('x')} between a tenth and nine ",
        end="",
    )
    print(f"tenths of the results; load {os.getloadavg()[0]:.1f}", flush=True)


def _costs(found: list[Spent], rows: int) -> str:
    cpu = statistics.median(spent.cpu_s for spent in found) / rows
    peak = max(spent.peak_mb for spent in found)
    return f"CPU {cpu * 1000:.2f} ms/row, {peak:.0f} MB, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
