"""One sitting of a batch in a process of its own, which a test may kill: `python -m tests.reliability.sittings JSON`.

Prints one JSON line when it ends by itself: how, what it left behind, and its memory over time.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

APP = Path(__file__).parent
PATIENCE_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """What the process is to do."""

    workflow: str = "fan"
    rows: str = ""
    """A file: a new batch."""
    batch: str | None = None
    """An id: a resume; empty: of the newest."""
    app: str = str(APP)
    force: bool = False
    errors_only: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    file_bytes: int | None = None
    """No file may grow beyond this (RLIMIT_FSIZE): a full disk, without one."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How it went."""

    end: str
    """`finished`, or the error's name."""
    message: str
    cause: str
    rows: int
    """Results that were handed out."""
    rss_mb: list[float]
    tasks: list[str]
    threads: list[str]
    sockets: int
    permits_taken: int
    permits_wanted: int


def start(sitting: Sitting, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Begin it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.reliability.sittings", json.dumps(asdict(sitting))],
        cwd=APP.parents[1],
        env={name: value for name, value in os.environ.items() if not _is_setting(name)} | dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _is_setting(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(("OPENAI_", "ANTHROPIC_", "PLAIT_", "LANG")) or upper.endswith("_PROXY")


def finish(process: subprocess.Popen[str]) -> Ending:
    """Wait for its end."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out.strip(), f"the sitting ended with {process.returncode} and said nothing: {err[-4000:]}"
    return Ending(**json.loads(out.splitlines()[-1]))


def sit(sitting: Sitting, env: Mapping[str, str]) -> Ending:
    """The whole of it."""
    return finish(start(sitting, env))


async def _run(sitting: Sitting) -> Ending:
    import plait
    from plait.batches import Batch, BatchOptions
    from plait.errors import PlaitError
    from plait.flow.registry import gate_for
    from plait.process import own_process
    from plait.settings import from_env

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _say_where)
    settings = from_env()
    with own_process(settings) if sitting.workflow == "own" else nullcontext():
        options = BatchOptions(**sitting.options) if sitting.options else None
        batch: Batch
        if sitting.batch is None:
            batch = plait.batch(sitting.workflow, sitting.rows, app=sitting.app, options=options)
        else:
            batch = plait.resume(
                sitting.batch or None, options=options, errors_only=sitting.errors_only, force=sitting.force
            )
        memory: list[float] = []
        watch = asyncio.create_task(_watch_memory(memory))
        end, message, cause, rows = "finished", "", "", 0
        try:
            async for _ in batch:
                rows += 1
        except PlaitError as error:
            end, message, cause = type(error).__name__, str(error), type(error.__cause__).__name__
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        bound = gate_for(settings).process
    return Ending(
        end=end,
        message=message,
        cause=cause,
        rows=rows,
        rss_mb=memory,
        tasks=sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()),
        threads=sorted(thread.name for thread in threading.enumerate()),
        sockets=_sockets(),
        permits_taken=bound.in_flight if bound else 0,
        permits_wanted=bound.waiting if bound else 0,
    )


def _say_where() -> None:
    """What everything waits for: a batch that hangs is asked before it is killed."""
    faulthandler.dump_traceback()
    for task in asyncio.all_tasks():
        task.print_stack()


async def _watch_memory(memory: list[float]) -> None:
    page_mb = os.sysconf("SC_PAGE_SIZE") / 1e6
    while True:
        memory.append(_resident_pages() * page_mb)
        await asyncio.sleep(0.1)


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


def _sockets() -> int:
    return sum(entry.is_socket() for entry in Path("/proc/self/fd").iterdir())


def main() -> None:
    """Do what the argument says."""
    sitting = Sitting(**json.loads(sys.argv[1]))
    if sitting.file_bytes is not None:
        # Without this the kernel would end the process instead of failing the write.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (sitting.file_bytes, resource.RLIM_INFINITY))
    sys.stdout.write(json.dumps(asdict(asyncio.run(_run(sitting)))) + "\n")


if __name__ == "__main__":
    main()
