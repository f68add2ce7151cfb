"""Where workers run: what the batch asks of it, and of a worker that it has there."""

from __future__ import annotations

from typing import Protocol

from plait.app import App
from plait.batches.channels import Orders
from plait.batches.options import BatchOptions
from plait.errors import PlaitError

__all__ = ["NO_WORD", "NO_WORD_S", "Link", "NoRoom", "Workplace", "open_workplace"]

NO_WORD_S = 600.0
"""A worker says something four times a second, unless a node blocks its event loop; after so long it is given up."""
NO_WORD = "not a word for {:g} s: does a node block its event loop?"


class NoRoom(PlaitError):
    """No worker could be had in time. The batch goes on where it has others."""


class Link(Protocol):
    """A worker, as the batch sees it. Its messages are those of `plait.batches.channels`."""

    def send(self, message: object) -> None:
        """Queue a message; nothing happens where the worker is gone."""
        ...

    async def flushed(self) -> None:
        """Wait until the worker keeps up, or is gone."""
        ...

    async def receive(self) -> object | None:
        """The next message; None once the worker is gone, or was silent for too long and is given up."""
        ...

    async def dismissed(self) -> str:
        """End the worker, whatever it does, within seconds. Returns how it ended."""
        ...


class Workplace(Protocol):
    """Processes of this machine, or of a cluster. An async context, inside which workers can be had."""

    room: int
    """How many workers are to be had; known inside the context."""
    ahead: int
    """Rows that a worker holds at most, apart from those in flight."""

    async def __aenter__(self) -> Workplace:
        """Raises PlaitError where no worker will be had."""
        ...

    async def __aexit__(self, *_: object) -> None: ...

    async def hire(self, orders: Orders) -> Link:
        """A worker that has its orders. Raises NoRoom, and PlaitError where no further one can do better.

        Cancelled, it leaves no worker behind.
        """
        ...


def open_workplace(options: BatchOptions, app: App) -> Workplace:
    """Where the options say that the workers of a batch of `app` run."""
    if options.ray is None:
        from plait.batches.processes import ProcessWorkplace  # noqa: PLC0415 - most batches have no workers

        return ProcessWorkplace(options.workers)
    from plait.batches.ray_clusters import RayWorkplace  # noqa: PLC0415 - as above

    return RayWorkplace(options.ray, app, workers=options.workers, timeout_s=options.ray_timeout_s)
