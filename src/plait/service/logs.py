"""What the service logs: a line for each run and each request, as JSON or text, without what was asked or answered.

Everything goes to the loggers `plait.service` and `plait.service.access`. Nothing here adds a handler or sets a level:
`plait serve` and hosts decide where lines go, and `formatter` gives them their form.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plait.flow.recorders import Observer
from plait.json_values import to_json
from plait.masking import masked, redacted
from plait.service.listeners import Figures
from plait.store.service.records import RunRecord

logger = logging.getLogger("plait.service")
access = logging.getLogger("plait.service.access")

Form = Literal["json", "text"]

_FIELDS = "plait"
"""Where a record keeps the fields of its line."""


class RunLog:
    """A Listener that logs the end of every run; `content` says whether the line may hold its input and its error's
    text, which may quote it."""

    def __init__(self, *, content: bool = False) -> None:
        self._content = content

    def on_queued(self, run: RunRecord) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("run queued", extra={_FIELDS: _names(run)})

    def on_started(self, run: RunRecord) -> Observer | None:
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("run started", extra={_FIELDS: _names(run)})
        return None

    def on_first_token(self, run: RunRecord, seconds: float) -> None:
        """Stands in the metrics."""

    def on_sent(self, run: RunRecord, events: int) -> None:
        """Stands in the metrics."""

    def on_reader_cut(self, run: RunRecord) -> None:
        logger.warning("a client read its stream too slowly and lost it", extra={_FIELDS: _names(run)})

    def on_moved(self, run: RunRecord) -> None:
        logger.info("another server has the run now", extra={_FIELDS: _names(run)})

    def on_ended(self, run: RunRecord, figures: Figures) -> None:
        level = logging.WARNING if run.status in ("error", "timeout") else logging.INFO
        if not logger.isEnabledFor(level):
            return
        usage = figures.usage
        fields: dict[str, object] = {
            **_names(run),
            "status": run.status,
            "duration_s": round(figures.duration_s, 3),
            "waited_s": round(figures.waited_s, 3),
            "calls": usage.calls,
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
        }
        if figures.cost_usd is not None:
            fields["cost_usd"] = round(figures.cost_usd, 6)
        if run.error:
            fields["error"] = run.error.get("error")
        if self._content:
            fields["input"] = run.kwargs.get("input")
            if run.error:
                fields["error_message"] = run.error.get("message")
        logger.log(level, "run ended", extra={_FIELDS: fields})


def _names(run: RunRecord) -> dict[str, object]:
    return {"run_id": run.run_id, "thread_id": run.thread_id, "workflow": run.graph_id, "client": run.client}


class AccessLog:
    """ASGI middleware that logs each request when it is answered: method, path, status, seconds, the client's address.

    Queries and headers are left out: they may hold keys.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not access.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_s": round(time.monotonic() - began, 3),
                "client": (scope.get("client") or ("",))[0],
            }
            access.info("request", extra={_FIELDS: fields})


def formatter(form: Form, *, keys: frozenset[str] = frozenset()) -> logging.Formatter:
    """For a handler: one JSON object a line, or `time level logger: message key=value ...`; `keys` are never shown."""
    return _Lines(form, keys)


class _Lines(logging.Formatter):
    def __init__(self, form: Form, keys: frozenset[str]) -> None:
        super().__init__()
        self._form = form
        self._keys = keys

    def format(self, record: logging.LogRecord) -> str:
        found = record.__dict__.get(_FIELDS)
        fields: Mapping[str, object] = found if isinstance(found, Mapping) else {}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        raised = self.formatException(record.exc_info) if record.exc_info else ""
        if self._form == "text":
            told = "".join(f" {name}={_short(value)}" for name, value in fields.items())
            line = f"{at} {record.levelname} {record.name}: {record.getMessage()}{told}"
            return self._safe(f"{line}\n{raised}" if raised else line)
        whole: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if raised:
            whole["exception"] = raised
        # Before the quotes and escapes of JSON, in which a key would not be found.
        return json.dumps(self._clean(to_json(whole)), ensure_ascii=False)

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return self._safe(value)
        if isinstance(value, dict):
            return {name: self._clean(inner) for name, inner in value.items()}
        return [self._clean(inner) for inner in value] if isinstance(value, list) else value

    def _safe(self, text: str) -> str:
        return redacted(masked(text), self._keys)


def _short(value: object) -> str:
    text = str(value) if isinstance(value, int | float) else json.dumps(to_json(value), ensure_ascii=False)
    bare = text[1:-1]
    return bare if isinstance(value, str) and bare and not set(bare) & set(' "=\\') else text
