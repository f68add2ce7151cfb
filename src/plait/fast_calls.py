"""ChatOpenAI's calls without the work that LangChain does for callbacks where none listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManager, AsyncCallbackManagerForLLMRun
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models._utils import _normalize_messages
from langchain_core.language_models.chat_models import _gen_info_and_msg_metadata
from langchain_core.messages import LC_ID_PREFIX, AIMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.utils.uuid import uuid7
from langchain_openai import ChatOpenAI

_TRACED_ONLY = ("ls_structured_output_format", "structured_output_format")
"""Keywords that LangChain takes out of a call and tells nobody but its callbacks."""


class FastCalls(ChatOpenAI):
    """A ChatOpenAI that calls its model directly where LangChain would find no callback, tracer or debug mode.

    LangChain itself is asked whether there are any; where there are, all is done its way. The request, the message, its
    id and the errors are the same; tests/test_fast_calls.py holds them against each other.
    """

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As ChatOpenAI's. Cancelled, it ends the call."""
        config = ensure_config(config)
        manager = AsyncCallbackManager.configure(config.get("callbacks"), self.callbacks, self.verbose)
        if manager.handlers:
            return await super().ainvoke(input, config, stop=stop, **kwargs)
        for name in _TRACED_ONLY:
            kwargs.pop(name, None)
        run_id = config.get("run_id") or uuid7()
        messages = _normalize_messages(self._convert_input(input).to_messages())
        if self._is_direct(kwargs):
            result = await self._agenerate(messages, stop, None, **kwargs)
            _name(result, run_id)
        else:
            unheard = AsyncCallbackManagerForLLMRun(
                run_id=run_id, handlers=[], inheritable_handlers=[], parent_run_id=manager.parent_run_id
            )
            result = await self._agenerate_with_cache(messages, stop=stop, run_manager=unheard, **kwargs)
        return cast("AIMessage", result.generations[0].message)

    def _is_direct(self, options: Mapping[str, Any]) -> bool:
        """Whether nothing stands between a call and its answer: no cache, no rate limiter, no stream."""
        return (
            not self.cache
            and (self.cache is False or get_llm_cache() is None)
            and self.rate_limiter is None
            and self.output_version != "v1"
            and not self._should_stream(async_api=True, run_manager=None, **options)
        )


def _name(result: ChatResult, run_id: UUID) -> None:
    """Give the messages their ids and metadata, as BaseChatModel does."""
    for index, generation in enumerate(result.generations):
        message = generation.message
        if message.id is None:
            message.id = f"{LC_ID_PREFIX}-{run_id}-{index}"
        message.response_metadata = _gen_info_and_msg_metadata(generation)
    if len(result.generations) == 1 and result.llm_output is not None:
        message = result.generations[0].message
        message.response_metadata = {**result.llm_output, **message.response_metadata}
