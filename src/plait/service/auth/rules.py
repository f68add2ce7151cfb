"""An app's own `langgraph_sdk.Auth`: who its authenticate function says a caller is, what its `on` functions allow.

What they are called with, and in which order they are looked for, is in the docstrings of langgraph_sdk/auth.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from langgraph_sdk import Auth
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from plait.app import App, activate
from plait.errors import AppError, WorkflowBroken
from plait.service.auth.users import KnownUser, known_user
from plait.service.callers import Action, Caller, Resource
from plait.service.problems import problem
from plait.store.service.records import EVERYTHING, Access
from plait.targets import import_target, split_target

_log = logging.getLogger(__name__)
_PARAMETERS = (
    "request", "body", "path", "method", "path_params", "query_params", "headers", "authorization",
)  # fmt: skip
_READERS = frozenset({"request", "body"})
_OPERATORS = ("$eq", "$contains")


def load_auth(app: App) -> Auth:
    """The Auth that `"auth": {"path": "./auth.py:auth"}` of the app's langgraph.json names. Blocks: imports it.

    Raises AppError where there is none, or it has no authenticate function that can be called.
    """
    where = f'{app.file}: "auth"'
    try:
        file, variable = split_target(str(app.auth["path"]))
        activate(app)
        module = import_target(file, app.root, app.import_folders or (app.root,))
    except WorkflowBroken as broken:
        raise AppError(f"{where}: {broken}") from broken.__cause__
    found = getattr(module, variable, None)
    if not isinstance(found, Auth):
        kind = "nothing" if found is None else type(found).__name__
        raise AppError(f"{where}: expected {variable!r} of {module.__file__} to be a langgraph_sdk.Auth, found {kind}")
    try:
        _parameters(found)
    except ValueError as error:
        raise AppError(f"{where}: {error}") from error
    return found


class HandlerAuthority:
    """Lets an app's Auth decide. Where it has no `on` functions, each caller sees what is theirs.

    Raises ValueError for an Auth whose authenticate function is missing or asks for what there is not.
    """

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._wanted = _parameters(auth)
        # The SDK keeps the names of these for servers to read: see the comment in its Auth.__init__.
        self._global = auth._global_handlers  # noqa: SLF001
        self._specific = auth._handlers  # noqa: SLF001

    @property
    def reads_bodies(self) -> bool:
        """Whether the app's function may read them."""
        return not _READERS.isdisjoint(self._wanted)

    async def authenticate(self, connection: HTTPConnection) -> Caller:
        """Whoever the app's function says. Raises what status it asks for, a 401 for nobody, a 500 where it fails.

        A function that is not async is called in a thread. `body` is {} where the request has none in JSON; it can
        be read again only from the same Request.
        """
        function: Callable[..., Any] = self._auth._authenticate_handler  # type: ignore[assignment]  # noqa: SLF001
        given = {name: await _argument(name, connection) for name in self._wanted}
        try:
            if _is_async(function):
                found = await function(**given)
            else:
                found = await asyncio.to_thread(function, **given)
                found = await found if inspect.isawaitable(found) else found
            user = known_user(found)
        except Exception as error:  # noqa: BLE001 - whatever the app's function raises keeps the caller out
            _refuse(error, 401, "authenticate")
        if user is None:
            raise problem(401, "the app's authenticate function knows no user of this request: sign in")
        address = connection.client.host if connection.client else ""
        return Caller(user.identity, address, tuple(user.permissions), user=user)

    async def authorize(self, caller: Caller, resource: Resource, action: Action, value: dict[str, object]) -> Access:
        """What the app's function for this resource and action lets through; it may change `value` in place.

        Looked for in this order: resource and action, resource, action, all. Where there are others but none of these,
        everything is let through. Raises a 403, the status that the function asks for, or a 500 where it fails.
        """
        if not self._specific and not self._global:
            return Access(owner=caller.identity)
        keys = ((resource, action), (resource, "*"), ("*", action))
        found = next((self._specific[key] for key in keys if key in self._specific), self._global)
        if not found:
            return EVERYTHING
        user = caller.user if isinstance(caller.user, KnownUser) else KnownUser(caller.identity, caller.user)
        context = Auth.types.AuthContext(
            permissions=list(caller.permissions),
            user=user,  # pyright: ignore[reportArgumentType]  (their __contains__ is declared to return None)
            resource=resource,
            action=action,
        )
        try:
            allowed: object = await found[-1](ctx=context, value=value)
            if allowed is None or allowed is True:
                return EVERYTHING
            filters = None if allowed is False else _filters(allowed)
        except Exception as error:  # noqa: BLE001 - whatever the app's function raises is no permission
            _refuse(error, 403, f"on {resource}.{action}")
        if filters is None:
            raise problem(403, f"the app's Auth does not allow {caller.identity!r} to {action} {resource}")
        return Access(filters=filters)


def _parameters(auth: Auth) -> tuple[str, ...]:
    function = auth._authenticate_handler  # noqa: SLF001
    if function is None:
        raise ValueError("expected an Auth with a function for @auth.authenticate, found none: add one")
    wanted = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        if name in _PARAMETERS and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            wanted.append(name)
        elif parameter.default is inspect.Parameter.empty:
            raise ValueError(
                f"expected authenticate to take some of {', '.join(_PARAMETERS)} by name, found {name!r}: rename it"
            )
    return tuple(wanted)


def _is_async(function: Callable[..., Any]) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - it may be an object whose __call__ is async
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


async def _argument(name: str, connection: HTTPConnection) -> object:
    match name:
        case "request":
            is_http = connection.scope["type"] == "http" and not isinstance(connection, Request)
            return Request(connection.scope) if is_http else connection
        case "body":
            return await _body(connection)
        case "path":
            return connection.scope["path"]
        case "method":
            return connection.scope.get("method", "GET")  # a WebSocket has none
        case "path_params":
            return dict(connection.path_params)
        case "query_params":
            return dict(connection.query_params)
        case "headers":
            return dict(connection.scope["headers"])
        case _:
            return connection.headers.get("authorization")


async def _body(connection: HTTPConnection) -> object:
    if not isinstance(connection, Request):
        return {}
    try:
        return await connection.json()
    except (ValueError, RecursionError):  # the route says what is wrong with it
        return {}


def _filters(allowed: object) -> dict[str, object]:
    """Checked, since one that means something else would let through too much."""
    if not isinstance(allowed, Mapping):
        raise TypeError(f"expected None, True, False or a dict of filters, found {type(allowed).__name__}")
    for key, wanted in allowed.items():
        operators = list(wanted) if isinstance(wanted, Mapping) else ["$eq"]
        if not isinstance(key, str) or len(operators) != 1 or operators[0] not in _OPERATORS:
            raise ValueError(
                f"expected a filter such as {{'owner': 'ada'}}, {{'owner': {{'$eq': 'ada'}}}} or "
                f"{{'members': {{'$contains': 'ada'}}}}, found one on {key!r} with {operators}"
            )
    return dict(allowed)


def _refuse(error: Exception, status: int, what: str) -> NoReturn:
    """Answer what an app's function raised: the status it names, `status` for an assert, else a 500."""
    if isinstance(error, HTTPException):
        raise error
    if isinstance(error, Auth.exceptions.HTTPException):
        raise problem(error.status_code, error.detail, headers=error.headers) from error
    if isinstance(error, AssertionError):
        raise problem(status, str(error) or "the app's Auth refuses this") from error
    _log.error("the app's Auth failed in %s", what, exc_info=error)
    raise problem(500, f"the app's Auth failed in {what} ({type(error).__name__}): see the server's log") from error
