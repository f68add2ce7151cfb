"""Notes the model calls of a replay that no recorded answer fits, also where a workflow makes do without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from plait.errors import CallUnrecorded
from plait.flow.scopes import current_scope

__all__ = ["Misses", "noted"]


class Misses(BaseCallbackHandler):
    """What LangChain's models raised for want of an answer."""

    run_inline = True

    def __init__(self) -> None:
        self.by_run: dict[str, str] = {}
        """The first message by what asked: a row's id, or `evaluator:name`."""

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        """Note it, where it is such an error."""
        scope, link = current_scope(), error.__cause__ or error.__context__
        while scope is not None and scope.parent is not None:
            scope = scope.parent
        while link is not None and not isinstance(error, CallUnrecorded):
            error, link = link, link.__cause__ or link.__context__
        if isinstance(error, CallUnrecorded):
            self.by_run.setdefault(scope.run_id if scope else "", str(error))


@contextmanager
def noted(misses: Misses) -> Iterator[None]:
    """Note those of all models that are called in the block, and in tasks and threads that it begins."""
    hook = _hook()
    token = hook.set(misses)
    try:
        yield
    finally:
        hook.reset(token)


@cache
def _hook() -> ContextVar[BaseCallbackHandler | None]:
    """LangChain asks it for a handler wherever a model, chain or graph begins; once in a process, as hooks stay."""
    hook: ContextVar[BaseCallbackHandler | None] = ContextVar("plait_misses", default=None)
    register_configure_hook(hook, inheritable=True)
    return hook
