"""Populations of rows to forecast, and a batch over them played through an endpoint's limits call by call."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from plait.flow.usage import Tokens
from plait.forecasts import Concurrency, ModelUse, Part, ProbeRow, Rate, Sure


class Call(NamedTuple):
    input: int
    output: int
    latency_s: float


Row = list[Call]

SIZES: dict[str, Callable[[Random], float]] = {
    "constant": lambda _: 1000.0,
    "uniform": lambda random: random.uniform(200, 1800),
    "normal": lambda random: max(20.0, random.gauss(1000, 300)),
    "log-normal 0.5": lambda random: random.lognormvariate(6.9, 0.5),
    "log-normal 1": lambda random: random.lognormvariate(6.9, 1.0),
    "log-normal 1.5": lambda random: random.lognormvariate(6.9, 1.5),
    "1 in 4 tenfold": lambda random: random.gauss(1000, 100) * (10 if random.random() < 0.25 else 1),
    "1 in 10 tenfold": lambda random: random.gauss(1000, 100) * (10 if random.random() < 0.1 else 1),
    "1 in 10 a tenth": lambda random: random.gauss(1000, 100) * (0.1 if random.random() < 0.1 else 1),
    "Pareto 2.2": lambda random: 500 * random.paretovariate(2.2),
    "agent loops": lambda _: 1000.0,
}


def draw_row(name: str, random: Random) -> Row:
    """A row whose prompts follow the named law; answers and latencies have their own chance on top."""
    size = SIZES[name](random)
    calls = 1 + int(math.log(1 - random.random()) / math.log(0.6)) if name == "agent loops" else 1
    return [_draw_call(size, turn, random) for turn in range(calls)]


def _draw_call(size: float, turn: int, random: Random) -> Call:
    answer = max(1, round(size * 0.2 * random.lognormvariate(0.0, 0.3)))
    # A loop's prompt grows by what was said before.
    return Call(round(size * (1 + 0.3 * turn)), answer, (0.3 + answer * 0.01) * random.lognormvariate(0.0, 0.2))


def probe_row(row: Row) -> ProbeRow:
    """What a probe reports of a row."""
    seconds = sum(call.latency_s for call in row)
    tokens = Tokens(sum(call.input for call in row), 0, sum(call.output for call in row))
    return ProbeRow({"m": ModelUse(len(row), tokens, seconds)}, seconds)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What really holds, and what a forecast is told of it."""

    slots: int
    rpm: float
    tpm: float
    slower: float
    known: Part


def draw_endpoint(kind: str, random: Random) -> Endpoint:
    """Limits of a kind: slots, rpm or tpm is what binds; `measured` ones are known only about."""
    measured = kind.startswith("measured")
    rpm, tpm, slots = 1e9, 1e12, 100_000
    if kind.endswith("rpm"):
        rpm = random.choice([60.0, 500.0, 5000.0])
    elif kind.endswith("tpm"):
        tpm = random.choice([50_000.0, 200_000.0, 2_000_000.0])
    else:
        slots = random.choice([4, 16, 64, 256])
    off = math.exp(random.gauss(0.0, 0.12)) if measured else 1.0
    sure: Sure = "measured" if measured else "told"
    known = Part(
        "endpoint",
        requests_per_min=Rate(rpm * off, sure, burst=rpm / 60) if rpm < 1e9 else None,
        tokens_per_min=Rate(tpm * off, sure, burst=tpm / 60) if tpm < 1e12 else None,
        max_concurrency=Concurrency(slots) if slots < 100_000 else None,
    )
    # The law keeps a few percent below what it was told.
    pace = random.uniform(0.95, 1.0)
    return Endpoint(slots, rpm * pace, tpm * pace, math.exp(random.gauss(0.0, 0.08)), known)


def play(rows: Iterable[Row], endpoint: Endpoint) -> float:
    """Seconds until the last row ends: calls in a row one after another, rows begun go first."""
    waiting = iter(rows)
    slots = [0.0] * min(endpoint.slots, 5000)
    begun: list[tuple[float, int, deque[Call]]] = []
    requests = tokens = finished = 0.0
    number = 0
    while True:
        free = heapq.heappop(slots)
        now = max(free, requests - 1.0, tokens - 1.0)
        if begun and begun[0][0] <= now:
            ready, this, left = heapq.heappop(begun)
        elif (row := next(waiting, None)) is not None:
            ready, this, left = 0.0, number, deque(row)
            number += 1
        elif begun:
            ready, this, left = heapq.heappop(begun)
        else:
            return finished
        call = left.popleft()
        # Buckets of a second's burst, by the generic cell rate algorithm.
        start = max(free, ready, requests - 1.0, tokens - 1.0)
        requests = max(requests, start) + 60 / endpoint.rpm
        tokens = max(tokens, start) + 60 * (call.input + call.output) / endpoint.tpm
        end = start + call.latency_s * endpoint.slower
        heapq.heappush(slots, end)
        if left:
            heapq.heappush(begun, (end, this, left))
        finished = max(finished, end)
