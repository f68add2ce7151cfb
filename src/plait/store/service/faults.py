"""What the service's store refuses; the routes turn these into status codes."""

from __future__ import annotations

from plait.errors import PlaitError

__all__ = ["AlreadyExists", "BadEventId", "FilterRefused", "ServerDied", "ThreadBusy", "ThreadNotFound"]


class AlreadyExists(Exception):
    """Something of another content, or of somebody else, has that id."""


class ThreadNotFound(Exception):
    """No thread that the caller may see has that id."""


class ThreadBusy(Exception):
    """A run of the thread is pending or running, and the new one was not to wait."""


class ServerDied(PlaitError):
    """How a run ends whose server died so many times that no other one is to try it."""

    def __init__(self, deaths: int) -> None:
        times = "once" if deaths == 1 else f"{deaths} times"
        super().__init__(f"the server died while it ran, {times}; start it again to go on")


class BadEventId(ValueError):
    """An event's id that is not `<milliseconds>-<number>`."""


class FilterRefused(ValueError):
    """A filter on JSON that is nested too deeply or has too many conditions; the message says the limit."""
