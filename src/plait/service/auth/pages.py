"""What keeps web pages of others out of a service that asks nobody who they are.

A browser on this machine reaches 127.0.0.1 for every page it shows. A name that a page's owner points at 127.0.0.1 (DNS
rebinding) makes such a page one of the service's own, but its requests name that host. A request that needs no leave
of the service (a POST of a form, or one without a content type) names the page's origin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from plait.service.auth.authorities import OpenAuthority
from plait.service.auth.binds import is_local
from plait.service.callers import Authority
from plait.service.json_texts import dumps

ANY = "*"
LOCAL = "local"
"""Among hosts and origins: this machine, on any port."""
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_LOCAL_ORIGIN = re.compile(LOCAL_ORIGIN)
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal(method: str, headers: Headers, *, hosts: Sequence[str], origins: Sequence[str]) -> tuple[int, str] | None:
    """The status and the reason to refuse a request with; None where it may be answered.

    `hosts` are the names that are answered (`*`: any), `origins` the pages that may call beside the service's own.
    """
    host = headers.get("host", "")
    # Who sends none is no browser.
    if host and ANY not in hosts and not any(_is(host, one) for one in hosts):
        return 421, (
            f"Host: expected this machine (localhost, 127.0.0.1), found {host[:100]!r}: a service that asks nobody who "
            "they are answers under no other name, which web pages of others could use; make a key with `plait keys "
            "create NAME`, or allow the name: plait serve --allow-host NAME"
        )
    origin = headers.get("origin")
    if method in _READS or origin is None or ANY in origins or origin in origins:
        return None
    if origin.partition("://")[2] == host or (LOCAL in origins and _LOCAL_ORIGIN.fullmatch(origin)):
        return None
    return 403, (
        f"Origin: expected a page of this machine, found {origin[:100]!r}: a service that asks nobody who they are "
        "takes requests of no other pages; allow it: plait serve --cors-origin ORIGIN"
    )


def _is(host: str, allowed: str) -> bool:
    name = _name(host)
    return (is_local(name) or name.endswith(".localhost")) if allowed == LOCAL else name == _name(allowed)


def _name(host: str) -> str:
    """Without the port, in lower case."""
    found = host.lower()
    if found.startswith("["):
        return found.partition("]")[0] + "]"
    return (found if found.count(":") > 1 else found.partition(":")[0]).removesuffix(".")


class _Guarded(Protocol):
    authority: Authority


class PagesOfOthers:
    """ASGI middleware that refuses their requests where the service's authority, which its lifespan sets, is open."""

    def __init__(self, app: ASGIApp, *, service: _Guarded, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._service = service
        self._hosts = hosts
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and isinstance(self._service.authority, OpenAuthority):
            found = refusal(scope["method"], Headers(scope=scope), hosts=self._hosts, origins=self._origins)
            if found is not None:
                answer = Response(dumps({"detail": found[1]}), found[0], media_type="application/json")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
