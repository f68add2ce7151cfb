"""What a process and its children have taken of the machine, read from /proc."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_S = 0.1


def cpu_s(pid: int) -> float:
    """CPU seconds so far, of the process and all below it that live."""
    found = 0.0
    for each in _tree(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def rss_kb(pid: int) -> int:
    """Resident kB now, of the process and all below it."""
    found = 0
    for each in _tree(pid):
        for line in Path(f"/proc/{each}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                found += int(line.split()[1])
    return found


@dataclass(slots=True)
class Peak:
    """The most that was seen."""

    rss_kb: int = 0


@contextmanager
def watched(pid: int) -> Iterator[Peak]:
    """Look at a process's memory every tenth of a second while the block lasts."""
    peak, stop = Peak(), threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_S):
            peak.rss_kb = max(peak.rss_kb, rss_kb(pid))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _tree(pid: int) -> list[int]:
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            found += _tree(int(child))
    return found
