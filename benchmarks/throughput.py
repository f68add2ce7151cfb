"""Rows a second against a provider that takes half a second, 500 in flight: which share of the ideal each reaches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.batch_subjects import measure
from benchmarks.endpoint import endpoint
from benchmarks.limits_subjects import Subject
from benchmarks.measure import Figure, note
from benchmarks.peers.contest import Course
from benchmarks.rivals import ABATCH, AEVALUATE, INSPECT, PROMPTS, PYDANTIC, SDK, installed, spend

LATENCY_S, IN_FLIGHT = 0.5, 500
IDEAL = IN_FLIGHT / LATENCY_S
"""Rows a second."""
ROWS, PEER_ROWS, SLOW_ROWS, ROUNDS = 10_000, 4_000, 1_500, 3
"""plait's ramp and its workers' start weigh less in more rows; a peer's share does not depend on how many there are."""
SLOW = (AEVALUATE, INSPECT)
"""Those that would take minutes for so many."""
PEERS = (SDK, ABATCH, AEVALUATE, PYDANTIC, PROMPTS, INSPECT)
ONE, TWO = "plait.batch", "plait.batch, --workers 2"
OURS = {ONE: 1, TWO: 2}


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one subject in one round."""

    whole: float
    """Share of the ideal over the whole run."""
    steady: float | None
    """The same from a tenth of the results to nine tenths, where that is known."""
    cpu_ms: float
    """Of a row, all processes together."""


def main() -> None:
    """Print shares of the ideal; the provider is one more process on the same cores."""
    print(
        f"{ROWS} rows, {IN_FLIGHT} in flight, answers after {LATENCY_S} s, ideal {IDEAL:,.0f} rows/s, {ROUNDS} rounds"
    )
    print("steady: from a tenth of the results to nine; targets: >= 70 % in one process, >= 95 % with two workers")
    with endpoint(delay_s=LATENCY_S) as base_url:
        course = Course(base_url, rows=PEER_ROWS, in_flight=IN_FLIGHT)
        fewer = Course(base_url, rows=SLOW_ROWS, in_flight=IN_FLIGHT)
        peers, versions = installed(PEERS, course)
        subjects: dict[str, Callable[[], Spent]] = {}
        for peer in peers:
            subjects[peer.name] = partial(_peer, peer, fewer if peer in SLOW else course)
        for name, workers in OURS.items():
            subjects[name] = partial(_ours, base_url, workers)
        found: dict[str, list[Spent]] = {name: [] for name in subjects}
        for _ in range(ROUNDS):
            for name, subject in subjects.items():
                found[name].append(subject())
    _print(found)
    print(f"{versions}; load {os.getloadavg()[0]:.1f}")


def _peer(peer: Subject, course: Course) -> Spent:
    tally = spend(peer, course)
    return Spent(course.rows / tally.wall_s / IDEAL, None, tally.cpu_s / course.rows * 1000)


def _ours(base_url: str, workers: int) -> Spent:
    spent = measure("batch", base_url, ROWS, IN_FLIGHT, workers)
    steady = ROWS * 0.8 / spent.middle_s / IDEAL
    return Spent(ROWS / spent.wall_s / IDEAL, steady, spent.cpu_s / ROWS * 1000)


def _print(found: dict[str, list[Spent]]) -> None:
    print(f"{'subject':<28} {'whole run':<22} {'steady':<22} CPU a row")
    for name, spent in found.items():
        whole, cpu = [each.whole for each in spent], [each.cpu_ms for each in spent]
        steady = [each.steady for each in spent if each.steady is not None]
        note(name, "share of the ideal", whole)
        note(name, "CPU, ms", cpu)
        if steady:
            note(name, "steady share", steady)
        shown = Figure.of(steady).text("%", scale=100, digits=0) if steady else ""
        print(
            f"{name:<28} {Figure.of(whole).text('%', scale=100, digits=0):<22} {shown:<22} {Figure.of(cpu).text(' ms')}"
        )
