"""Names for those who hold leases: unique on a host, containers included, and among hosts where hosts share."""

from __future__ import annotations

import os
import socket
import uuid
from functools import cache
from hashlib import blake2b
from itertools import count
from pathlib import Path

_numbers = count()


def new_holder() -> str:
    """A name that tells the process and what in it holds."""
    return f"{os.getpid()}-{next(_numbers)}"


def placed(holder: str) -> str:
    """The name with the container in it; reads a link, so not on an event loop."""
    pid, _, number = holder.partition("-")
    return holder if "@" in pid else f"{pid}@{pid_namespace()}-{number}"


def placed_among_hosts(holder: str) -> str:
    """The name with the container and the machine in it; reads files, so not on an event loop."""
    pid, _, number = holder.partition("-")
    return holder if "@" in pid else f"{pid}@{_place()}-{number}"


def lives(holder: str) -> bool:
    """False if the process of a name by `placed` or `placed_among_hosts` is known to be dead."""
    pid, _, place = holder.partition("-")[0].partition("@")
    if place not in {_place(), pid_namespace()}:  # in another container or on another host its number means nothing
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return True


@cache
def pid_namespace() -> str:
    """The digits that tell apart containers whose processes have the same numbers; empty where there are none."""
    try:
        found = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return "".join(filter(str.isdigit, found))


@cache
def _place() -> str:
    return f"{pid_namespace()}.{_machine()}"


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
