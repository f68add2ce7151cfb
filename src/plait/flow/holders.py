"""Names for those who hold leases: unique on a host, containers included, and among hosts where hosts share."""

from __future__ import annotations

import os
from itertools import count

from plait.hosts import is_dead, process_name

_numbers = count()


def new_holder() -> str:
    """A name that tells the process and what in it holds."""
    return f"{os.getpid()}-{next(_numbers)}"


def placed(holder: str) -> str:
    """The name with the host, the container and the process's start in it; reads files, so not on an event loop."""
    pid, _, number = holder.partition("-")
    return holder if "@" in pid else f"{process_name(int(pid))}-{number}"


def lives(holder: str) -> bool:
    """False if the process of a name by `placed` is known to be dead; reads files, so not on an event loop."""
    return not is_dead(holder)
