"""What 1, 10 and 100 machines carry: the simulation fed with measured costs, after a check against real processes.

CPU of a row is measured here of one process at full load, what the driver takes of two; from these costs alone the
simulation says how many rows one process and two should do, beside what they did. What stores take and how often the
shared budget is asked is read from the kept results.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.batch_subjects import Spent, measure
from benchmarks.capacity import Cluster, Costs, Foreseen, simulate
from benchmarks.endpoint import endpoint
from benchmarks.measure import note
from benchmarks.records import Result, read_results

LATENCY_S = 0.5
ROWS, IN_FLIGHT = 9_000, 500
PROVIDER_S = 1 / 13_000
"""CPU of an answer of the simulator (`python -m benchmarks simulator`)."""
COMMIT_S = 0.005
"""That a journal gathers answers before it makes them durable."""

MACHINE = Cluster(processes=4, cores=4, in_flight=250, latency_s=1.0, sigma=0.5)
MACHINES = (1, 10, 100)
SIMULATED_S = 3.0


@dataclass(frozen=True, slots=True)
class Part:
    """Something that all processes share."""

    name: str
    per_s: float
    """The most it does in a second."""
    source: str


FILE = "SQLite"
BUDGET = Part("budget", 4_500, "a trial of updates of one row on PostgreSQL")
EXCHANGES_PER_S = 4.0
"""Of a process with a shared budget, where that was not measured."""
_SHARED = re.compile(r"^PostgreSQL\s+.*x\s+\d+\s+(\d+)\s+[\d.]+ ms")


def main() -> None:
    """Print the costs, predicted beside measured, what machines carry, and where each part is full."""
    with endpoint(delay_s=LATENCY_S) as base_url:
        one = measure("batch", base_url, ROWS, IN_FLIGHT)
        fewer, two = (measure("batch", base_url, rows, IN_FLIGHT, 2) for rows in (ROWS // 3, ROWS))
    # The start of the workers is in both runs of two, so it is not in their difference.
    row_s = (two.cpu_s - fewer.cpu_s) / (ROWS - ROWS // 3)
    worker_s = one.cpu_s / ROWS
    costs = Costs(worker_s, max(0.0, row_s - worker_s), commit_s=COMMIT_S, provider_s=PROVIDER_S)
    print(
        f"CPU of a row {worker_s * 1000:.2f} ms in its process, {costs.driver_s * 1000:.2f} ms in the driver "
        f"of --workers, {PROVIDER_S * 1000:.2f} ms in the provider"
    )
    _check(costs, {1: one, 2: two})
    results = read_results()
    for part in (stores := _stores(results)):
        print(f"{part.name}: {part.per_s:,.0f} rows/s at most ({part.source})")
    costs = replace(costs, provider_s=0.0, exchange_s=1 / BUDGET.per_s, exchanges_per_s=_exchanges_per_s(results))
    print(f"{BUDGET.name}: {BUDGET.per_s:,.0f} exchanges/s at most ({BUDGET.source}); ", end="")
    print(f"a process makes {costs.exchanges_per_s:.1f} a second")
    _carried(costs, stores)
    print(f"load {os.getloadavg()[0]:.1f}")


def _check(costs: Costs, found: Mapping[int, Spent]) -> None:
    cores = os.cpu_count() or 1
    print(
        f"\n{IN_FLIGHT} rows in flight, answers after {LATENCY_S} s, {cores} cores with the provider on them; ", end=""
    )
    print("steady rows/s")
    for processes, spent in found.items():
        cluster = Cluster(1, processes, cores, IN_FLIGHT // processes, LATENCY_S)
        alone = costs if processes > 1 else replace(costs, driver_s=0.0)
        foreseen = simulate(cluster, alone, seconds=8.0).rows_per_s
        measured = ROWS * 0.8 / spent.middle_s
        name = f"{processes} process{'es' * (processes > 1)}"
        ratio = foreseen / measured
        print(f"{name:<12} predicted {foreseen:>5,.0f}, measured {measured:>5,.0f}: {ratio:.2f}x", flush=True)
        note(name, "predicted by measured", [ratio])


def _stores(results: Mapping[str, Result]) -> list[Part]:
    known = results.get("store")
    if known is None:
        return [Part(FILE, 44_000, "an earlier trial of one table"), Part("PostgreSQL", 26_000, "the same")]
    rates = {name: known.figure(name, "rows/s").median for name in known.subjects("rows/s")}
    found = [Part(FILE, rates.pop(FILE), "`python -m benchmarks store`")]
    if rates:
        best = max(rates, key=lambda name: rates[name])
        found.append(Part("PostgreSQL", rates[best], f"the same, {best}"))
    return found


def _exchanges_per_s(results: Mapping[str, Result]) -> float:
    """Of one process, from the shared budget's table: four processes over PostgreSQL."""
    lines = results["limits.shared"].lines if "limits.shared" in results else ()
    found = [float(match[1]) / 4 for line in lines if (match := _SHARED.match(line))]
    return max(found, default=EXCHANGES_PER_S)


