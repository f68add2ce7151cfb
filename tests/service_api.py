"""A whole service in this process, over a real store and real graphs, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
from fastapi import FastAPI
from langchain_core.runnables import RunnableConfig
from langgraph_sdk import Auth
from langgraph_sdk.client import LangGraphClient

from plait.app import find_app
from plait.service.apps import app_of
from plait.service.auth.authorities import OpenAuthority
from plait.service.auth.rules import HandlerAuthority
from plait.service.callers import Authority
from plait.service.options import ServiceOptions
from plait.service.services import Service
from plait.service.states import outcome_of
from plait.settings import from_env

APP = find_app(Path(__file__).parent / "apps" / "service_app")
GRAPHS = tuple(APP.workflows)


@dataclass
class Api:
    """A service, for as many users as a test wants."""

    service: Service
    application: FastAPI

    def client(self, user: str = "") -> httpx.AsyncClient:
        """Sends requests as this user."""
        transport = httpx.ASGITransport(app=self.application, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers={"x-user": user})

    def sdk(self, user: str = "") -> LangGraphClient:
        """The SDK's client, unchanged."""
        return LangGraphClient(self.client(user))

    async def ran(self, graph_id: str, values: object, *, user: str = "", before: list[str] | None = None) -> str:
        """A new thread on which a graph has run, as the runner leaves it; stopped before these nodes."""
        thread_id = str(uuid4())
        body = {"thread_id": thread_id, "metadata": {"graph_id": graph_id}}
        async with self.client(user) as client:
            (await client.post("/threads", json=body)).raise_for_status()
        config: RunnableConfig = {"configurable": {"thread_id": thread_id}}
        async with self.service.graphs.opened(graph_id, owner=user) as graph:
            await graph.ainvoke(cast("dict[str, Any]", values), config, interrupt_before=before)
            left = outcome_of(await graph.aget_state(config))
        await self.service.store.threads.set_state(thread_id, left)
        return thread_id


def by_header() -> Auth:
    """An Auth whose users are named by a header; each sees what is theirs."""
    auth = Auth()

    @auth.authenticate
    async def who(headers: dict[bytes, bytes]) -> str:
        return headers.get(b"x-user", b"").decode() or "nobody"

    return auth


@asynccontextmanager
async def api_in(folder: Path, auth: Auth | None = None) -> AsyncGenerator[Api]:
    """A service that keeps everything in this folder; open to everybody without an Auth."""
    authority: Authority = HandlerAuthority(auth) if auth else OpenAuthority()
    settings = from_env({"PLAIT_HOME": str(folder)})
    options = ServiceOptions(grace_s=0.5)
    service = Service(app=APP, settings=settings, address=folder / "service.db", options=options, authority=authority)
    async with service:
        yield Api(service, app_of(service))
