"""What every service is observed with: its figures, its log, and traces where OpenTelemetry is installed."""

from __future__ import annotations

from importlib.util import find_spec

from plait.service.listeners import Listener
from plait.service.logs import RunLog
from plait.service.metrics import Metrics


def own_listeners(metrics: Metrics, *, log_content: bool = False) -> list[Listener]:
    """The listeners of a service; spans go to the process's own TracerProvider, and nowhere where none is set."""
    found: list[Listener] = [metrics, RunLog(content=log_content)]
    # FastAPI brings the API of OpenTelemetry along, but not every version of it does.
    if find_spec("opentelemetry") is not None and find_spec("opentelemetry.trace") is not None:
        from plait.service.telemetry import Traces  # noqa: PLC0415

        found.append(Traces())
    return found
