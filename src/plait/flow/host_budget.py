"""The budget that all plait processes of a host share: a file, no server."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from plait.flow.clock import Clock, SystemClock
from plait.flow.entries import Entry
from plait.flow.file_ledgers import AGAIN_S, BUSY_S, FileLedger
from plait.flow.ledgers import readable
from plait.flow.shared_budgets import SharedBudget

__all__ = ["AGAIN_S", "BUSY_S", "HostBudget", "read"]


class HostBudget(SharedBudget):
    """See `budgets.Budget`. `file` and its folder are made when the first call comes, readable by their owner only.

    `busy_s`: how long calls wait for a file that other processes hold, in seconds.
    """

    def __init__(self, file: Path, clock: Clock, *, busy_s: float = BUSY_S) -> None:
        super().__init__(partial(FileLedger, file, busy_s=busy_s), clock)


def read(file: Path) -> dict[str, Entry]:
    """What the file knows, by the names of `budgets.Part`; empty where there is none.

    Raises sqlite3.Error where it cannot be read, OSError where another version of plait wrote it.
    """
    return readable(FileLedger(file, SystemClock()).states()[0])
