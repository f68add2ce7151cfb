"""The service as an application of its own, or as a router of somebody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware

from plait.app import App, find_app, settings_of
from plait.service.auth.authorities import HostAuthority, note_user
from plait.service.auth.pages import LOCAL, LOCAL_ORIGIN, PagesOfOthers
from plait.service.callers import Authority
from plait.service.listeners import Listener
from plait.service.options import ServiceOptions
from plait.service.routes import (
    assistants,
    chat_completions,
    crons,
    generate,
    items,
    metrics,
    pages,
    runs,
    states,
    systems,
    threads,
    workflows,
)
from plait.service.routes.service_routes import router_for
from plait.service.services import Service, address_for
from plait.settings import Settings
from plait.store.addresses import Address, is_dsn

_EXPOSED = ["Content-Location", "Location", "Retry-After", "X-Pagination-Next", "X-Pagination-Total"]
_GUARDED = (workflows, assistants, threads, states, runs, crons, items, generate, chat_completions, metrics)


def create_router(
    app: App | Path | str | None = None,
    *,
    owner: Any = None,
    settings: Settings | None = None,
    options: ServiceOptions | None = None,
    store: Address | None = None,
    listeners: Sequence[Listener] = (),
) -> APIRouter:
    """The service's routes, for an application that is there: `app.include_router(create_router("langgraph.json"))`.

    `app` is a langgraph.json, its folder, or an App; else the nearest above the working directory, else plait's own.
    `owner` is the host's dependency that says whose request it is (`Depends(current_user)`): a text, or an object or a
    mapping with `identity`, `id` or `sub`; without it the app's own Auth, API keys if there are any, or nobody decides.
    `store` is where everything is kept: a file, or the DSN of a PostgreSQL database that other servers may share
    (`postgresql://...`); else that of the settings (PLAIT_STORE), else `service.db` in plait's home folder.

    The router's lifespan, which FastAPI runs with the application's, opens the store and begins what waits in it.
    Blocks: reads the app's file. Raises AppError and SettingsError.
    """
    authority = HostAuthority() if owner is not None else None
    service = _service(app, settings, options, store, authority=authority, listeners=listeners)
    return router_of(service, owner=owner)


def create_app(
    app: App | Path | str | None = None,
    *,
    settings: Settings | None = None,
    options: ServiceOptions | None = None,
    store: Address | None = None,
    require_keys: bool = False,
    listeners: Sequence[Listener] = (),
) -> FastAPI:
    """The service as an application: what `plait serve` runs. Arguments and errors as for `create_router`.

    With `require_keys` every request needs an API key, also while there are none.
    """
    service = _service(app, settings, options, store, require_keys=require_keys, listeners=listeners)
    return app_of(service)


def router_of(service: Service, *, owner: Any = None) -> APIRouter:
    """The routes of a service that somebody made."""

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        async with service:
            yield

    router = APIRouter(lifespan=lifespan)
    before = [Depends(_noted(owner))] if owner is not None else []
    router.include_router(systems.router, dependencies=[systems.standing(service)])
    router.include_router(pages.router)
    for module in _GUARDED:
        router.include_router(router_for(module.router, service, before=before))
    return router


def app_of(service: Service) -> FastAPI:
    """An application with the routes of a service."""
    made = FastAPI(title="plait", summary="LangGraph workflows behind the Agent Server API.")
    made.include_router(router_of(service))
    origins = service.options.cors_origins
    made.add_middleware(PagesOfOthers, service=service, hosts=service.options.hosts, origins=origins)
    if origins:
        made.add_middleware(
            CORSMiddleware,
            allow_origins=[origin for origin in origins if origin != LOCAL_ORIGINS],
            allow_origin_regex=LOCAL_ORIGIN if LOCAL_ORIGINS in origins else None,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            allow_private_network=True,
        )
    return made


LOCAL_ORIGINS = LOCAL
"""Among `cors_origins`: pages that this machine serves, on any port."""


def _noted(owner: Any) -> Any:
    async def note(request: Request, user: Any = owner) -> None:
        note_user(request, user)

    return note


def _service(
    app: App | Path | str | None,
    settings: Settings | None,
    options: ServiceOptions | None,
    store: Address | None,
    *,
    authority: Authority | None = None,
    require_keys: bool = False,
    listeners: Sequence[Listener] = (),
) -> Service:
    found = app if isinstance(app, App) else find_app(Path(app) if app is not None else None)
    settings = settings or settings_of(found)
    if isinstance(store, str) and is_dsn(store):
        settings = settings.override(store=store)  # limits are shared over it, too
    return Service(
        app=found,
        # The embedded model answers where it is named: nobody is to take its words for those of a real one.
        settings=replace(settings, embedded=False),
        address=address_for(settings, store),
        options=options or ServiceOptions(),
        authority=authority,
        require_keys=require_keys,
        listeners=listeners,
    )
