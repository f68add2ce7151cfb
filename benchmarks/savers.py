"""What a checkpointer adds to a run of three nodes that do nothing: ours, in memory, and LangGraph's for SQLite.

All take turns in one process of an environment that has the peer; where it cannot be installed, it is left out.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from benchmarks.measure import Figure, interleave, ratios
from benchmarks.peers.environments import NotInstalled, python_with

RUNS = 100
ROUNDS = 9
AT_ONCE = (1, 50)
NONE, OURS, PEER = "no checkpointer", "plait", "AsyncSqliteSaver"
REQUIREMENTS = ["langgraph>=1.2,<2", "langgraph-checkpoint-sqlite>=3,<4"]

Graph = Any  # CompiledStateGraph with four parameters that say nothing here


class State(TypedDict, total=False):
    a: str
    b: str
    c: str


def main() -> None:
    """Run `_compare` where the peer is; without it, here."""
    root = Path(__file__).resolve().parents[1]
    try:
        python = python_with(REQUIREMENTS)
    except NotInstalled as error:
        print(f"{PEER} left out: {error}")
        python = Path(sys.executable)
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}", "LANGSMITH_TRACING": "false"}
    subprocess.run([str(python), "-m", "benchmarks.savers"], cwd=root, env=environment, check=True)


def _compare() -> None:
    print(
        f"3 nodes, a new thread a run, durability async; {RUNS} runs a round, {ROUNDS} rounds; in brackets the middle"
    )
    print(
        f"half of the rounds; target: {OURS} <= 1.5 ms CPU a run over {NONE}; langgraph {version('langgraph')}", end=""
    )
    print(f", langgraph-checkpoint-sqlite {version('langgraph-checkpoint-sqlite')}" if _has_peer() else "")
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        stack = AsyncExitStack()
        graphs = runner.run(_graphs(stack, Path(folder)))
        try:
            for at_once in AT_ONCE:
                _table(runner, graphs, at_once)
        finally:
            runner.run(stack.aclose())


def _table(runner: asyncio.Runner, graphs: dict[str, Graph], at_once: int) -> None:
    walls: dict[str, list[float]] = {name: [] for name in graphs}
    numbers = itertools.count()

    def measured(name: str) -> Callable[[], float]:
        def turn() -> float:
            wall_s, cpu_s = runner.run(_turn(graphs[name], at_once, f"{at_once}-{name}-{next(numbers)}"))
            walls[name].append(wall_s)
            return cpu_s

        return turn

    for name, graph in graphs.items():
        runner.run(_turn(graph, at_once, f"{at_once}-{name}-first"))
    cpu = interleave({name: measured(name) for name in graphs}, rounds=ROUNDS)
    print(
        f"\n{at_once} at once: {'CPU a run':>22} {'over none':>28} {'wall over none':>26}   of the peer's CPU over none"
    )
    added = {name: _over(values, cpu[NONE]) for name, values in cpu.items()}
    for name, values in cpu.items():
        figures = [Figure.of(values), Figure.of(added[name]), Figure.of(_over(walls[name], walls[NONE]))]
        shown = "  ".join(f"{figure.text(' ms', scale=1000):<24}" for figure in figures)
        share = ratios(added[name], added[PEER]).text("x") if PEER in cpu and name != NONE else ""
        print(f"{name:<17} {shown}  {share}", flush=True)


def _over(values: list[float], none: list[float]) -> list[float]:
    return [value - least for value, least in zip(values, none, strict=True)]


async def _graphs(stack: AsyncExitStack, folder: Path) -> dict[str, Graph]:
    from langgraph.checkpoint.memory import InMemorySaver

    from plait.store.savers import Saver

    savers: dict[str, Any] = {NONE: None, "InMemorySaver": InMemorySaver()}
    savers[OURS] = await stack.enter_async_context(Saver.open(folder / "plait.db"))
    if _has_peer():
        peer = importlib.import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        savers[PEER] = await stack.enter_async_context(peer.from_conn_string(str(folder / "peer.db")))
    return {name: _graph(saver) for name, saver in savers.items()}


def _graph(saver: Any) -> Graph:
    from langgraph.graph import START, StateGraph

    async def first(state: State) -> State:
        return {"a": "x" * 50}

    async def second(state: State) -> State:
        return {"b": "y" * 50}

    async def third(state: State) -> State:
        return {"c": "z" * 50}

    builder = StateGraph(State)
    for name, node in {"first": first, "second": second, "third": third}.items():
        builder.add_node(name, node)
    for one, other in itertools.pairwise([START, "first", "second", "third"]):
        builder.add_edge(one, other)
    return builder.compile(checkpointer=saver)


async def _turn(graph: Graph, at_once: int, prefix: str) -> tuple[float, float]:
    """Seconds a run, of the clock and of this process's CPU."""
    numbers = iter(range(RUNS))

    async def work() -> None:
        for number in numbers:
            await graph.ainvoke({"a": "question"}, {"configurable": {"thread_id": f"{prefix}-{number}"}})

    started, cpu_started = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return (time.perf_counter() - started) / RUNS, (time.process_time() - cpu_started) / RUNS


def _has_peer() -> bool:
    return find_spec("langgraph.checkpoint.sqlite") is not None


if __name__ == "__main__":
    _compare()
