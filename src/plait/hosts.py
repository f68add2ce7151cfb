"""Names of processes that are unique across hosts and containers, and whether one of this host is dead."""

from __future__ import annotations

import os
import socket
from functools import cache

__all__ = ["is_dead", "process_name"]


def process_name() -> str:
    """This process: `pid@host.namespace.start`, as other processes on this store or budget see it. Blocks: files."""
    return f"{os.getpid()}@{_host()}.{_started(os.getpid())}"


def is_dead(name: str) -> bool:
    """Whether that process was one of this host (and container) and is no more; False where it cannot be known.

    Blocks: files.
    """
    pid, _, rest = name.partition("@")
    host, _, started = rest.rpartition(".")
    if host != _host() or not pid.isdecimal():
        return False
    # A number is given again: only with the time of its start it is the same process.
    found = _started(int(pid))
    return not found or found != started


@cache
def _host() -> str:
    try:
        # Containers of a host may have its name, and each has a process 7.
        namespace = "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}.{namespace}"


def _started(pid: int) -> str:
    """Its start in ticks (proc(5), field 22 of stat), "-" where there is no /proc; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return ""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except OSError:
            return "-"
        return "-"
    # A zombie has ended: whoever began it has not looked yet.
    return "" if fields[0] == "Z" else fields[19]
