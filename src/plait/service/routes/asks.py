"""What every route gets: the service it belongs to, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from plait.service.callers import Action, Caller, Resource
from plait.store.service.records import Access

if TYPE_CHECKING:
    from plait.service.services import Service


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `service` is whose route it came to, `caller` who sent it."""

    service: Service
    caller: Caller

    async def access(self, resource: Resource, action: Action, value: dict[str, object] | None = None) -> Access:
        """What the caller may see of a resource; `value` as in `Authority.authorize`. Raises HTTPException (403)."""
        return await self.service.authority.authorize(self.caller, resource, action, {} if value is None else value)


async def _ask(request: Request) -> Ask:
    # Put there by the router's dependency. Asynchronous, or every request would take a thread for it.
    found: Ask = request.state.plait_ask
    return found


Asked = Annotated[Ask, Depends(_ask)]
"""The type of a route's parameter: `async def get(asked: Asked, ...)`."""
