"""A simulation of machines, processes, store, driver and budget: what they carry together, and what gives out first.

A closed network of queues: every process keeps so many rows in flight; a row takes CPU time of its process before and
after its call, waits for the provider, is stored, and is reported to the driver, whereupon the next begins. Store and
budget serve one at a time; a process has one thread at work, a machine so many cores. Pure, and seeded.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

_BUSY = 0.9
"""A part that is at work for this share of the time is what holds the others up."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a row takes of each part, in seconds."""

    worker_s: float
    """CPU of its process, half before the call and half after."""
    driver_s: float = 0.0
    """Of the process that hands out rows and hears of results."""
    store_s: float = 0.0
    """Of the store: the inverse of the most rows a second it takes."""
    commit_s: float = 0.0
    """That it waits besides until what was stored is durable."""
    exchange_s: float = 0.0
    """Of the budget, for one exchange of a process with it."""
    exchanges_per_s: float = 0.0
    """Of each process; 0: no shared budget."""
    provider_s: float = 0.0
    """CPU of a provider on the first machine, as in a measurement on one machine; 0: it is elsewhere."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What runs the rows."""

    machines: int = 1
    processes: int = 1
    """On each machine."""
    cores: int = 1
    """Of each machine."""
    in_flight: int = 100
    """Rows of each process."""
    latency_s: float = 1.0
    """Mean, of the provider."""
    sigma: float = 0.0
    """Of a log-normal latency; 0: always the mean."""

    @property
    def ideal(self) -> float:
        """Rows a second if nothing but the provider took time."""
        return self.machines * self.processes * self.in_flight / self.latency_s


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What came of it."""

    rows_per_s: float
    busy: Mapping[str, float]
    """Share of the time that each part is at work: "workers", "cores", "driver", "store", "budget"."""

    @property
    def bound(self) -> str:
        """The part that holds the others up; "latency" where none does: only more rows in flight would help."""
        name = max(self.busy, key=lambda each: self.busy[each])
        return name if self.busy[name] >= _BUSY else "latency"


def simulate(cluster: Cluster, costs: Costs, *, seconds: float = 5.0, seed: int = 0) -> Foreseen:
    """Rows a second over so many seconds (of the simulation), after three latencies of running in."""
    return _Simulation(cluster, costs, seconds, seed).run()


_BEGIN, _SENT, _ASK, _ANSWERED, _STORE, _REPORT, _DONE, _EXCHANGE = range(8)

_Work = tuple[float, int, int]
"""Seconds of CPU, and with what it goes on then: a step, and the process whose row it is."""


@dataclass(slots=True)
class _Machine:
    free: int
    """Cores."""
    ready: deque[_Process] = field(default_factory=deque)
    """Those that have work and no core."""


@dataclass(slots=True, eq=False)
class _Process:
    """Computes one thing at a time, in the order in which they come, when it has a core."""

    machine: _Machine
    waiting: deque[_Work] = field(default_factory=deque)
    running: bool = False
    """Or ready."""
    worked_s: float = 0.0
    """Within the time that is measured."""
    grant_at: float = 0.0
    """No row begins before: the budget has not answered yet."""


@dataclass(slots=True)
class _Server:
    """Store or budget: one thing at a time, on a machine of its own."""

    free_at: float = 0.0
    worked_s: float = 0.0


class _Simulation:
    def __init__(self, cluster: Cluster, costs: Costs, seconds: float, seed: int) -> None:
        self._cluster, self._costs = cluster, costs
        self._begin = 3 * cluster.latency_s * math.exp(cluster.sigma**2)
        self._end = self._begin + seconds
        self._random = Random(seed)
        self._mu = math.log(cluster.latency_s) - cluster.sigma**2 / 2
        machines = [_Machine(cluster.cores) for _ in range(cluster.machines)]
        self._workers = [_Process(machine) for machine in machines for _ in range(cluster.processes)]
        self._driver, self._provider = _Process(machines[0]), _Process(machines[0])
        self._store, self._budget = _Server(), _Server()
        self._events: list[tuple[float, int, int, int]] = []
        self._slices: dict[int, tuple[_Process, _Work]] = {}
        self._number = 0
        self._done = 0
        self._steps = {
            _BEGIN: self._begins,
            _SENT: self._is_sent,
            _ASK: self._is_asked,
            _ANSWERED: self._is_answered,
            _STORE: self._is_stored,
            _REPORT: self._is_reported,
            _DONE: self._is_done,
            _EXCHANGE: self._exchanges,
        }

    def run(self) -> Foreseen:
        for index in range(len(self._workers)):
            if self._costs.exchanges_per_s:
                self._at(self._random.random() / self._costs.exchanges_per_s, _EXCHANGE, index)
            for _ in range(self._cluster.in_flight):
                self._at(self._random.random() * self._cluster.latency_s, _BEGIN, index)
        while self._events:
            now, number, step, index = heapq.heappop(self._events)
            if now >= self._end:
                break
            if number in self._slices:
                self._leave_core(now, *self._slices.pop(number))
            self._steps[step](now, index)
        return self._foreseen()

    def _at(self, time: float, step: int, index: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, step, index))

    # --- the way of a row ------------------------------------------------------------------------------

    def _begins(self, now: float, index: int) -> None:
        worker = self._workers[index]
        if now < worker.grant_at:
            self._at(worker.grant_at, _BEGIN, index)
        else:
            self._compute(worker, now, (self._costs.worker_s / 2, _SENT, index))

    def _is_sent(self, now: float, index: int) -> None:
        self._compute(self._provider, now, (self._costs.provider_s, _ASK, index))

    def _is_asked(self, now: float, index: int) -> None:
        self._at(now + self._latency(), _ANSWERED, index)

    def _is_answered(self, now: float, index: int) -> None:
        self._compute(self._workers[index], now, (self._costs.worker_s / 2, _STORE, index))

    def _is_stored(self, now: float, index: int) -> None:
        self._at(self._serve(self._store, now, self._costs.store_s) + self._costs.commit_s, _REPORT, index)

    def _is_reported(self, now: float, index: int) -> None:
        self._compute(self._driver, now, (self._costs.driver_s, _DONE, index))

    def _is_done(self, now: float, index: int) -> None:
        self._done += now >= self._begin
        self._begins(now, index)

    def _exchanges(self, now: float, index: int) -> None:
        answered = self._serve(self._budget, now, self._costs.exchange_s)
        due = now + 1 / self._costs.exchanges_per_s
        if answered > due:
            self._workers[index].grant_at = answered
        self._at(max(due, answered), _EXCHANGE, index)

    # --- what takes time -------------------------------------------------------------------------------

    def _latency(self) -> float:
        if not self._cluster.sigma:
            return self._cluster.latency_s
        return self._random.lognormvariate(self._mu, self._cluster.sigma)

    def _compute(self, process: _Process, now: float, work: _Work) -> None:
        if not work[0]:
            self._steps[work[1]](now, work[2])
            return
        process.waiting.append(work)
        if not process.running:
            process.running = True
            process.machine.ready.append(process)
            self._fill_cores(process.machine, now)

    def _fill_cores(self, machine: _Machine, now: float) -> None:
        while machine.free and machine.ready:
            machine.free -= 1
            process = machine.ready.popleft()
            work = process.waiting.popleft()
            self._at(now + work[0], work[1], work[2])
            self._slices[self._number] = (process, work)

    def _leave_core(self, now: float, process: _Process, work: _Work) -> None:
        process.worked_s += self._within(now - work[0], now)
        process.machine.free += 1
        process.running = bool(process.waiting)
        if process.running:
            process.machine.ready.append(process)
        self._fill_cores(process.machine, now)

    def _serve(self, server: _Server, now: float, work_s: float) -> float:
        begins = max(now, server.free_at)
        server.free_at = ends = begins + work_s
        server.worked_s += self._within(begins, ends)
        return ends

    def _within(self, begins: float, ends: float) -> float:
        return max(0.0, min(ends, self._end) - max(begins, self._begin))

    def _foreseen(self) -> Foreseen:
        seconds = self._end - self._begin
        workers_s = sum(each.worked_s for each in self._workers)
        first_s = sum(each.worked_s for each in self._workers[: self._cluster.processes])
        worked_s = {
            "workers": workers_s / len(self._workers),
            "cores": (first_s + self._driver.worked_s + self._provider.worked_s) / self._cluster.cores,
            "driver": self._driver.worked_s,
            "store": self._store.worked_s,
            "budget": self._budget.worked_s,
        }
        return Foreseen(self._done / seconds, {name: worked / seconds for name, worked in worked_s.items()})
