"""Who asks, and what they may do: the callers of the service and the two questions it puts about each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from starlette.requests import HTTPConnection

from plait.store.service.records import Access

Resource = Literal["assistants", "threads", "crons", "store"]
Action = Literal["create", "read", "update", "delete", "search", "create_run", "put", "get", "list_namespaces"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request."""

    identity: str = ""
    """Whose threads, assistants and items these are; "" where nobody is asked who they are."""
    address: str = ""
    """Of the client, where nothing else tells callers apart."""
    permissions: tuple[str, ...] = ()
    key_id: str = ""
    """The API key, whose rates and quotas the runs count for."""
    user: object | None = field(default=None, repr=False)
    """What the host or an Auth handler knows of them: nodes find it as `langgraph_auth_user`."""

    @property
    def client(self) -> str:
        """Who shares the queue fairly with others."""
        return self.key_id or self.identity or self.address


class Authority(Protocol):
    """Who may do what. Implementations: open (loopback), API keys, the host's own user, a `langgraph_sdk.Auth`."""

    @property
    def reads_bodies(self) -> bool:
        """Whether `authenticate` needs more of a request than its line and headers."""
        ...

    async def authenticate(self, connection: HTTPConnection) -> Caller:
        """Who sent this. Raises Unauthenticated."""
        ...

    async def authorize(self, caller: Caller, resource: Resource, action: Action, value: dict[str, object]) -> Access:
        """What of a resource this action may see. Raises Forbidden.

        `value` is what was asked for (ids, metadata, namespace, ... as the Agent Server API's Auth handlers know it);
        an Auth handler may change its `metadata` or `namespace`, and the route takes what is in it afterwards.
        """
        ...
