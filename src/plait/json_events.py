"""Events as JSON objects, for JSON lines and for clients over HTTP."""

from __future__ import annotations

from plait.events import EndEvent, ErrorEvent, Event
from plait.json_values import Json, to_json
from plait.masking import masked


def event_fields(event: Event) -> dict[str, Json]:
    """`{"type", "branch", "label", ...}` with what the event tells; of an error its kind and its message."""
    fields: dict[str, Json] = {"type": event.type, "branch": event.branch, "label": event.label}
    if isinstance(event, ErrorEvent):
        return {**fields, "error": type(event.error).__name__, "message": masked(str(event.error))}
    found = to_json(event.result if isinstance(event, EndEvent) else event)
    assert isinstance(found, dict)
    return {**fields, **found}
