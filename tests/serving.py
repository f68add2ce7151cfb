"""Runs the service as `plait serve` does, in a thread of this process, on a free port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from plait.app import App
from plait.process import own_process
from plait.service import ServiceOptions, create_app
from plait.settings import Settings, from_env


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    url: str
    server: uvicorn.Server


@contextmanager
def served(
    app: App | Path | str | None = None,
    *,
    settings: Settings,
    options: ServiceOptions | None = None,
    store: Path | None = None,
    require_keys: bool = False,
) -> Iterator[Served]:
    """The service of an app while the block lasts; `settings` must name a home folder of the test's own."""
    made = create_app(app, settings=settings, options=options, store=store, require_keys=require_keys)
    with listening(made, settings=settings) as found:
        yield found


@contextmanager
def listening(made: FastAPI, *, settings: Settings | None = None) -> Iterator[Served]:
    """Any application on a free port while the block lasts; with `settings` its process is plait's own."""
    # Without its protocol asyncio leaves out TCP_NODELAY, and answers take 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(made, log_level="warning", lifespan="on", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    failures: list[BaseException] = []

    async def serve() -> None:
        if settings is None:
            await server.serve([listener])
        else:
            with own_process(settings):
                await server.serve([listener])

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - it is told by the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run, name="served", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        threading.Event().wait(0.01)
    if failures or not server.started:
        raise RuntimeError("the service did not start") from (failures[0] if failures else None)
    try:
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", server)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def settings_in(home: Path, *, base_url: str | None = None, **variables: str) -> Settings:
    """Settings with a home of their own, and a provider where there is one."""
    environ = {"PLAIT_HOME": str(home), "HOME": str(home), **variables}
    if base_url is not None:
        environ |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MODEL": "openai:sim"}
    return replace(from_env(environ), embedded=False)


__all__: Sequence[str] = ("Served", "listening", "served", "settings_in")
