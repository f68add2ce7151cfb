"""A batch of a million rows that make no call: the first result, memory all along, resuming it, exporting it.

`python -m benchmarks batch.million` runs 50,000 rows and says what a million would take;
`python -m benchmarks.batch_million --rows 1000000` runs them all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.batch_rows import APP, write_rows

ROWS = 50_000
MILLION = 1_000_000
_LOOK_S = 0.5
_FEW = 10
"""Rows that take no time: what is left is a command's start."""
_PLAIT = (sys.executable, "-m", "plait.cli")
_CHILD = (sys.executable, "-m", "benchmarks.batch_million", "--child")
_TARGETS = "targets: first result < 0.5 s after the graph is loaded, memory < 200 MB, resume of a finished one < 10 s"


@dataclass(frozen=True, slots=True)
class Watched:
    """A process from its start to its end."""

    wall_s: float
    memory_mb: list[float]
    """Resident, every half second."""
    out: list[str]

    @property
    def peak_mb(self) -> float:
        return max(self.memory_mb)


def main(rows: int = ROWS) -> None:
    """Print seconds, megabytes, and what they come to for a million rows where fewer ran."""
    print(f"{rows:,} rows, load {os.getloadavg()[0]:.1f}; {_TARGETS}")
    with tempfile.TemporaryDirectory() as folder:
        home, small = Path(folder) / "home", Path(folder) / "small"
        data = write_rows(Path(folder) / "rows.jsonl", rows)
        batch = _watched([*_CHILD, str(data)], home)
        said = json.loads(batch.out[-1])
        assert said["rows"] == rows, said
        took_s = said["all_s"]
        print(f"first result       {said['first_s'] * 1000:8.0f} ms after the graph is loaded")
        print(f"all results        {took_s:8.1f} s, {rows / took_s:,.0f} rows/s{_scaled(took_s, rows)}")
        print(f"memory, batch      {batch.peak_mb:8.0f} MB at most; by tenths of the time: {_tenths(batch.memory_mb)}")
        size_mb = sum(file.stat().st_size for file in home.rglob("*") if file.is_file()) / 1e6
        print(f"on disk            {size_mb:8.0f} MB{_scaled(size_mb, rows, 'MB')}")
        _watched([*_CHILD, str(write_rows(Path(folder) / "few.jsonl", _FEW))], small)
        starts_s = {
            "resume": _watched([*_PLAIT, "resume", "count"], small).wall_s,
            "export": _watched([*_PLAIT, "export", "count", str(Path(folder) / "few.csv")], small).wall_s,
        }
        for name, start_s in starts_s.items():
            print(f"{name}, {_FEW} rows   {start_s:8.1f} s, which is in what follows")
        for name, command in (
            ("resume, finished", ["resume", said["id"]]),
            ("export, .jsonl", ["export", said["id"], str(Path(folder) / "exported.jsonl")]),
            ("export, .csv", ["export", said["id"], str(Path(folder) / "exported.csv")]),
            ("export, .parquet", ["export", said["id"], str(Path(folder) / "exported.parquet")]),
        ):
            found = _watched([*_PLAIT, *command], home)
            note = _scaled(found.wall_s, rows, start=starts_s[command[0]])
            print(f"{name:<18} {found.wall_s:8.1f} s, {found.peak_mb:.0f} MB at most{note}")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def _scaled(value: float, rows: int, unit: str = "s", *, start: float = 0.0) -> str:
    if rows == MILLION:
        return ""
    million = start + max(0.0, value - start) * MILLION / rows
    return f"; a million, if in proportion: {million:,.0f} {unit}"


def _tenths(memory_mb: list[float]) -> str:
    last = len(memory_mb) - 1
    return " ".join(f"{memory_mb[last * part // 10]:.0f}" for part in range(1, 11))


def _watched(command: list[str], home: Path) -> Watched:
    kept = {each: value for each, value in os.environ.items() if each in {"PATH", "HOME", "LANG", "TMPDIR"}}
    environment = {**kept, "PLAIT_HOME": str(home), "LANGSMITH_TRACING": "false"}
    began, memory_mb = time.monotonic(), [0.0]
    over = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=APP.parents[1], env=environment
    ) as process:
        watcher = threading.Thread(target=_watch, args=(process.pid, over, memory_mb), daemon=True)
        watcher.start()
        out, errors = process.communicate()
        took_s = time.monotonic() - began
        over.set()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[-1000:]}")
    return Watched(took_s, memory_mb, out.splitlines())


def _watch(process: int, over: threading.Event, memory_mb: list[float]) -> None:
    page_mb = os.sysconf("SC_PAGE_SIZE") / 1e6
    while not over.wait(_LOOK_S):
        try:
            resident = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        except OSError:
            return
        if resident:  # a process that has ended has none
            memory_mb.append(resident * page_mb)


async def _child(data: Path) -> None:
    """The batch, as `plait batch count DATA` runs it, from when its graph is loaded."""
    import plait
    from plait.app import find_app, open_workflow
    from plait.process import own_process
    from plait.settings import from_env

    settings, app = from_env(), find_app(APP)
    async with open_workflow(app, "count"):
        pass
    with own_process(settings):
        began, first_s, rows = time.monotonic(), None, 0
        batch = plait.batch("count", data, app=app, settings=settings)
        async for _ in batch:
            first_s = first_s if first_s is not None else time.monotonic() - began
            rows += 1
        said = {"id": batch.id, "rows": rows, "first_s": first_s, "all_s": time.monotonic() - began}
    print(json.dumps(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        from plait.process import run_loop

        run_loop(_child(given.child))
    else:
        main(given.rows)
