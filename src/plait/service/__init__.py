"""LangGraph workflows behind HTTP: the Agent Server API, and simpler ways for people with curl and OpenAI clients.

    app.include_router(plait.service.create_router("langgraph.json", owner=Depends(current_user)))

`plait serve` runs the same as an application of its own. Needs the extra `serve`.
"""

from __future__ import annotations

from plait.errors import SettingsError

try:
    from plait.service.apps import LOCAL_ORIGINS, create_app, create_router
    from plait.service.callers import Caller
    from plait.service.listeners import Figures, Listener
    from plait.service.options import ServiceOptions
except ModuleNotFoundError as error:
    if error.name not in {"fastapi", "starlette", "orjson", "cronsim", "prometheus_client", "uvicorn"}:
        raise
    raise SettingsError(
        f"the service needs {error.name}, which is not installed: pip install 'plait[serve]'"
    ) from error

__all__ = ["LOCAL_ORIGINS", "Caller", "Figures", "Listener", "ServiceOptions", "create_app", "create_router"]
