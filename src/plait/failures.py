"""What went wrong, in words a user can act on: turns any exception of a run into one of ours."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from plait.errors import (
    BudgetReached,
    CallRefused,
    EndpointUnreachable,
    GaveUp,
    ModelUnavailable,
    PlaitError,
    QuotaReached,
    RunFailed,
    SettingsError,
    StoreError,
)
from plait.flow.retries import UNREACHABLE, is_retryable_error, never_connected
from plait.local_transport import LOCAL_BASE_URL
from plait.settings import Endpoint, Settings

_FATAL = (BudgetReached, CallRefused, GaveUp, ModelUnavailable, QuotaReached, SettingsError, StoreError, ImportError)


_NOTE = "During task with name '"
"""LangGraph's, which goes on: write' and id '...'."""


def is_fatal(error: BaseException) -> bool:
    """True when every further call would fail the same way: wrong key, unknown model, spent quota, missing package.

    A workflow's error handler raises such errors on instead of noting them beside its other branches.
    """
    if any(isinstance(link, _FATAL) for link in links_of(error)):
        return True
    return any(_refusal(link) is not None for link in links_of(error))


def is_outage(error: BaseException) -> bool:
    """True when a call could not even connect: the endpoint is down or misspelt, and other calls would fail alike."""
    return any(
        (_is_call_error(link) and never_connected(link)) or getattr(link, "code", None) == UNREACHABLE
        for link in links_of(error)
    )


def failing_task(error: BaseException) -> str:
    """LangGraph's id of the innermost node that raised it; empty where it was a call that failed, or no node."""
    links = list(links_of(error))
    if any(isinstance(getattr(link, "status_code", None), int) or _is_call_error(link) for link in links):
        return ""
    notes = (note for link in links for note in getattr(link, "__notes__", ()) if note.startswith(_NOTE))
    return next((note.rpartition("' and id '")[2].rstrip("'") for note in notes), "")


def explain(error: BaseException, settings: Settings) -> PlaitError:
    """The PlaitError for an exception out of a workflow: itself, or a new one with the exception as its cause."""
    for link in links_of(error):
        if isinstance(link, PlaitError):
            return link
    for link in links_of(error):
        found = _explain_call(link, settings)
        if found is not None:
            found.__cause__ = error
            return found
    node = _node_of(error)
    text = str(error).strip() or "no message"
    failed = RunFailed(f"{f'node {node!r} raised ' if node else ''}{type(error).__name__}: {text}")
    failed.__cause__ = error
    return failed


def _explain_call(error: BaseException, settings: Settings) -> PlaitError | None:
    url = _url_of(error)
    endpoint = _endpoint_of(url, settings)
    where = _where(url)
    key = f"the key in {endpoint.api_key_env}" if endpoint and endpoint.api_key_env else "the key"
    status = getattr(error, "status_code", None)
    words = _words(error)
    if endpoint and endpoint.api_key:
        words = words.replace(endpoint.api_key, "***")  # some servers quote the key they refuse
    match _refusal(error):
        case "key":
            return CallRefused(
                f"{where} refused {key} ({status}): {words}\ncheck it, or name another model with --model"
            )
        case "model":
            return CallRefused(
                f"{where} does not know this model or path (404): {words}\nsee what is configured: plait models"
            )
        case "quota":
            return CallRefused(f"{where} says the quota of {key} is spent: {words}")
    if getattr(error, "code", None) == UNREACHABLE:
        return EndpointUnreachable(
            f"cannot reach {where}: {words}\ncheck that it runs, and the URL that its client has"
        )
    if isinstance(status, int):
        if status in {408, 409, 429} or status >= 500:
            return EndpointUnreachable(f"{where} still answered {status} after the last attempt: {words}")
        return None
    if _is_call_error(error):
        reason = _innermost(error)
        if never_connected(error) and not url.startswith(LOCAL_BASE_URL):
            return EndpointUnreachable(
                f"cannot reach {where}: {reason}\ncheck that it runs, and OPENAI_BASE_URL or the endpoint's base_url"
            )
        return EndpointUnreachable(f"{where} did not answer to the end: {reason}")
    return None


def _is_call_error(error: BaseException) -> bool:
    return type(error).__name__ in {"APIConnectionError", "APITimeoutError"} or (
        isinstance(error, Exception) and _is_http_error(error) and is_retryable_error(error)
    )


def _refusal(error: BaseException) -> str | None:
    status = getattr(error, "status_code", None)
    if status in {401, 403}:
        return "key"
    if status == 404:
        return "model"
    if status == 429 and "insufficient_quota" in str(error):
        return "quota"
    return None


def links_of(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and what a group of them holds."""
    seen: set[int] = set()
    ahead: list[BaseException | None] = [error]
    while ahead:
        link = ahead.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        ahead.append(link.__cause__ or (None if link.__suppress_context__ else link.__context__))
        if isinstance(link, BaseExceptionGroup):
            ahead += reversed(link.exceptions)


def _is_http_error(error: BaseException) -> bool:
    return any(kind.__module__.partition(".")[0] in {"httpx", "httpx2", "aiohttp"} for kind in type(error).__mro__)


def _innermost(error: BaseException) -> str:
    # SDKs say "Connection error."; the reason stands at the end of the chain.
    text = ""
    for link in links_of(error):
        if isinstance(link, ssl.SSLError | socket.gaierror):
            text = link.strerror or text
        elif isinstance(link, OSError) and link.errno:
            # aiohttp's own text names a socket address instead of what happened
            text = os.strerror(link.errno)
        elif not type(link).__module__.startswith("aiohttp"):
            text = str(link) or text
    return text or type(error).__name__


def _url_of(error: BaseException) -> str:
    try:
        return str(error.request.url)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # httpx raises RuntimeError where no request was set
        return ""


def _where(url: str) -> str:
    if url.startswith(LOCAL_BASE_URL):
        return "the embedded model's server in this process"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "the endpoint"


def _endpoint_of(url: str, settings: Settings) -> Endpoint | None:
    for endpoint in settings.endpoints.values():
        if endpoint.base_url and url.startswith(endpoint.base_url):
            return endpoint
    return None


def _words(error: BaseException) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(message, str) and message:
            return message
    return " ".join(str(error).split())[:400]


def _node_of(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if note.startswith(_NOTE):
            return str(note.split("'")[1])
    return ""
