"""Whether the service is there, and what it is."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from plait.service.bodies.fields import JsonObject
from plait.service.problems import documented, problem

if TYPE_CHECKING:
    from plait.service.services import Service

router = APIRouter(tags=["system"])
"""To be included without asking who calls: load balancers have no key."""


def standing(service: Service) -> Any:
    """The dependency that tells these routes whose they are."""

    async def note(request: Request) -> None:
        request.state.plait_service = service

    return Depends(note)


async def _service(request: Request) -> Any:
    return request.state.plait_service


Standing = Annotated[Any, Depends(_service)]


class Okay(BaseModel):
    """That the service answers."""

    ok: bool = Field(description="Always true: a service that cannot answer does not.")


class Info(BaseModel):
    """What answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": "0.1.0", "flags": {"assistants": True}}]})

    version: str = Field(description="Of plait.")
    langgraph_py_version: str = Field(description="Of langgraph.")
    flags: dict[str, bool] = Field(description="What there is of the Agent Server API.")
    host: JsonObject = Field(description="Where it runs: always `self-hosted`.")


@router.get("/ok", responses=documented(503))
async def okay(
    service: Standing, check_db: Annotated[bool, Query(description="Ask for the store, too.")] = False
) -> Okay:
    """Whether the service answers; with `check_db` whether it can do its work."""
    if check_db and (trouble := service.trouble()):
        raise problem(503, trouble)
    return Okay(ok=True)


@router.get("/health", responses=documented(503))
async def health(service: Standing) -> Okay:
    """Whether requests had better come here: 503 while the store does not answer, and while the server shuts down."""
    if trouble := service.trouble():
        raise problem(503, trouble, headers={"Retry-After": "5"})
    return Okay(ok=True)


@router.get("/info")
async def info() -> Info:
    """What answers, and what it can do."""
    flags = {"assistants": True, "crons": True, "langsmith": False}
    plait, langgraph = await asyncio.to_thread(_versions)
    return Info(version=plait, langgraph_py_version=langgraph, flags=flags, host={"kind": "self-hosted"})


@cache
def _versions() -> tuple[str, str]:
    return _version("plait"), _version("langgraph")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
