"""LangSmith's own client, made so that it drops nothing in silence, and its errors in our words."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from plait.errors import CallRefused, EndpointUnreachable, PlaitError, SettingsError
from plait.experiments.langsmith.runs import Feedback, Payload
from plait.masking import masked, redacted

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.utils import LangSmithRetry

__all__ = ["KEYS", "client_for", "explained", "give", "ingest", "key_in", "quiet"]

KEYS = ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
_ENDPOINTS = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")
_ATTEMPTS = 7
"""Of a request that LangSmith refuses for now, the first not counted: a minute, the window of its rate limits."""
_QUOTED = 300
"""Characters of an answer that are shown."""


def key_in(env: Mapping[str, str]) -> str | None:
    """LangSmith's key, where the variables hold one."""
    return next((env[name] for name in KEYS if env.get(name)), None)


def client_for(env: Mapping[str, str], failures: list[Exception]) -> Client:
    """A client without threads of its own; what it would only log of runs it could not send goes into `failures`.

    Raises SettingsError for an endpoint that is no URL and where the variables contradict each other.
    """
    # langsmith takes half a second to import.
    from langsmith import Client  # noqa: PLC0415
    from langsmith.utils import LangSmithUserError  # noqa: PLC0415

    name = next((name for name in _ENDPOINTS if env.get(name)), None)
    url = None if name is None else env[name]
    if url is not None and urlsplit(url).scheme not in {"http", "https"}:
        raise SettingsError(f"{name}: expected a URL such as https://api.smith.langchain.com, found {masked(url)!r}")
    try:
        return Client(
            url,
            api_key=key_in(env),
            workspace_id=env.get("LANGSMITH_WORKSPACE_ID") or None,
            retry_config=_patience(),
            auto_batch_tracing=False,
            tracing_mode="langsmith",
            # The environment may ask for a part of all traces, which would leave runs out here.
            tracing_sampling_rate=1.0,
            # It holds values of the environment.
            omit_traced_runtime_info=True,
            tracing_error_callback=failures.append,
            disable_prompt_cache=True,
        )
    except LangSmithUserError as error:
        raise SettingsError(f"LangSmith's variables: {error}") from None


def _patience() -> LangSmithRetry:
    from langsmith.utils import LangSmithRetry  # noqa: PLC0415

    # As the client's own, but more patient with refusals: it takes 3 of any kind.
    return LangSmithRetry(
        total=_ATTEMPTS + 3,
        status=_ATTEMPTS,
        connect=2,
        read=2,
        backoff_factor=0.5,
        status_forcelist=[408, 425, 429, 500, 502, 503, 504],
        allowed_methods=None,
        raise_on_redirect=False,
        raise_on_status=False,
        respect_retry_after_header=True,
    )


def ingest(client: Client, entries: Sequence[Payload], failures: Sequence[Exception]) -> None:
    """Send runs in one request, or several where they are large. Raises what the client noted in `failures`."""
    if (client.info.batch_ingest_config or {}).get("use_multipart_endpoint", True):
        client.multipart_ingest(create=list(entries))
    else:
        client.batch_ingest_runs(create=list(entries))
    if failures:
        raise failures[0]


def give(client: Client, session_id: UUID, feedback: Feedback) -> None:
    """Send one score; one that LangSmith has already gets this value."""
    from langsmith.utils import LangSmithConflictError  # noqa: PLC0415

    try:
        client.create_feedback(
            feedback.run_id,
            key=feedback.key,
            score=feedback.score,
            value=feedback.value,
            comment=feedback.comment,
            source_info=dict(feedback.source),
            feedback_source_type="model",
            feedback_id=feedback.id,
            trace_id=feedback.run_id,
            project_id=None if feedback.run_id else session_id,
            session_id=session_id,
            start_time=feedback.began,
            extra=feedback.extra,
            stop_after_attempt=2,
        )
    except LangSmithConflictError:
        client.update_feedback(feedback.id, score=feedback.score, value=feedback.value, comment=feedback.comment)


def explained(error: Exception, url: str, keys: Iterable[str]) -> PlaitError:
    """What the client raised, as one of our errors, without a key in its message."""
    from requests.exceptions import ConnectionError as NoConnection  # noqa: PLC0415
    from requests.exceptions import Timeout  # noqa: PLC0415

    where = masked(url)
    rest = "uploading again sends what is missing"
    chain = list(_chain(error))
    answer = next((found for link in chain if (found := getattr(link, "response", None)) is not None), None)
    status = getattr(answer, "status_code", None)
    if status in (401, 403):
        return CallRefused(
            f"LangSmith at {where} refuses the key (HTTP {status}): expected one that may write; set {KEYS[0]}, "
            "and LANGSMITH_WORKSPACE_ID with a key of an organization"
        )
    if status == 429 or (status or 0) >= 500:
        return EndpointUnreachable(f"LangSmith at {where} took no more (HTTP {status}); {rest}")
    if status is not None:
        text = " ".join(str(getattr(answer, "text", "")).split())
        said = redacted(masked(text), keys)[:_QUOTED]
        return CallRefused(f"LangSmith at {where} refuses what was sent (HTTP {status}): {said}")
    if any(isinstance(link, NoConnection | Timeout) for link in chain):
        return EndpointUnreachable(
            f"LangSmith at {where} cannot be reached; check {_ENDPOINTS[0]} and the network, then {rest}"
        )
    said = redacted(masked(f"{type(error).__name__}: {error}"), keys)[:_QUOTED]
    return PlaitError(f"LangSmith's client failed at {where}: {said}; check {_ENDPOINTS[0]}, then {rest}")


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def quiet(threads: set[int | None]) -> Generator[None]:
    """Hide what the client logs in these threads within the block: it raises it as well, and quotes the key."""
    from langsmith.utils import filter_logs  # noqa: PLC0415

    class _Others(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return record.thread not in threads

    with filter_logs(logging.getLogger("langsmith.client"), [_Others()]):
        yield
