"""What the service is measured against, each in a process of its own: a bare ChatOpenAI's streams, runs in process.

`python -m benchmarks.service_raw NAME BASE_URL COUNT ...` prints its CPU and wall seconds as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.service_load import QUESTION
from benchmarks.service_processes import rss_kb
from benchmarks.service_servers import APP, KEY

_PATIENCE_S = 300.0
_WARM_UP = 10
_FIRST = re.compile(r"at=(\d+),(\d+);")


@dataclass(frozen=True, slots=True)
class Spent:
    """What it took, warmed up."""

    cpu_s: float
    wall_s: float
    added_s: list[float] = field(default_factory=list)
    """Of streams: what was added to the provider's time to the first token."""
    grown_kb: int = 0
    """Of streams: the most resident kB above those before."""


def spent(name: str, base_url: str, count: int, *, over_s: float = 0.0, in_flight: int = 8) -> Spent:
    """Run one subject in a process of its own. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "benchmarks.service_raw", name, base_url, str(count), str(over_s), str(in_flight)]
    kept = {each: value for each, value in os.environ.items() if each in {"PATH", "HOME", "LANG", "TMPDIR"}}
    environment = {**kept, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, "LANGSMITH_TRACING": "false"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=APP.parents[1],
        env=environment,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()[-2000:]}")
    return Spent(**json.loads(done.stdout.splitlines()[-1]))


async def streams(base_url: str, count: int, over_s: float) -> Spent:
    """ChatOpenAI.astream, so many at once, and nothing else."""
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    model = ChatOpenAI(model="m", base_url=base_url, api_key=SecretStr(KEY))
    added: list[float] = []

    async def one(wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        began_ns, first = time.monotonic_ns(), True
        async for chunk in model.astream(QUESTION):
            if first and (found := _FIRST.search(chunk.text)):
                first = False
                provider_ns = int(found[2]) - int(found[1])
                added.append((time.monotonic_ns() - began_ns - provider_ns) / 1e9)

    await asyncio.gather(*(one(0) for _ in range(_WARM_UP)))
    added.clear()
    gc.collect()
    memory, cpu, wall = rss_kb(os.getpid()), time.process_time(), time.monotonic()
    await asyncio.gather(*(one(over_s * position / count) for position in range(count)))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return Spent(cpu, wall, added, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)


async def at_once(call: Callable[[int], Awaitable[object]], count: int, in_flight: int) -> Spent:
    """Call so often, `in_flight` at once."""

    async def work(rows: range) -> None:
        waiting = iter(rows)

        async def worker() -> None:
            for row in waiting:
                await call(row)

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker())

    await work(range(max(_WARM_UP, count // 4)))
    cpu, wall = time.process_time(), time.monotonic()
    await work(range(count))
    return Spent(time.process_time() - cpu, time.monotonic() - wall)


async def runs_in_process(base_url: str, count: int, in_flight: int, *, stored: bool) -> Spent:
    """`plait.run` of the served graph in a process of plait's own; `stored`: with plait's checkpointer."""
    from langchain_core.runnables import RunnableConfig

    from plait import load, run
    from plait.process import collect_less, own_process
    from plait.settings import from_env
    from plait.store.savers import Saver

    with tempfile.TemporaryDirectory() as home:
        settings = from_env(
            {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY, "PLAIT_HOME": home, "PLAIT_MODEL": "openai:m"}
        )
        with own_process(settings):
            graph = load("ask", app=APP)
            async with Saver.open(Path(home) / "checkpoints.db") as saver:
                if stored:
                    graph = graph.copy({"checkpointer": saver})
                collect_less()

                async def call(row: int) -> None:
                    thread: RunnableConfig = {"configurable": {"thread_id": f"thread {row} {time.monotonic_ns()}"}}
                    await run(graph, {"question": QUESTION}, settings=settings, config=thread if stored else None)

                return await at_once(call, count, in_flight)


def main(arguments: list[str]) -> Spent:
    """NAME BASE_URL COUNT OVER_S IN_FLIGHT."""
    name, base_url, count, over_s, in_flight = arguments
    if name == "ChatOpenAI":
        return asyncio.run(streams(base_url, int(count), float(over_s)))
    from plait.process import run_loop

    if name == "ChatOpenAI on uvloop":
        return run_loop(streams(base_url, int(count), float(over_s)))
    stored = {"plait.run": False, "plait.run, stored": True}[name]
    return run_loop(runs_in_process(base_url, int(count), int(in_flight), stored=stored))


if __name__ == "__main__":
    print(json.dumps(asdict(main(sys.argv[1:]))))
