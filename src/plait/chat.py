"""ChatOpenAI, with less work per call for the same request and the same result."""

from __future__ import annotations

import inspect
from typing import Any, NoReturn, Self, cast

import openai
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai.chat_models.base import (
    _add_gateway_metadata,
    _handle_openai_api_error,
    _handle_openai_bad_request,
)
from openai.types.chat import ChatCompletion
from pydantic import SecretStr, model_validator

from plait.chat_completions import ChatCompletions, gated
from plait.fast_calls import FastCalls
from plait.fast_streams import FastStreams


class PlainChatOpenAI(FastCalls, FastStreams):
    """A ChatOpenAI whose plain asynchronous calls do without the SDK's models of requests and answers.

    A call is plain when it is a chat completion over plait's own HTTP client with no options but the body's. All
    others (Responses, structured output by `response_format`, a client or a callable key of the user's, retries,
    response headers asked for, a timeout or headers of one call, every synchronous call) take ChatOpenAI's way. Both
    ways send the same body to the same place, give equal results and raise the same errors; tests/test_chat.py holds
    them against each other. A cancelled call ends at once, its connection with it.
    """

    @model_validator(mode="after")
    def _take_over_completions(self) -> Self:
        root, http = self.root_async_client, self.http_async_client
        if (
            type(root) is openai.AsyncOpenAI
            and self.async_client is root.chat.completions
            and isinstance(self.openai_api_key, SecretStr)
            and gated(http)
        ):
            self.async_client = ChatCompletions(root, http)
        return self

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        # The SDK walks through typed parameters to rename their keys, but not through extra_body; LangChain has
        # already written the messages as they go over the wire.
        if "messages" in payload:
            payload["extra_body"] = {**(payload.get("extra_body") or {}), "messages": payload["messages"]}
            payload["messages"] = []
        return payload

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        completions = self.async_client
        body = None
        if isinstance(completions, ChatCompletions) and not self.include_response_headers:
            body = completions.body_of(self._get_request_payload(messages, stop=stop, **kwargs))
        if body is None:
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        try:
            response, content = await completions.ask(body)
            answer = await completions.read(response, content)
        except openai.APIError as error:
            _raise_as_langchain(error)
        generation_info: dict[str, Any] = {}
        _add_gateway_metadata(generation_info, response)
        # Typed for answers that are none, too: it says what is wrong with them.
        result = self._create_chat_result(cast("ChatCompletion", answer), generation_info)
        if isinstance(answer, dict):
            # ChatOpenAI takes the refusal from the SDK's model only.
            result.generations[0].message.additional_kwargs["refusal"] = answer["choices"][0]["message"].get("refusal")
        return result

    # LangChain inspects the signature at every call.
    _agenerate.__signature__ = inspect.signature(_agenerate)  # type: ignore[attr-defined]


def _raise_as_langchain(error: openai.APIError) -> NoReturn:
    if isinstance(error, openai.BadRequestError):
        _handle_openai_bad_request(error)
    _handle_openai_api_error(error)
    raise error
