"""ChatOpenAI's streams without the SDK's models of their chunks."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import httpx2
import openai
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI, StreamChunkTimeoutError
from langchain_openai.chat_models.base import _handle_openai_api_error, _handle_openai_bad_request
from openai.types.chat import ChatCompletionChunk
from pydantic_core import from_json

from plait.chat_completions import ChatCompletions
from plait.event_lines import Event, EventLines
from plait.text_chunks import TextChunks, is_regular, text_of
from plait.token_callbacks import plain_callbacks

_DRAIN_S = 0.1
"""For what follows the last event, as the SDK has it: the connection is used again where that is read."""
_timeout_log = logging.getLogger("langchain_openai.chat_models._client_utils")


class FastStreams(ChatOpenAI):
    """A ChatOpenAI that reads the plain streams of its asynchronous calls itself.

    They are those that `ChatCompletions` sends; all others take ChatOpenAI's way. Requests, chunks, callbacks and
    errors are ChatOpenAI's; tests/test_fast_streams.py holds them against each other. Closing the iterator, or
    cancelling its reader, ends the answer.
    """

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        stream_usage: bool | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        completions, body = self.async_client, None
        if isinstance(completions, ChatCompletions):
            body = self._stream_body(completions, messages, stop, stream_usage, kwargs)
        if body is None:
            async for chunk in super()._astream(messages, stop, run_manager, stream_usage=stream_usage, **kwargs):
                yield chunk
            return
        try:
            response = await completions.post(body, stream=True)
            reading = _Reading(self, response)
            try:
                while (events := await reading.next_events()) is not None:
                    for event in events:
                        made = reading.chunk(event)
                        if made is None:
                            continue
                        if run_manager:
                            info = made.generation_info or {}
                            await run_manager.on_llm_new_token(made.text, chunk=made, logprobs=info.get("logprobs"))
                        yield made
            finally:
                await response.aclose()
        except openai.BadRequestError as error:
            _handle_openai_bad_request(error)
        except openai.APIError as error:
            _handle_openai_api_error(error)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await super()._agenerate_with_cache(messages, stop, plain_callbacks(run_manager), **kwargs)

    def _stream_body(
        self,
        completions: ChatCompletions,
        messages: list[BaseMessage],
        stop: list[str] | None,
        stream_usage: bool | None,
        options: Mapping[str, Any],
    ) -> bytes | None:
        """What to send; None where ChatOpenAI must send it."""
        if self.include_response_headers or self._uses_gateway:
            return None
        if self._use_responses_api({**options, **self.model_kwargs}):
            return None
        asked = {**options, "stream": True}
        if wanted := self._should_stream_usage(stream_usage, **asked):
            asked["stream_options"] = {"include_usage": wanted}
        return completions.body_of(self._get_request_payload(messages, stop=stop, **asked))


class _Reading:
    """One stream: its events as they arrive, and the chunks that ChatOpenAI makes of them."""

    def __init__(self, model: FastStreams, response: httpx2.Response) -> None:
        self._model = model
        self._response = response
        self._lines = EventLines()
        self._source = _bytes_of(response)
        self._timeout_s = model.stream_chunk_timeout or None
        self._kind: type[BaseMessageChunk] = AIMessageChunk
        self._texts = TextChunks()
        self._makes_plain = model.output_version != "v1"
        self._read = 0
        self._over = False
        self._failure: Exception | None = None

    async def next_events(self) -> list[Event] | None:
        """The events of the next bytes that complete any; None at the end.

        Raises what ChatOpenAI raises: the SDK's connection and timeout errors, StreamChunkTimeoutError, and
        UnicodeDecodeError behind the events that came before.
        """
        timer = asyncio.timeout(self._timeout_s)
        try:
            async with timer:
                return await self._next_events()
        except TimeoutError as error:
            if not timer.expired() or self._timeout_s is None:
                raise
            about = {"timeout_s": self._timeout_s, "model_name": self._model.model_name, "chunks_received": self._read}
            _timeout_log.warning(
                "langchain_openai.stream_chunk_timeout fired", extra={"source": "stream_chunk_timeout", **about}
            )
            raise StreamChunkTimeoutError(
                self._timeout_s, model_name=self._model.model_name, chunks_received=self._read
            ) from error
        except httpx2.RequestError as error:
            error.request = request = self._response.request
            if isinstance(error, httpx2.TimeoutException):
                raise openai.APITimeoutError(request=request) from error
            raise openai.APIConnectionError(request=request) from error

    async def _next_events(self) -> list[Event] | None:
        while not self._over:
            if self._failure is not None:
                raise self._failure
            chunk = await anext(self._source, None)
            if chunk is None:
                self._lines.finish()
                return None
            found: list[Event] = []
            try:
                for event in self._lines.feed(chunk):
                    if event[0].startswith(b"[DONE]"):
                        self._over = True
                        break
                    found.append(event)
            except UnicodeDecodeError as error:
                self._failure = error
            if found:
                return found
        await self._drain()
        return None

    async def _drain(self) -> None:
        if self._response.http_version != "HTTP/1.1":
            return
        try:
            async with asyncio.timeout(_DRAIN_S):
                async for _ in self._source:
                    pass
        except (TimeoutError, httpx2.RequestError):
            pass

    def chunk(self, event: Event) -> ChatGenerationChunk | None:
        """What ChatOpenAI makes of an event; None for one that it passes over."""
        data, name = event
        found = _parsed(data)
        self._read += 1
        if isinstance(found, dict) and not name.startswith("thread."):
            if error := found.get("error"):
                raise self._said(error)
            if self._makes_plain and self._kind is AIMessageChunk and (text := text_of(found)) is not None:
                return self._texts.make(*text)
            if not is_regular(found):
                found = self._dumped(found)
        else:
            found = self._dumped({"data": found, "event": name} if name.startswith("thread.") else found)
        made = self._model._convert_chunk_to_generation_chunk(found, self._kind, {})  # noqa: SLF001 - its subclass's
        if made is not None:
            self._kind = made.message.__class__
        return made

    def _dumped(self, found: object) -> dict[str, Any]:
        client = self._model.root_async_client
        typed = client._process_response_data(data=found, cast_to=ChatCompletionChunk, response=self._response)  # noqa: SLF001
        return cast("dict[str, Any]", typed.model_dump())

    def _said(self, error: object) -> openai.APIError:
        message = error.get("message") if isinstance(error, Mapping) else None
        if not message or not isinstance(message, str):
            message = "An error occurred during streaming"
        return openai.APIError(message=message, request=self._response.request, body=error)


def _bytes_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    if response.headers.get("content-encoding", "identity") != "identity":
        return response.aiter_bytes()
    # Without the layers that count and decompress.
    return aiter(cast("httpx2.AsyncByteStream", response.stream))


def _parsed(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:  # json reads some things that pydantic's parser does not, and has the error to raise
        return json.loads(data.decode())
