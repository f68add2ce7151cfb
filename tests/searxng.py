"""A loopback server that answers as SearXNG does, or as a server that is none.

async with Searxng(results) as searxng:
    ... searxng.url ...
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

Result = Mapping[str, object]


class Searxng:
    """Counts its `queries`; `arrived` is set by the first of them."""

    def __init__(
        self, results: Sequence[Result] = (), *, status: int = 200, body: str | None = None, held: bool = False
    ) -> None:
        self.results = results
        self.status = status
        self.body = body
        """An HTML page in place of the results."""
        self.hold = asyncio.Event()
        """With `held`, nothing is answered until it is set."""
        self.arrived = asyncio.Event()
        self.queries: list[Mapping[str, str]] = []
        self.headers: list[Mapping[str, str]] = []
        self.url = ""
        if not held:
            self.hold.set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/search", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await web.SockSite(self._runner, listener).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        self.headers.append(request.headers)
        self.arrived.set()
        await self.hold.wait()
        if self.body is not None:
            return web.Response(status=self.status, text=self.body, content_type="text/html")
        answer = {"query": request.query.get("q"), "results": list(self.results), "infoboxes": [], "suggestions": []}
        return web.json_response(answer, status=self.status)


def page(number: int) -> Result:
    return {
        "title": f"Page {number}",
        "url": f"https://example.org/{number}",
        "content": f"What page {number} says.",
        "engine": "a",
        "score": 1.0,
    }
