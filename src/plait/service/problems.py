"""What goes wrong, as HTTP: a status, and a body `{"detail": ...}` that says what was expected and what to do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from fastapi import HTTPException
from pydantic import BaseModel, Field

from plait.errors import (
    AppError,
    CallRefused,
    EndpointUnreachable,
    GaveUp,
    InputError,
    ModelUnavailable,
    PlaitError,
    QuotaReached,
    RunTimeout,
    StoreError,
    WorkflowNotFound,
)


class Problem(BaseModel):
    """The body of an answer that is an error."""

    detail: str = Field(description="What was expected, what was found, what to do.")


_WORDS = {
    400: "The request contradicts itself or the graph",
    401: "No valid credentials",
    403: "Not allowed",
    404: "There is no such thing, or it is somebody else's",
    409: "Something else is in the way",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "A value is missing, mistyped or unknown",
    429: "Too much at once, or a quota is used up; Retry-After says when to come back",
    500: "The workflow failed",
    502: "The model's endpoint refused the call",
    503: "Not now: shutting down, or the store cannot be used",
    504: "The run took too long",
}

Responses = dict[int | str, dict[str, object]]


def documented(*statuses: int) -> Responses:
    """For a route's `responses`: what these statuses mean."""
    return {status: {"model": Problem, "description": _WORDS[status]} for status in statuses}


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> HTTPException:
    """An error that is answered with this status."""
    return HTTPException(status, detail, dict(headers) if headers else None)


def too_many(detail: str, retry_after_s: float) -> HTTPException:
    """A 429 that says when to come back."""
    return problem(429, detail, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


_STATUSES: tuple[tuple[type[PlaitError], int], ...] = (
    (InputError, 422),
    (WorkflowNotFound, 404),
    (AppError, 500),
    (ModelUnavailable, 422),
    (CallRefused, 502),
    (EndpointUnreachable, 502),
    (GaveUp, 429),
    (RunTimeout, 504),
    (StoreError, 503),
)


def answered(error: PlaitError, clean: Callable[[str], str] = str) -> HTTPException:
    """The answer that tells of one of plait's own errors; `clean` takes out of its text what no client may see."""
    if isinstance(error, QuotaReached):
        return too_many(str(error), error.resets_at - time.time())
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return problem(status, clean(str(error)))