def _carried(costs: Costs, stores: list[Part]) -> None:
    one = MACHINE
    print(
        f"\na machine: {one.cores} cores, {one.processes} processes with {one.in_flight} rows in flight each, answers "
        f"after {one.latency_s:g} s (log-normal, sigma {one.sigma:g}): ideal {one.ideal:,.0f} rows/s"
    )
    head = f"{'machines':>8}  {'store':<22} {'rows/s':>8} {'of ideal':>9} {'cores':>6} {'store':>6} {'budget':>7}"
    print(f"{head}  bound by")
    for store in stores:
        # To PostgreSQL workers write results themselves; the driver only counts.
        driver_s = costs.driver_s if store.name == FILE else 0.0
        shared = replace(costs, driver_s=driver_s, store_s=1 / store.per_s)
        # Nobody writes a file of another machine.
        for machines in (1,) if store.name == FILE else MACHINES:
            cluster = replace(one, machines=machines)
            foreseen = simulate(cluster, shared, seconds=SIMULATED_S)
            _print(cluster, store, foreseen)
    _print_full(costs, stores)


def _print(cluster: Cluster, store: Part, foreseen: Foreseen) -> None:
    busy = "".join(f"{foreseen.busy[part]:>{wide}.0%}" for part, wide in (("cores", 7), ("store", 7), ("budget", 8)))
    rate = f"{foreseen.rows_per_s:>8,.0f} {foreseen.rows_per_s / cluster.ideal:>9.0%}"
    print(f"{cluster.machines:>8}  {store.name:<22} {rate}{busy}  {foreseen.bound}", flush=True)
    name = f"{cluster.machines} machine{'s' * (cluster.machines > 1)}, {store.name}"
    note(name, f"rows/s, bound by: {foreseen.bound}", [foreseen.rows_per_s])


def _print_full(costs: Costs, stores: list[Part]) -> None:
    one = MACHINE.ideal
    print(f"\nfull, at {one:,.0f} rows/s a machine:")
    if costs.driver_s:
        most = 1 / costs.driver_s
        print(f"{'driver of --workers':<30} {most:>8,.0f} rows/s, {most / one:>6.1f} machines")
    for store in stores:
        print(f"{store.name:<30} {store.per_s:>8,.0f} rows/s, {store.per_s / one:>6.1f} machines")
    machines = BUDGET.per_s / costs.exchanges_per_s / MACHINE.processes
    print(f"{BUDGET.name:<30} {BUDGET.per_s:>8,.0f} exchanges/s, {machines:>.1f} machines")
    core = 1 / costs.worker_s
    print(f"{'a process, by its CPU':<30} {core:>8,.0f} rows/s: {core * MACHINE.latency_s:,.0f} in flight at 1 s")
