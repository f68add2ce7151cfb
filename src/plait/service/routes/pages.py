"""The page at `/`: static files that come with the package, under a policy that lets nothing else in."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from plait.service.problems import problem

router = APIRouter(include_in_schema=False)
"""To be included without asking who calls: the page is what asks people for their key."""

_SCRIPT = "text/javascript; charset=utf-8"
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "api.js": _SCRIPT,
    "elements.js": _SCRIPT,
    "fields.js": _SCRIPT,
    "forms.js": _SCRIPT,
    "interrupts.js": _SCRIPT,
    "keys.js": _SCRIPT,
    "limits.js": _SCRIPT,
    "nodes.js": _SCRIPT,
    "outcomes.js": _SCRIPT,
    "page.js": _SCRIPT,
    "panes.js": _SCRIPT,
    "recents.js": _SCRIPT,
    "sse.js": _SCRIPT,
    "streams.js": _SCRIPT,
}
"""Every file that is served: a name that is not here is no path."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Kept, but asked for each time: after an upgrade no page is half of the old one.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    etag: str


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page for people."""
    return await _answer(request, "index.html")


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
async def page_file(request: Request, name: str) -> Response:
    """A script, the style or the icon of the page."""
    if name not in _TYPES or name == "index.html":
        raise problem(404, "Not Found")
    return await _answer(request, name)


async def _answer(request: Request, name: str) -> Response:
    found = await asyncio.to_thread(_read, name)
    headers = {**_HEADERS, "ETag": found.etag}
    # A proxy that compresses weakens the tag.
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if found.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=_TYPES[name], headers=headers)


@cache
def _read(name: str) -> _File:
    content = files("plait").joinpath("service", "page", name).read_bytes()
    return _File(content, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
