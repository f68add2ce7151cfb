"""plait runs LangGraph workflows at full speed against rate-limited LLM APIs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plait.afterwards import Afterwards, after_answer
    from plait.batches import Batch, BatchOptions, batch, resume
    from plait.capabilities import require_tools
    from plait.datasets import Selection
    from plait.errors import BatchPaused, PlaitError
    from plait.events import (
        CustomEvent,
        EndEvent,
        ErrorEvent,
        Event,
        Result,
        TokenEvent,
        UpdateEvent,
        UsageEvent,
    )
    from plait.experiments import Experiment, Score, compare, evaluate
    from plait.failures import is_fatal
    from plait.flow.usage import Usage
    from plait.models import chat_model
    from plait.runs import load, open, run, stream  # noqa: A004 - plait.open reads well, and nobody imports *
    from plait.settings import Settings
    from plait.store.rows import RowRecord

__all__ = [
    "Afterwards",
    "Batch",
    "BatchOptions",
    "BatchPaused",
    "CustomEvent",
    "EndEvent",
    "ErrorEvent",
    "Event",
    "Experiment",
    "PlaitError",
    "Result",
    "RowRecord",
    "Score",
    "Selection",
    "Settings",
    "TokenEvent",
    "UpdateEvent",
    "Usage",
    "UsageEvent",
    "after_answer",
    "batch",
    "chat_model",
    "compare",
    "evaluate",
    "is_fatal",
    "load",
    "open",
    "require_tools",
    "resume",
    "run",
    "stream",
]

_HOMES = {
    "Afterwards": "plait.afterwards",
    "after_answer": "plait.afterwards",
    "batch": "plait.batches",
    "resume": "plait.batches",
    "Batch": "plait.batches",
    "BatchOptions": "plait.batches",
    "BatchPaused": "plait.errors",
    "PlaitError": "plait.errors",
    "Experiment": "plait.experiments",
    "Score": "plait.experiments",
    "compare": "plait.experiments",
    "evaluate": "plait.experiments",
    "RowRecord": "plait.store.rows",
    "Selection": "plait.datasets",
    "Settings": "plait.settings",
    "Usage": "plait.flow.usage",
    "chat_model": "plait.models",
    "is_fatal": "plait.failures",
    "load": "plait.runs",
    "open": "plait.runs",
    "require_tools": "plait.capabilities",
    "run": "plait.runs",
    "stream": "plait.runs",
}


# Importing LangChain takes two seconds: a name is loaded when it is first used (PEP 562), so `plait --help` is quick.
def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_HOMES.get(name, "plait.events")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
