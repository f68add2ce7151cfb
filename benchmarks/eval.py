"""Experiments: CPU of an example beside other harnesses, what is really in flight, and whether judges thin it out."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from benchmarks.limits_provider import Provider
from benchmarks.limits_subjects import Race, Subject, race
from benchmarks.measure import Figure, interleave, print_ratios
from benchmarks.peers.contest import Course
from benchmarks.peers.environments import NotInstalled
from benchmarks.peers.warm_up import WARM

LATENCY_S = 0.5
FLIGHT_LATENCY_S = 1.0
JUDGES_LATENCY_S = 2.0
"""Long answers leave a busy machine time enough to keep all calls in flight."""
COURSE = Course("", rows=2000, in_flight=100)
ROUNDS = 3
CALLS = 1000
"""Of an experiment of `judges`."""

_SDK = "openai>=3.50,<4"
EVALUATE = "plait.evaluate"
BATCH = "plait.batch, not scored"
AEVALUATE = "langsmith aevaluate, no upload"
INSPECT = "inspect_ai"
SUBJECTS = (
    Subject(EVALUATE, "benchmarks.eval_contestant"),
    Subject(BATCH, "benchmarks.eval_contestant", setting="batch"),
    Subject(
        AEVALUATE,
        "benchmarks.peers.langsmith_scored",
        ("langgraph>=1.2,<2", "langchain-openai>=1.7,<2", _SDK),
    ),
    Subject(INSPECT, "benchmarks.peers.inspect_scored", ("inspect-ai>=0.3.280,<0.4", _SDK)),
    Subject(
        "pydantic-evals, AsyncOpenAI",
        "benchmarks.peers.pydantic_scored",
        ("pydantic-evals>=2.62,<3", "pydantic-ai-slim[retries]>=2.62,<3", _SDK),
    ),
)
JUDGED = Subject("a judge for each run", "benchmarks.eval_contestant", setting="judge")


def cost() -> None:
    """CPU of a one-call example with one evaluator; warmed up by a quarter of the examples; rounds alternate."""
    print(f"{COURSE.rows} examples a round, {COURSE.in_flight} at once, {ROUNDS} rounds, answers after {LATENCY_S} s;")
    print("targets for plait.evaluate: <= 0.9x aevaluate, <= 0.25x inspect_ai", flush=True)
    races: dict[str, list[Race]] = {}

    def measured(subject: Subject) -> Callable[[], float]:
        def cpu_s() -> float:
            found = race([_warm(subject)], _profile(LATENCY_S), COURSE)
            races.setdefault(subject.name, []).append(found)
            return found.tallies[0].cpu_s / max(1, found.done)

        return cpu_s

    found = interleave({subject.name: measured(subject) for subject in _installed()}, rounds=ROUNDS)
    for peer in (AEVALUATE, INSPECT):
        if peer in found:
            print_ratios(found, peer, unit="ms", scale=1000)
            print()
    extra = Figure.of([mine - plain for mine, plain in zip(found[EVALUATE], found[BATCH], strict=True)])
    print(f"scoring, trace and the experiment: {extra.text(' ms', scale=1000)} above plait.batch")
    for name, each in races.items():
        _print_failed(name, each)
    _print_end(races)


def flight() -> None:
    """A first experiment, nothing warm and nothing learnt: calls in flight at the provider, and the time it takes."""
    ideal = COURSE.rows / COURSE.in_flight * FLIGHT_LATENCY_S
    print(f"{COURSE.rows} examples, {COURSE.in_flight} at once, answers after {FLIGHT_LATENCY_S} s, ", end="")
    print(f"ideal {ideal:.1f} s; target for plait.evaluate: peak 100")
    print(f"{'subject':<32} {'done':>9} {'peak':>5} {'mean':>5} {'wall':>7} {'CPU/each':>11} {'load':>5}", flush=True)
    races: dict[str, list[Race]] = {}
    for subject in _installed():
        found = race([subject], _profile(FLIGHT_LATENCY_S), COURSE)
        races[subject.name] = [found]
        seen = Flight.of(found.provider)
        print(
            f"{subject.name:<32} {f'{found.done}/{COURSE.rows}':>9} {seen.peak:>5} {seen.mean:>5.1f} "
            f"{f'{found.wall_s:.1f} s':>7} {f'{found.tallies[0].cpu_s / max(1, found.done) * 1000:.1f} ms':>11} "
            f"{found.load:>5.1f}",
            flush=True,
        )
        _print_failed(subject.name, [found])
    _print_end(races)


def judges() -> None:
    """Calls in flight while judges score the runs, beside the same number of calls without judges."""
    whole = replace(COURSE, rows=CALLS)
    half = replace(COURSE, rows=CALLS // 2)
    print(f"{CALLS} calls each, {COURSE.in_flight} at once, {ROUNDS} rounds, answers after {JUDGES_LATENCY_S} s;")
    print("mean in flight from a tenth of the calls to nine tenths", flush=True)
    bare: list[Flight] = []
    judged: list[Flight] = []
    races: dict[str, list[Race]] = {"no judge": [], JUDGED.name: []}
    for _ in range(ROUNDS):
        for seen, subject, course in ((bare, SUBJECTS[0], whole), (judged, JUDGED, half)):
            found = race([_warm(subject)], _profile(JUDGES_LATENCY_S), course)
            seen.append(Flight.of(found.provider))
            races[JUDGED.name if seen is judged else "no judge"].append(found)
    for name, flights in (("no judge", bare), (JUDGED.name, judged)):
        middle = Figure.of([each.middle for each in flights])
        peak = max(each.peak for each in flights)
        print(f"{name:<22} mean {middle.text(digits=1)}, peak {peak}, {len(races[name])} runs of {races[name][0].done}")
        _print_failed(name, races[name])
    share = Figure.of([one.middle / other.middle for one, other in zip(judged, bare, strict=True)])
    print(f"with judges {share.text('x')} of the mean without; target: as full")
    _print_end(races)


@dataclass(frozen=True, slots=True)
class Flight:
    """Calls that the provider had at once, looked at every 20 ms."""

    peak: int
    mean: float
    """From the first request to the end of the last answer."""
    middle: float
    """From a tenth of the calls to nine tenths."""

    @classmethod
    def of(cls, provider: Provider) -> Flight:
        busy = provider.busy
        begun, ended = busy[0].accepted, busy[-1].accepted
        tenth = (ended - begun) / 10
        middle = [look for look in busy if begun + tenth <= look.accepted <= ended - tenth]
        return cls(
            max(look.in_flight for look in busy),
            _mean([(now.at, now.in_flight) for now in busy]),
            _mean([(now.at, now.in_flight) for now in middle]),
        )


def _mean(looks: Sequence[tuple[float, int]]) -> float:
    """By time."""
    if len(looks) < 2:
        return float(looks[0][1]) if looks else 0.0
    return sum(seen * (then - at) for (at, seen), (then, _) in pairwise(looks)) / (looks[-1][0] - looks[0][0])


def _profile(latency_s: float) -> dict[str, object]:
    return {"headers": "none", "latency_s": latency_s}


def _warm(subject: Subject) -> Subject:
    return replace(subject, setting=f"{subject.setting} {WARM}".strip())


def _installed() -> list[Subject]:
    """The subjects that are there: each does a few examples first, which installs it."""
    found = []
    for subject in SUBJECTS:
        try:
            race([subject], _profile(0.0), replace(COURSE, rows=10))
        except NotInstalled as error:
            print(f"{subject.name}: not installed: {error}")
        else:
            found.append(subject)
    return found


def _print_failed(name: str, races: Sequence[Race]) -> None:
    for found in races:
        for cause, count in found.failed.items():
            print(f"{name}: failed: {count} x {cause}")


def _print_end(races: dict[str, list[Race]]) -> None:
    told = {each for found in races.values() for each in found[0].tallies[0].versions.split(", ")}
    load = statistics.median(found.load for each in races.values() for found in each)
    print(f"{', '.join(sorted(told - {''}))}; load {load:.1f}, now {os.getloadavg()[0]:.1f}", flush=True)


SCENARIOS: dict[str, Callable[[], None]] = {"cost": cost, "flight": flight, "judges": judges}


def main() -> None:
    """All scenarios; `python -m benchmarks eval.NAME` runs one."""
    for name, scenario in SCENARIOS.items():
        print(f"\n### eval.{name}: {scenario.__doc__}", flush=True)
        scenario()
