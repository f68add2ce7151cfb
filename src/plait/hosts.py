"""Names of processes that are unique across hosts and containers, and whether one of this host is dead."""

from __future__ import annotations

import os
import re
import socket
import uuid
from functools import cache
from hashlib import blake2b
from pathlib import Path

__all__ = ["is_dead", "process_name"]

_UNTOLD = "0"
"""The start of a process where it cannot be known."""
# What holds something in a process may have a name of its own behind the process's.
_NAME = re.compile(r"([0-9]{1,9})@([0-9]*\.[0-9a-f]+)\.([0-9]+)(?:[-#].*)?", re.DOTALL)


def process_name(pid: int | None = None) -> str:
    """This process, or the one of this host with that number, as others on this store or budget see it. Blocks: files.

    `pid@namespace.machine.start`: of letters, digits, "@" and "." only, so that "-" or "#" may stand behind it.
    """
    pid = os.getpid() if pid is None else pid
    return f"{pid}@{_place()}.{_started(pid) or _UNTOLD}"


def is_dead(name: str) -> bool:
    """Whether that process, or what it holds (`-` or `#` and more behind it), was of this host and is no more.

    False where it cannot be known: of another host or container, of an older plait, no such name. Blocks: files.
    """
    parts = _NAME.fullmatch(name)
    if parts is None or parts[2] != _place():  # elsewhere its number means nothing
        return False
    found = _started(int(parts[1]))
    if found is None:
        return True
    # A number is given again: only with the time of its start it is the same process.
    return _UNTOLD not in {found, parts[3]} and found != parts[3]


@cache
def _place() -> str:
    return f"{_pid_namespace()}.{_machine()}"


def _pid_namespace() -> str:
    """The digits that tell apart containers of a host: each has a process 7. The hosts' own have the same digits."""
    try:
        return "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))
    except OSError:
        return ""


def _machine() -> str:
    """Digits of this boot of this machine.

    The host's name or /etc/machine-id would not do: containers, images and cloned machines have them in common. Nor
    would the boot alone: machines that were resumed from one snapshot share it. Too fine is safe, too coarse is not.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        boot = str(uuid.getnode())
    return blake2b(f"{boot} {socket.gethostname()}".encode(), digest_size=6).hexdigest()


def _started(pid: int) -> str | None:
    """Its start in ticks (proc(5), field 22 of stat), _UNTOLD where that cannot be known; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        # No /proc, or one that hides the processes of others (hidepid).
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except (OSError, OverflowError):
            return _UNTOLD
        return _UNTOLD
    # A zombie has ended: whoever began it has not looked yet.
    return None if fields[0] == "Z" else fields[19]
