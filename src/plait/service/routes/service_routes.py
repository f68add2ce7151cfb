"""A route of the service: bounds on what it reads, words for what goes wrong, in any application it is mounted in."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer

from plait.errors import PlaitError
from plait.service.clients import ClientGone
from plait.service.json_texts import loads
from plait.service.problems import answered, problem
from plait.service.routes.asks import Ask
from plait.store.service.faults import AlreadyExists, FilterRefused, ThreadBusy, ThreadNotFound

if TYPE_CHECKING:
    from plait.service.services import Service


_GONE = 499
"""Nobody reads it; in logs it says that the client left, as nginx has it."""


class Entrance:
    """The dependency of every route: finds out who asks."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, request: Request) -> None:
        found = getattr(request.state, "plait_ask", None)
        if found is not None and found.service is self.service:
            return
        caller = await self.service.authority.authenticate(request)
        request.state.plait_ask = Ask(self.service, caller)


class ServiceRoute(APIRoute):
    """Reads JSON bodies within the bounds of its service and answers errors as `{"detail": text}`."""

    service: Service | None = None
    """Set by `router_for`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        service = self.service

        async def bounded(request: Request) -> Response:
            if service is not None and not service.is_open:
                raise problem(
                    503,
                    "the service was not started: its router has a lifespan, which an application runs that includes "
                    "it (include_router, not mount) and is itself started (with TestClient: in a with block)",
                )
            try:
                if service is not None and request.method not in {"GET", "HEAD"}:
                    if not service.authority.reads_bodies:
                        # Before the body: nobody unknown makes the service keep and parse one.
                        await Entrance(service)(request)
                    await _read(request, service)
                return await handle(request)
            except RequestValidationError as error:
                raise problem(422, _explained(error.errors())) from error
            except ThreadNotFound as error:
                raise problem(404, str(error) or "Thread not found.") from error
            except (ThreadBusy, AlreadyExists) as error:
                raise problem(409, str(error) or "Conflict.") from error
            except FilterRefused as error:
                raise problem(422, str(error)) from error
            except PlaitError as error:
                raise answered(error, service.clean if service is not None else str) from error
            except ClientGone:
                return Response(status_code=_GONE)

        return bounded


_KEY = APIKeyHeader(name="X-Api-Key", auto_error=False, description="An API key, where the service asks for one.")
_BEARER = HTTPBearer(auto_error=False, description="The same, as OpenAI clients send it.")
_SCHEMES = (Security(_KEY), Security(_BEARER))
"""For the OpenAPI page: who calls is found out by the Entrance."""


def router_for(router: APIRouter, service: Service, *, before: Sequence[Any] = ()) -> APIRouter:
    """The routes of a module's router, for one service: they ask who calls, after the dependencies `before`."""
    # A class of its own: however FastAPI includes a router, it keeps the class of its routes.
    kinds: dict[type[ServiceRoute], type[ServiceRoute]] = {}
    found = APIRouter()
    for route in router.routes:
        copied = copy.copy(route)
        if isinstance(copied, ServiceRoute):
            kind = type(copied)
            copied.__class__ = kinds.setdefault(kind, type(kind.__name__, (kind,), {"service": service}))
        found.routes.append(copied)
    asking = APIRouter()
    asking.include_router(found, dependencies=[*before, Depends(Entrance(service)), *([] if before else _SCHEMES)])
    return asking


async def _read(request: Request, service: Service) -> None:
    """Read the body and parse it once; what FastAPI asks for later is there."""
    options = service.options
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > options.max_body_bytes:
        raise _too_large(options.max_body_bytes)
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > options.max_body_bytes:
            raise _too_large(options.max_body_bytes)
        pieces.append(piece)
    body = b"".join(pieces)
    request._body = body  # noqa: SLF001 - where Starlette keeps a body that was read
    if not body:
        return
    # None is none of JSON: browsers let a page of another origin send such a body without asking.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise problem(415, f"expected a body of type application/json, found {kind!r}: set the Content-Type header")
    _check_shape(body, options.max_depth)
    try:
        request._json = loads(body)  # noqa: SLF001 - likewise
    except ValueError as error:
        raise problem(422, f"expected JSON in UTF-8, found a fault: {error}") from error


def _too_large(most: int) -> Exception:
    return problem(413, f"expected a body of at most {most:,} bytes, found more: send less at once")


# A text, or what there is of one: without the end it would be looked for again from every quote in it.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = frozenset(b"[{")
_MOST_CONTAINERS = 250_000
"""Objects and lists in one body. An empty one of two bytes takes 60 in memory, and 10 MB of them take seconds."""


def _check_shape(body: bytes, max_depth: int) -> None:
    """Raises HTTPException (422) for brackets, those in texts left out, that nest too deep or are too many."""
    if body.count(b"[") + body.count(b"{") <= max_depth:
        return
    brackets = _TEXT.sub(b"", body).translate(None, _OTHERS)
    if len(brackets) > 2 * _MOST_CONTAINERS:
        raise problem(422, f"expected JSON of at most {_MOST_CONTAINERS:,} objects and lists, found more: send less")
    depth = 0
    for byte in brackets:
        depth += 1 if byte in _OPENING else -1
        if depth > max_depth:
            raise problem(422, f"expected JSON at most {max_depth} levels deep, found more")


def _explained(errors: Sequence[Any]) -> str:
    lines: dict[str, str] = {}
    for error in errors:
        place = ".".join(str(part) for part in error["loc"] if part != "body") or "body"
        field = place.partition(".")[0]
        if field not in lines:  # of a value that may be one of several kinds, every kind complains
            lines[field] = f"{place}: {_WORDS.get(error['type'], error['msg'])}"
    return "; ".join(lines.values())


_WORDS = {
    "missing": "expected a value, found none: add it",
    "extra_forbidden": "there is no such field: correct its name, or leave it out (GET /docs lists the fields)",
}
