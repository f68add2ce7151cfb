"""One subject of the batch benchmarks in a process of its own: `-m benchmarks.batch_subjects NAME BASE_URL ROWS`.

Nobody pays for another's imports, nor profits from what plait does to a process of its own. Each subject warms up
first; then its CPU and wall seconds for all of them are printed as JSON. Peers run as their
documentation shows them, on asyncio's own loop; plait as its command line runs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.batch_rows import APP, question, write_rows

KEY = "sk-benchmark"
_WARM_UP = 4
"""So many times fewer rows warm up."""
_PATIENCE_S = 600.0

Work = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Spent:
    """What the measured rows cost."""

    cpu_s: float
    """Of the process and of its children that have ended."""
    wall_s: float
    peak_mb: float
    """Resident, the largest of the processes."""
    middle_s: float = 0.0
    """Of a batch: from a tenth of the results to nine tenths, without its start and its end."""


def measure(name: str, base_url: str, rows: int, in_flight: int = 50, workers: int = 1) -> Spent:
    """Run one subject in a process of its own. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "benchmarks.batch_subjects", name, base_url, str(rows), str(in_flight)]
    kept = {each: value for each, value in os.environ.items() if each in {"PATH", "HOME", "LANG", "TMPDIR"}}
    done = subprocess.run(
        [*command, str(workers)],
        capture_output=True,
        text=True,
        cwd=APP.parents[1],
        env={**kept, "LANGSMITH_TRACING": "false"},
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()[-2000:]}")
    return Spent(**json.loads(done.stdout.splitlines()[-1]))


async def spend(work: Work, rows: int) -> Spent:
    """Warm up, then measure."""
    await work(max(1, rows // _WARM_UP))
    cpu, wall = _cpu(), time.monotonic()
    await work(rows)
    cpu, wall = _cpu() - cpu, time.monotonic() - wall
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Spent(cpu, wall, peak / 1024)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def at_once(call: Callable[[int], Awaitable[object]], rows: int, in_flight: int) -> None:
    """Call once a row, `in_flight` at once."""
    waiting: Iterator[int] = iter(range(rows))

    async def work() -> None:
        for row in waiting:
            await call(row)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())


def sdk(base_url: str, in_flight: int) -> Work:
    """AsyncOpenAI, and nothing else imported."""
    import openai

    client = openai.AsyncOpenAI(base_url=base_url, api_key=KEY)

    async def call(row: int) -> None:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": question(row)}])

    return lambda rows: at_once(call, rows, in_flight)


def abatch(base_url: str, in_flight: int) -> Work:
    """LangGraph's batch over the same graph with LangChain's model; no limiter, no journal, no store."""
    from benchmarks.subjects import langchain_model, one_call_graph

    graph = one_call_graph(langchain_model(base_url))

    async def work(rows: int) -> None:
        await graph.abatch([{"question": question(row)} for row in range(rows)], {"max_concurrency": in_flight})

    return work


async def plain_runs(base_url: str, rows: int, in_flight: int) -> Spent:
    """`plait.runs.run` a row, in a process of plait's own: no journal, no store."""
    from benchmarks.subjects import one_call_graph
    from plait import runs
    from plait.models import chat_model
    from plait.process import collect_less, own_process
    from plait.settings import from_env

    with tempfile.TemporaryDirectory() as home:
        settings = from_env(_environment(base_url, home, in_flight))
        with own_process(settings):
            graph = one_call_graph(chat_model("openai:m", settings=settings))
            collect_less()

            async def call(row: int) -> None:
                await runs.run(graph, {"question": question(row)}, settings=settings)

            return await spend(lambda rows: at_once(call, rows, in_flight), rows)


async def batches(base_url: str, rows: int, in_flight: int, name: str, workers: int) -> Spent:
    """`plait.batch` over a JSONL file, as `plait batch` runs it; `batch-ray`: on a Ray cluster of its own."""
    import plait
    from plait.batches import BatchOptions
    from plait.process import own_process
    from plait.settings import from_env

    ray = "local" if name == "batch-ray" else None
    options, ends = BatchOptions(journal=name != "batch-no-journal", workers=workers, ray=ray), list[float]()
    with tempfile.TemporaryDirectory() as home:
        settings = from_env(_environment(base_url, home, in_flight))

        async def work(rows: int) -> None:
            data = write_rows(Path(home) / f"{rows}.jsonl", rows)
            ends.clear()
            async for row in plait.batch("ask", data, app=APP, settings=settings, options=options):
                assert row.status == "success", row.error
                ends.append(time.monotonic())

        with own_process(settings):
            spent = await spend(work, rows)
        return replace(spent, middle_s=ends[rows * 9 // 10] - ends[rows // 10])


def _environment(base_url: str, home: str, in_flight: int) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": KEY,
        "PLAIT_HOME": home,
        "PLAIT_MODEL": "openai:m",
        "PLAIT_MAX_CONCURRENCY": str(in_flight),
    }


def _subject(name: str, base_url: str, rows: int, in_flight: int, workers: int) -> Spent:
    if name in ("sdk", "abatch"):
        make = {"sdk": sdk, "abatch": abatch}[name]
        return asyncio.run(spend(make(base_url, in_flight), rows))
    from plait.process import run_loop

    if name == "sdk-uvloop":
        return run_loop(spend(sdk(base_url, in_flight), rows))
    if name == "run":
        return run_loop(plain_runs(base_url, rows, in_flight))
    assert name in ("batch", "batch-no-journal", "batch-ray"), name
    return run_loop(batches(base_url, rows, in_flight, name, workers))


def main(arguments: Iterable[str]) -> None:
    """NAME BASE_URL ROWS [IN_FLIGHT [WORKERS]]."""
    name, base_url, rows, *rest = arguments
    in_flight, workers = (int(each) for each in [*rest, *("50", "1")[len(rest) :]])
    print(json.dumps(asdict(_subject(name, base_url, int(rows), in_flight, workers))))


if __name__ == "__main__":
    main(sys.argv[1:])
