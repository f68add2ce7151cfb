"""`GET /metrics`: the service's figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from plait.service.problems import documented
from plait.service.routes.asks import Asked
from plait.service.routes.service_routes import ServiceRoute

router = APIRouter(tags=["metrics"], route_class=ServiceRoute)

_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_EXAMPLE = 'plait_runs_total{workflow="story",status="success"} 3.0\n'


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented(401, 403),
    },
)
async def metrics(asked: Asked) -> Response:
    """Runs, queue, permits, waits by cause, tokens, cost and latencies of this server process, over all callers."""
    return Response(asked.service.metrics.text(), headers={"content-type": _TYPE})
