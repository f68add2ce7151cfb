"""Counts the model calls of a run while it goes, so that stopping it can say what was in flight."""

from __future__ import annotations

from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler


class Tally(BaseCallbackHandler):
    """A LangChain callback: calls in flight and finished, of the models that report to LangChain."""

    # On the loop itself: the default hands every call to a thread.
    run_inline = True

    def __init__(self) -> None:
        self.finished = 0
        self._running: set[UUID] = set()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def on_chat_model_start(self, *_: object, run_id: UUID, **__: object) -> None:
        self._running.add(run_id)

    def on_llm_start(self, *_: object, run_id: UUID, **__: object) -> None:
        self._running.add(run_id)

    def on_llm_end(self, *_: object, run_id: UUID, **__: object) -> None:
        self._running.discard(run_id)
        self.finished += 1

    def on_llm_error(self, *_: object, run_id: UUID, **__: object) -> None:
        self._running.discard(run_id)
