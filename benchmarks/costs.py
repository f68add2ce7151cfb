"""CPU of a row of one model call: every peer in an environment of its own, and plait, side by side in one run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from benchmarks.batch_subjects import measure
from benchmarks.endpoint import endpoint
from benchmarks.limits_subjects import Subject
from benchmarks.measure import Figure, interleave, note, print_ratios
from benchmarks.peers.contest import Course
from benchmarks.rivals import ABATCH, AEVALUATE, CHAT, GRAPH, INSPECT, PROMPTS, PYDANTIC, SDK, installed, spend

ROWS, FEWER_ROWS, IN_FLIGHT, ROUNDS = 2000, 500, 50, 5
PEERS = (SDK, CHAT, GRAPH, ABATCH, AEVALUATE, PYDANTIC, PROMPTS, INSPECT)
RUN, BATCH = "plait.run, limiter", "plait.batch, limiter, journal, store"
OURS = {RUN: "run", "plait.batch, limiter, no journal": "batch-no-journal", BATCH: "batch"}


def main() -> None:
    """Print CPU milliseconds a row of each subject's process, and ratios to the bare SDK with its default client."""
    with endpoint() as base_url:
        course = Course(base_url, rows=ROWS, in_flight=IN_FLIGHT)
        fewer = Course(base_url, rows=FEWER_ROWS, in_flight=IN_FLIGHT)
        peers, versions = installed(PEERS, course)
        subjects: dict[str, Callable[[], float]] = {}
        for peer in peers:
            subjects[peer.name] = partial(_peer, peer, fewer if peer is INSPECT else course)
        for name, subject in OURS.items():
            subjects[name] = partial(_ours, subject, base_url)
        found = interleave(subjects, rounds=ROUNDS)
    print(f"{ROWS} rows a round, {IN_FLIGHT} at once, {ROUNDS} rounds, answers at once; ", end="")
    print(f"target for the last line: <= 1.25x; load {os.getloadavg()[0]:.1f}")
    print_ratios(found, SDK.name, unit="ms", scale=1000)
    above = [(mine - plain) * 1000 for mine, plain in zip(found[BATCH], found[RUN], strict=True)]
    note("journal and store", "ms above plait.run", above)
    print(f"journal and store: {Figure.of(above).text(' ms')} above plait.run\n{versions}")


def _peer(peer: Subject, course: Course) -> float:
    return spend(peer, course).cpu_s / course.rows


def _ours(subject: str, base_url: str) -> float:
    return measure(subject, base_url, ROWS, IN_FLIGHT).cpu_s / ROWS
