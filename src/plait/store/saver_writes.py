"""What of a node's writes is kept with a checkpoint: nothing of one that was cancelled, errors without secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from langgraph.checkpoint.serde.types import ERROR

__all__ = ["Clean", "finished"]

Write = tuple[str, Any]
Clean = Callable[[str], str]
"""Takes out of the text of an error what must not be kept."""


def finished(writes: Sequence[Write], clean: Clean) -> Sequence[Write]:
    """Without what a node wrote before it was cancelled: LangGraph would go on as if that had been all of it.

    A node's state is written before its edges are chosen, so that a run would end there. Errors become their repr, as
    LangGraph keeps them, after `clean`.
    """
    cancelled = [write for write in writes if write[0] == ERROR and isinstance(write[1], asyncio.CancelledError)]
    return [
        (channel, clean(repr(value)) if channel == ERROR and isinstance(value, BaseException) else value)
        for channel, value in cancelled or writes
    ]
