"""What a run tells while it runs: typed events, each labelled with the branch it comes from, and its result.

Every event's `type` is its discriminator. `branch` is the path of node names from the root, with the index of a
concurrent sibling where there are several (`write[1]`, `research[0]/search`); `label` is the name the workflow gave the
branch (the metadata key `label` of a chain's config), else the branch itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from plait.flow.timings import Timing
from plait.flow.usage import Usage

Status = Literal["success", "error", "timeout", "interrupted"]


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A piece of text from a model, as it is generated."""

    text: str
    branch: str
    label: str
    message_id: str
    """Equal for all pieces of one answer."""
    type: Literal["token"] = "token"


@dataclass(frozen=True, slots=True)
class UpdateEvent:
    """A node finished and wrote to the state."""

    node: str
    values: Any
    """What the node returned: usually a dict of state keys."""
    branch: str
    label: str
    type: Literal["update"] = "update"


@dataclass(frozen=True, slots=True)
class CustomEvent:
    """A node wrote to its stream writer."""

    data: Any
    branch: str
    label: str
    type: Literal["custom"] = "custom"


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """What the run has consumed; sent once, before the end."""

    usage: Usage
    branch: str = ""
    label: str = ""
    type: Literal["usage"] = "usage"


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The run failed; the last event but `usage` and `end`."""

    error: Exception
    """A PlaitError; the workflow's own exception is its `__cause__`."""
    branch: str = ""
    label: str = ""
    type: Literal["error"] = "error"


@dataclass(frozen=True, slots=True)
class EndEvent:
    """Always the last event of a run that was not cancelled."""

    result: Result
    branch: str = ""
    label: str = ""
    type: Literal["end"] = "end"


Event = TokenEvent | UpdateEvent | CustomEvent | UsageEvent | ErrorEvent | EndEvent


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended."""

    run_id: str
    workflow: str
    status: Status
    outputs: Any
    """The graph's output (usually a dict by its output schema); None when the run failed."""
    usage: Usage
    duration_s: float
    timings: Mapping[str, Timing] = field(default_factory=dict)
    """Where the time of its model calls went, by node."""
    interrupts: tuple[Any, ...] = ()
    """Values of pending `interrupt()` calls when the status is `interrupted`."""
    error: Exception | None = None
