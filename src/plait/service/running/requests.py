"""A run as it is asked for, and what comes of it: the terms between the routes and the runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from plait.service.callers import Caller
from plait.store.service.records import EVERYTHING, Access, AssistantRecord, RunStatus, Strategy

PLAIT_MODE = "plait"
"""A stream mode of ours: plait's typed events, each `{"type": "token" | "update" | ..., "branch", "label", ...}`."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything a run begins with; checked by the routes."""

    assistant: AssistantRecord
    caller: Caller
    access: Access = EVERYTHING
    """To its thread."""
    thread_id: str | None = None
    """None: stateless, on a thread of its own that ends with it."""
    kwargs: Mapping[str, object] = field(default_factory=dict)
    """`input`, `command`, `config`, `context`, `stream_mode` (a list), `subgraphs`, `resumable`,
    `interrupt_before`, `interrupt_after`, `checkpoint`, `durability`, `webhook`: as the API has them."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    thread_metadata: Mapping[str, object] = field(default_factory=dict)
    """Of a thread that is made for it."""
    strategy: Strategy = "enqueue"
    create_thread: bool = False
    """Make the thread where there is none (`if_not_exists: create`)."""
    keep_thread: bool = False
    """Of a stateless run (`on_completion: keep`)."""
    after_s: float = 0.0
    interactive: bool = True
    """Somebody waits for it; others begin when nobody does."""
    streamed: bool = False
    """Whoever asks will follow it: what happens before they do is kept for them."""
    cancel_on_disconnect: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One event of a run's stream."""

    event: str
    """`values`, `messages|parent:TASK`, `error`, ...; `plait` for our own."""
    data: bytes
    """JSON."""
    id: str = ""
    """Of resumable streams."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    run_id: str
    status: RunStatus
    values: object = None
    """The graph's output after the run, or what the state held when it stopped, as JSON-ready Python."""
    error: Mapping[str, object] | None = None
    """`{"error": kind, "message": text}`."""
    interrupts: tuple[Mapping[str, object], ...] = ()
    """`{"value": ..., "id": ...}` of interrupts that wait for an answer."""
    usage: Mapping[str, object] | None = None
    timings: Mapping[str, object] | None = None
