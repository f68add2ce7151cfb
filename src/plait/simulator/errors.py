"""Error objects in the shape of the API that was asked."""

from __future__ import annotations

from collections.abc import Mapping

from plait.simulator.shapes.parts import to_json

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(path: str, status: int, found: Mapping[str, str | None]) -> bytes:
    """`found` has message, type and code; what is missing is made from the status."""
    kind = found.get("type") or _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    message = found.get("message") or f"The provider answers {status}"
    if path == "/v1/messages":
        return to_json({"type": "error", "error": {"type": kind, "message": message}})
    return to_json({"error": {"message": message, "type": kind, "param": None, "code": found.get("code")}})
