"""Rows a second by the number of processes, ours and Ray's: 200 rows in flight in each, at a provider of 500 ms."""

from __future__ import annotations

import os

from benchmarks.batch_subjects import Spent, measure
from benchmarks.endpoint import endpoint
from benchmarks.measure import Figure, note, ratios

LATENCY_S, IN_FLIGHT = 0.5, 200
ROWS, ROUNDS = 6_000, 3
ONE = "one process"
SUBJECTS = {ONE: ("batch", 1), "--workers 2": ("batch", 2), "--ray local": ("batch-ray", 2)}
"""What runs them, and in how many processes."""


def main() -> None:
    """Print rows a second between a tenth and nine tenths of the results, their share of the ideal, and ratios."""
    print(f"{ROWS} rows, {IN_FLIGHT} in flight in each process, answers after {LATENCY_S} s, {ROUNDS} rounds; ", end="")
    print("target: two >= 1.8x of one, steady", flush=True)
    found: dict[str, list[Spent]] = {name: [] for name in SUBJECTS}
    with endpoint(delay_s=LATENCY_S) as base_url:
        for _ in range(ROUNDS):
            for name, (subject, workers) in SUBJECTS.items():
                found[name].append(measure(subject, base_url, ROWS, IN_FLIGHT * workers, workers))
    rates = {name: [ROWS * 0.8 / spent.middle_s for spent in each] for name, each in found.items()}
    print(f"{'':<14} {'rows/s, steady':<28} {'of the ideal':<13} {'of one process':<24} whole run, rows/s")
    for name, rate in rates.items():
        note(name, "rows/s", rate)
        share = Figure.of(rate).median / (IN_FLIGHT * SUBJECTS[name][1] / LATENCY_S)
        factor = "" if name == ONE else ratios(rate, rates[ONE]).text("x")
        whole = Figure.of([ROWS / spent.wall_s for spent in found[name]]).text(digits=0)
        print(f"{name:<14} {Figure.of(rate).text(digits=0):<28} {f'{share:.0%}':<13} {factor:<24} {whole}")
    print(f"load {os.getloadavg()[0]:.1f}")
