"""Names for those who hold leases: unique on a host, containers included."""

from __future__ import annotations

import os
from functools import cache
from itertools import count

_numbers = count()


def new_holder() -> str:
    """A name that tells the process and what in it holds."""
    return f"{os.getpid()}-{next(_numbers)}"


def placed(holder: str) -> str:
    """The name with the container in it; reads a link, so not on an event loop."""
    pid, _, number = holder.partition("-")
    return holder if "@" in pid else f"{pid}@{pid_namespace()}-{number}"


@cache
def pid_namespace() -> str:
    """The digits that tell apart containers whose processes have the same numbers; empty where there are none."""
    try:
        found = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return "".join(filter(str.isdigit, found))
