"""The SDK's `chat.completions` as ChatOpenAI uses it, with what is the same in every call worked out once."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, TypeGuard

import httpx2
import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic_core import from_json

from plait.chat_answers import is_text_chunk, plain_answer
from plait.flow.transport import FlowTransport

# They are no parts of the body; response_format is, but only the SDK reads its answer back into the user's models.
_NOT_PLAIN = frozenset({"extra_headers", "extra_query", "timeout", "response_format"})
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_http_log = logging.getLogger("httpx2")


def gated(http: object) -> TypeGuard[httpx2.AsyncClient]:
    """Whether this HTTP client is one of plait's own, which sends through a FlowTransport."""
    return type(http) is httpx2.AsyncClient and isinstance(_transport_of(http), FlowTransport)


class ChatCompletions:
    """Stands where `AsyncOpenAI.chat.completions` stands, and hands to it what it does not do itself.

    Requests are those of the SDK but for its x-stainless-* headers: they describe the SDK's own machinery (its
    retries, its way of reading, the platform), which takes no part here, and no endpoint needs them. `http` is the
    client's own and must be `gated`. The request goes to its transport directly: what lies between (merging headers,
    authentication flows, cookies, redirects, hooks) has nothing to do in most calls, and where it has, `http` sends it.
    """

    def __init__(self, client: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
        self._client = client
        self._http = http
        self._transport = _transport_of(http)
        self._sdk = client.chat.completions
        self._plain = frozenset(inspect.signature(self._sdk.create).parameters) - _NOT_PLAIN
        self._pattern: httpx2.Request | None = None
        self._key = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sdk, name)

    async def create(self, **payload: Any) -> Any:
        """As the SDK's, but the chunks of a plain stream are the dicts that the SDK's would dump.

        Other calls are the SDK's own: ChatOpenAI makes the plain ones by `post` and `read`.
        """
        body = self.body_of(payload) if payload.get("stream") is True else None
        if body is None:
            return await self._sdk.create(**payload)
        response = await self.post(body, stream=True)
        return _Chunks(cast_to=object, response=response, client=self._client)

    def body_of(self, payload: Mapping[str, Any]) -> bytes | None:
        """The JSON to send for the arguments of `create`, None where the SDK must send it, or refuse."""
        if not ({"model", "messages"} <= payload.keys() <= self._plain) or self._client.max_retries:
            return None
        body = {**payload, **(payload.get("extra_body") or {})}
        body.pop("extra_body", None)
        try:
            return _encode(body).encode()
        except (TypeError, ValueError):  # the SDK converts some of what JSON has no words for
            return None

    async def post(self, body: bytes, *, stream: bool = False) -> httpx2.Response:
        """The response with a status of 2xx, read unless it is a stream.

        Raises as the SDK does: APIStatusError's family, APITimeoutError, APIConnectionError. Cancelled, it ends the
        connection.
        """
        request = await self._request(body)
        try:
            response = await self._send(request, stream=stream)
            if not response.is_success:
                await response.aread()
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except httpx2.RequestError as error:
            raise openai.APIConnectionError(request=request) from error
        if response.is_success:
            return response
        raise self._client._make_status_error_from_response(response)  # noqa: SLF001 - the words and classes of the SDK

    async def ask(self, body: bytes) -> tuple[httpx2.Response, bytes]:
        """The response to a call that is no stream, and its body. Raises and is cancelled as `post`."""
        response = await self.post(body, stream=True)
        whole = response.stream
        if isinstance(whole, httpx2.ByteStream) and "content-encoding" not in response.headers:
            return response, b"".join(whole)
        request = response.request
        try:
            return response, await response.aread()
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except httpx2.RequestError as error:
            raise openai.APIConnectionError(request=request) from error
        finally:
            await response.aclose()

    async def read(self, response: httpx2.Response, content: bytes) -> object:
        """The answer for `ChatOpenAI._create_chat_result`: a dict if it is an ordinary one, else the SDK's model.

        What is no JSON is returned as text; raises ValueError, with the response on it, where it claims to be JSON.
        """
        try:
            if (answer := plain_answer(from_json(content))) is not None:
                return answer
        except ValueError:  # json's own error is raised below; and it reads some things that pydantic's parser does not
            pass
        await response.aread()
        try:
            found = response.json()
        except ValueError as error:
            if not response.headers.get("content-type", "").partition(";")[0].endswith("json"):
                return response.text
            error.response = response  # type: ignore[attr-defined] # as ChatOpenAI does
            raise
        return ChatCompletion.construct(**found) if isinstance(found, dict) else found

    async def _send(self, request: httpx2.Request, *, stream: bool) -> httpx2.Response:
        http = self._http
        if http.cookies:
            http.cookies.set_cookie_header(request)
        seen = any(http.event_hooks.values()) or _http_log.isEnabledFor(logging.INFO)
        if seen or http.is_closed or http.auth is not None:
            return await http.send(request, stream=stream)
        try:
            response = await self._transport.handle_async_request(request)
        except httpx2.RequestError as error:
            error.request = request
            raise
        response.request = request
        if response.has_redirect_location:
            await response.aclose()
            return await http.send(request, stream=stream)
        if "set-cookie" in response.headers:
            http.cookies.extract_cookies(response)
        try:
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _request(self, body: bytes) -> httpx2.Request:
        pattern = self._pattern
        if pattern is None or self._key != self._client.api_key:
            key = self._client.api_key
            pattern = await _request_of(self._client, self._http)
            self._pattern, self._key = pattern, key
        headers = pattern.headers.copy()
        headers["Content-Length"] = str(len(body))
        extensions = {"timeout": dict(pattern.extensions["timeout"])}
        request = httpx2.Request(
            "POST", pattern.url, headers=headers, stream=httpx2.ByteStream(body), extensions=extensions
        )
        request.read()
        return request


class _Chunks(openai.AsyncStream[object]):
    """The SDK's stream of events, as dicts of chunks."""

    async def __aiter__(self) -> AsyncIterator[object]:
        async for event in self._iterator:
            if isinstance(event, dict) and not is_text_chunk(event):
                yield ChatCompletionChunk.construct(**event).model_dump()
            else:
                yield event


async def _request_of(client: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> httpx2.Request:
    """What the SDK would send over this client: URL, headers, timeouts."""
    kept = _Keeping()
    timeout, headers, params = http.timeout, http.headers, http.params
    async with httpx2.AsyncClient(transport=kept, timeout=timeout, headers=headers, params=params) as instead:
        asked = client.with_options(http_client=instead, max_retries=0)
        with suppress(openai.APIConnectionError):
            await asked.chat.completions.create(model="", messages=[])
    (request,) = kept.requests
    for name in [name for name in request.headers if name.startswith("x-stainless-")]:
        del request.headers[name]
    return request


class _Keeping(httpx2.AsyncBaseTransport):
    """Keeps requests instead of sending them."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        raise httpx2.ConnectError("kept")


def _transport_of(http: httpx2.AsyncClient) -> httpx2.AsyncBaseTransport:
    return http._transport  # noqa: SLF001 - it has no public name
