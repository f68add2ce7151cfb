"""Runs that are waited for: what a server takes for one above the same run in process, beside other servers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from benchmarks.measure import Figure
from benchmarks.peers.environments import NotInstalled
from benchmarks.service_load import Course, clients
from benchmarks.service_processes import cpu_s
from benchmarks.service_provider import streaming_provider
from benchmarks.service_raw import spent
from benchmarks.service_servers import Server, aegra, langgraph_dev, plait_server

RUNS = 400
ROUNDS = 3
IN_FLIGHT = 8
_WARM_UP = 50

Start = Callable[[str], AbstractContextManager[Server]]
SERVERS: dict[str, Start] = {
    "plait serve": plait_server,
    "langgraph dev": langgraph_dev,
    "aegra": aegra,
}


def main(runs: int = RUNS, rounds: int = ROUNDS) -> None:
    """Print CPU a run: in process, and of every server, stateless and on threads; rounds alternate."""
    print(f"one model call answered at once, {IN_FLIGHT} in flight, {runs} runs a round, {rounds} rounds; ", end="")
    print("target: plait serve <= 3 ms above plait.run", flush=True)
    with streaming_provider(tokens=1, gap_s=0.0) as base_url, ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, start in SERVERS.items():
            try:
                servers[name] = stack.enter_context(start(base_url))
            except NotInstalled as error:
                print(f"{name:<36} left out: {error}", flush=True)
        inside: dict[str, list[float]] = {"plait.run": [], "plait.run, stored": []}
        outside: dict[tuple[str, bool], list[_Round]] = {(name, on): [] for name in servers for on in (False, True)}
        for name, on_threads in list(outside):
            try:
                _round(servers[name], _WARM_UP, on_threads)
            except NoSuchRoute:
                del outside[name, on_threads]
                print(f"{_label(name, on_threads):<36} left out: it has no such route", flush=True)
        for _ in range(rounds):
            for name, found in inside.items():
                found.append(spent(name, base_url, runs, in_flight=IN_FLIGHT).cpu_s / runs)
            for (name, on_threads), rounds_found in outside.items():
                rounds_found.append(_round(servers[name], runs, on_threads))
        _print(inside, outside)


class NoSuchRoute(Exception):
    """The server answers 404."""


class _Round:
    """Seconds of CPU a run, of latency (median), and runs a second."""

    def __init__(self, cpu: float, latencies: Sequence[float], rate: float) -> None:
        self.cpu_s = cpu
        self.latency_s = sorted(latencies)[len(latencies) // 2]
        self.rate = rate


def _round(server: Server, runs: int, on_threads: bool) -> _Round:
    course = Course(server.url, server.workflow, runs, in_flight=IN_FLIGHT, on_threads=on_threads)
    with clients("wait", course) as client:
        before = sum(cpu_s(pid) for pid in server.pids)
        seen = client.go()
        cpu = sum(cpu_s(pid) for pid in server.pids) - before
    if seen.failed == runs and seen.words[0].startswith("404"):
        raise NoSuchRoute
    if seen.failed:
        raise RuntimeError(f"{server.url}: {seen.failed} of {runs} runs failed: {seen.words}")
    return _Round(cpu / runs, seen.latencies_s, runs / seen.wall_s)


def _print(inside: dict[str, list[float]], outside: dict[tuple[str, bool], list[_Round]]) -> None:
    print(f"{'':<36} {'CPU a run':<26} {'above plait.run':<27} {'p50':>8} {'runs/s':>7}")
    bare = inside["plait.run"]
    for name, found in inside.items():
        print(f"{name + ', in process':<36} {Figure.of(found).text(' ms', scale=1000):<26}")
    for (name, on_threads), rounds in outside.items():
        cpu = [one.cpu_s for one in rounds]
        above = Figure.of([mine - least for mine, least in zip(cpu, bare, strict=True)])
        latency_s = Figure.of([one.latency_s for one in rounds]).median
        rate = Figure.of([one.rate for one in rounds]).median
        taken = f"{_label(name, on_threads):<36} {Figure.of(cpu).text(' ms', scale=1000):<26}"
        print(f"{taken} {above.text(' ms', scale=1000):<27} {latency_s * 1000:>5.0f} ms {rate:>7.0f}")
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)


def _label(name: str, on_threads: bool) -> str:
    return f"{name}, {'threads/{id}/runs/wait' if on_threads else 'runs/wait'}"


if __name__ == "__main__":
    main()
