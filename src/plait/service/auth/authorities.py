"""The authorities that need no store: open to all, and the host's own users; and which of all a service has."""

from __future__ import annotations

import asyncio

from starlette.requests import HTTPConnection

from plait.app import App
from plait.errors import SettingsError
from plait.service.auth.keyrings import KeyAuthority
from plait.service.auth.keys import Clock, KeyStore
from plait.service.auth.users import known_user
from plait.service.callers import Action, Authority, Caller, Resource
from plait.service.problems import problem
from plait.store.service.records import EVERYTHING, Access

_NOTED = "plait_user"
_NAMES = ("identity", "id", "sub")


def address_of(connection: HTTPConnection) -> str:
    """The client's address; "" on a Unix socket."""
    return connection.client.host if connection.client else ""


class OpenAuthority:
    """Asks nobody who they are: everybody sees everything. For loopback, and behind something that checks."""

    reads_bodies = False

    async def authenticate(self, connection: HTTPConnection) -> Caller:
        return Caller(address=address_of(connection))

    async def authorize(self, caller: Caller, resource: Resource, action: Action, value: dict[str, object]) -> Access:
        return EVERYTHING


def note_user(connection: HTTPConnection, user: object) -> None:
    """Keep what the host's dependency returned for this request; HostAuthority finds it there."""
    setattr(connection.state, _NOTED, user)


class HostAuthority:
    """The host's own users, as its dependency names them: a text, or a mapping or an object with one of `identity`,
    `id` and `sub`. Each sees what is theirs. None, "" and `is_authenticated: False` are nobody: 401.
    """

    # FastAPI reads a body before it asks the host's dependency.
    reads_bodies = True

    async def authenticate(self, connection: HTTPConnection) -> Caller:
        """The user that `note_user` kept. Raises a 401 where there is none, a 500 where the host's object has no id."""
        found: object = getattr(connection.state, _NOTED, None)
        try:
            user = known_user(found, _NAMES)
        except TypeError as error:
            raise problem(500, f"create_router(owner=Depends(...)): {error}") from error
        if user is None:
            raise problem(401, "expected a signed-in user, found none: sign in to the application that serves this")
        # LangGraph takes any object with an identity as the user; the host's own is what its nodes know.
        own = found if hasattr(found, "identity") and not isinstance(found, str) else user
        return Caller(user.identity, address_of(connection), tuple(user.permissions), user=own)

    async def authorize(self, caller: Caller, resource: Resource, action: Action, value: dict[str, object]) -> Access:
        return Access(owner=caller.identity)


async def authority_for(app: App, keys: KeyStore, clock: Clock, *, require_keys: bool = False) -> Authority:
    """Who decides: the Auth of the app's langgraph.json, else API keys where there are any or they are required, else
    nobody. Revoked and expired keys count: a service does not become open because its last key ended.

    Raises AppError where the app's Auth cannot be loaded, SettingsError where both it and keys are asked for.
    """
    if app.auth:
        if require_keys:
            raise SettingsError(
                f'--auth keys: expected an app without an Auth of its own, found "auth" in {app.file}: leave one out'
            )
        from plait.service.auth.rules import HandlerAuthority, load_auth  # noqa: PLC0415 - few apps have one

        return HandlerAuthority(await asyncio.to_thread(load_auth, app))
    if require_keys or await keys.list():
        return KeyAuthority(keys, clock)
    return OpenAuthority()
