"""A run on its way through this server, from when it is queued until it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from plait.errors import PlaitError
from plait.flow.usage import Usage
from plait.service.callers import Caller
from plait.service.running.executions import Execution
from plait.service.running.requests import Outcome
from plait.service.running.topics import Topic
from plait.store.service.records import CancelAction, RunRecord


class Limits(Protocol):
    """How much a caller may do."""

    async def admit(self, caller: Caller) -> None: ...
    async def charge(self, key_id: str, usage: Usage) -> None: ...
    def max_running(self, key_id: str) -> int | None: ...


@dataclass(slots=True)
class Course:
    """What this server knows of a run of its own."""

    run: RunRecord
    topic: Topic
    temporary: bool
    caller: Caller | None = None
    queued_at: float = 0.0
    resumed: bool = False
    """Begun before, by a server that ended."""
    execution: Execution | None = None
    outcome: Outcome | None = None
    failure: PlaitError | None = None
    cancel: CancelAction | None = None
    cancel_reason: str = ""
    lost: bool = False
    """Another server has taken it over."""
