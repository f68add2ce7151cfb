"""Telling callbacks of each token, for less than LangChain takes where all of them are plain functions."""

from __future__ import annotations

import inspect
import logging
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk

# LangChain's own, since the words are.
_log = logging.getLogger("langchain_core.callbacks.manager")


def plain_callbacks(run: AsyncCallbackManagerForLLMRun | None) -> AsyncCallbackManagerForLLMRun | None:
    """The same callbacks, told of tokens directly where none of them is to be awaited or run in a thread."""
    if type(run) is not AsyncCallbackManagerForLLMRun or not run.handlers or not all(map(_is_plain, run.handlers)):
        return run
    return _PlainCallbacks(
        run_id=run.run_id,
        handlers=run.handlers,
        inheritable_handlers=run.inheritable_handlers,
        parent_run_id=run.parent_run_id,
        tags=run.tags,
        inheritable_tags=run.inheritable_tags,
        metadata=run.metadata,
        inheritable_metadata=run.inheritable_metadata,
    )


def _is_plain(handler: BaseCallbackHandler) -> bool:
    return handler.run_inline and not inspect.iscoroutinefunction(handler.on_llm_new_token)


class _PlainCallbacks(AsyncCallbackManagerForLLMRun):
    async def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        **kwargs: Any,
    ) -> None:
        for handler in self.handlers:
            # LangChain's `_ahandle_event_for_handler` without its tasks.
            try:
                if not handler.ignore_llm:
                    handler.on_llm_new_token(
                        token,
                        chunk=chunk,
                        run_id=self.run_id,
                        parent_run_id=self.parent_run_id,
                        tags=self.tags,
                        **kwargs,
                    )
            except Exception as error:
                name = f"{handler.__class__.__name__}.on_llm_new_token"
                if isinstance(error, NotImplementedError):
                    _log.warning("NotImplementedError in %s callback: %s", name, repr(error))
                    continue
                _log.warning("Error in %s callback: %s", name, repr(error))
                if handler.raise_error:
                    raise
