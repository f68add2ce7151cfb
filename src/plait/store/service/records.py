"""What the service keeps: assistants, threads, runs, their events, API keys and crons, as they are in the store.

The names and meanings are those of the Agent Server API (https://docs.langchain.com/langgraph-platform/server-api-ref);
what only plait knows of is said so. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Json = Mapping[str, object]
RunStatus = Literal["pending", "running", "success", "error", "timeout", "interrupted"]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
Strategy = Literal["reject", "enqueue", "interrupt", "rollback"]
CancelAction = Literal["interrupt", "rollback"]

SYSTEM = ""
"""The owner of what everybody may see: the assistants that come with the app."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may see: of one owner (None: of all), and only what the filters on the metadata let through.

    A filter's value is what the key must equal, `{"$eq": value}`, or `{"$contains": value}` where the metadata holds a
    list; all must hold. Reading assistants, those of SYSTEM are seen whatever the owner is.
    """

    owner: str | None = None
    filters: Json = field(default_factory=dict)


EVERYTHING = Access()


@dataclass(frozen=True, slots=True)
class AssistantRecord:
    """A workflow with a configuration of its own. Each change makes a new version; an older one can be made current."""

    assistant_id: str
    graph_id: str
    name: str
    owner: str = SYSTEM
    description: str | None = None
    config: Json = field(default_factory=dict)
    context: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A conversation: what its last run left, and the state it is in. Its checkpoints are the saver's."""

    thread_id: str
    owner: str = SYSTEM
    metadata: Json = field(default_factory=dict)
    config: Json = field(default_factory=dict)
    status: ThreadStatus = "idle"
    values: Json | None = None
    interrupts: Json = field(default_factory=dict)
    """By task id, the interrupts that wait for an answer."""
    error: Json | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    state_updated_at: float = 0.0
    temporary: bool = False
    """plait: made for one stateless run; such threads are in no search and end with their run."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One execution of an assistant on a thread."""

    run_id: str
    thread_id: str
    assistant_id: str
    owner: str = SYSTEM
    status: RunStatus = "pending"
    metadata: Json = field(default_factory=dict)
    kwargs: Json = field(default_factory=dict)
    """What was asked for: input, command, config, context, stream modes, webhook, ..."""
    multitask_strategy: Strategy = "enqueue"
    created_at: float = 0.0
    updated_at: float = 0.0
    start_after: float = 0.0
    """Not before this time (`after_seconds`); 0: at once."""
    graph_id: str = ""
    """plait: the workflow of its assistant."""
    server: str = ""
    """plait: whose queue it is in, or who runs it."""
    attempt: int = 0
    """plait: how often it was begun; more than once only where a server died."""
    client: str = ""
    """plait: who shares the queue fairly with others: the caller's identity or address."""
    key_id: str = ""
    """plait: the API key whose limits it counts for."""
    interactive: bool = True
    """plait: somebody waits for it."""
    usage: Json | None = None
    """plait: what its model calls consumed, when it is over."""
    timings: Json | None = None
    """plait: where the time of its model calls went, by node, when it is over."""
    error: Json | None = None
    """`{"error": kind, "message": text}` of a run that failed."""
    cancel: CancelAction | None = None
    """plait: somebody asked to end it, maybe at another server."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event of a resumable run's stream."""

    run_id: str
    id: str
    """`<milliseconds>-<number>`, growing within a run, also over restarts."""
    event: str
    data: bytes
    """JSON."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key: what is kept of it is a hash, and how much it may be used for."""

    key_id: str
    """Public: the first characters of the key, as shown in lists."""
    digest: str
    """SHA-256 of the whole key, in hex; keys are random, so a slow hash would add nothing."""
    owner: str
    name: str = ""
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    rpm: float | None = None
    """Requests that begin runs, a minute."""
    runs_per_day: int | None = None
    tokens_per_day: int | None = None
    usd_per_day: float | None = None
    max_running: int | None = None
    """Runs at once; further ones wait."""


@dataclass(frozen=True, slots=True)
class CronRecord:
    """A run that begins by itself at the times of a cron expression."""

    cron_id: str
    assistant_id: str
    schedule: str
    owner: str = SYSTEM
    thread_id: str | None = None
    payload: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    timezone: str | None = None
    end_time: float | None = None
    next_run_at: float | None = None
    enabled: bool = True
    on_run_completed: Literal["delete", "keep"] = "delete"
    created_at: float = 0.0
    updated_at: float = 0.0
