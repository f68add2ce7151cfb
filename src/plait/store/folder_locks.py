"""Who runs the batch of a folder: a lock that the kernel lets go of."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from plait.errors import BatchBusy

__all__ = ["FolderLock", "is_running"]

_LOCK = "lock"


class FolderLock:
    """Who runs a batch: an exclusive flock on the folder's `lock`, in which its process id stands.

    The kernel lets go of it when the process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock. Blocks up to 0.1 s; BatchBusy when another process, or another store here, has it."""
        self._descriptor = -1
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, folder)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def __del__(self) -> None:
        # Whoever asked for the lock in a thread may have been cancelled before it was there.
        self.release()

    def release(self) -> None:
        """Let go; harmless the second time."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # Closing is not enough while a forked child has the descriptor, too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    # Somebody who only looks (is_running) holds it for an instant: that is no other coordinator.
    for tries_left in (4, 3, 2, 1, 0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not tries_left:
                pid = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
                raise BatchBusy(
                    f"batch {folder.name} is being run by process {pid}: wait for it or stop it, "
                    f"and watch it with `plait show {folder.name}`"
                ) from None
            time.sleep(0.025)
        else:
            return


def is_running(folder: Path) -> bool:
    """Whether some process holds the lock of this batch folder."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
