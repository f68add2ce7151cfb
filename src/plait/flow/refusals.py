"""What a refused or failed call means: to the law that learns limits, and to whoever made the call."""

from __future__ import annotations

import logging
from typing import Any

from plait.errors import GaveUp, PlaitError, QuotaReached
from plait.flow.calls import Call
from plait.flow.headers import Kind, read_advice, retry_after_s, why_refused
from plait.flow.records import flavour_of
from plait.flow.retries import UNREACHABLE, Attempts, never_connected
from plait.flow.tickets import Outcome, Ticket

logger = logging.getLogger("plait.flow")

_OVERLOADED = frozenset({503, 529})


def report_refusal(response: Any, body: bytes, ticket: Ticket, wall: float) -> Kind | None:
    """Tell the call's lane why it was refused, if for a limit; returns which."""
    status, headers = response.status_code, response.headers
    if (status != 429 and status not in _OVERLOADED) or b"insufficient_quota" in body:
        return None
    if advice := read_advice(headers, wall):
        ticket.tell(advice)
    kind = why_refused(status, headers, body)
    ticket.release(Outcome(kind=kind, retry_after_s=retry_after_s(headers, wall)))
    return kind


def hopeless(kind: Kind | None, attempts: Attempts, lane: str, wall: float) -> PlaitError:
    """The error of a call that would have to wait longer than its deadline allows."""
    asked_s = attempts.asked_s
    if kind == "day":
        return QuotaReached(lane, wall + asked_s, asked_s)
    return GaveUp(lane, "tpm" if kind == "tokens" else "rpm", attempts.spent_s, asked_s)


def stand_in(error: Exception, attempts: int, call: Call, request: Any) -> Any:
    """What a foreign client gets for a final connection error: a 503 that forbids it to try again."""
    message = f"{type(error).__name__} after {attempts} attempts: {error or 'no answer'}"
    logger.warning("%s %s: %s", call.endpoint, call.model, message)
    code = UNREACHABLE if never_connected(error) else "no_answer"
    return flavour_of(request).Response(
        503,
        headers={"x-should-retry": "false"},
        json={"error": {"message": message, "type": "connection_error", "code": code}},
        request=request,
    )
