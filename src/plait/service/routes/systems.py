"""Whether the service is there, and what it is."""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from plait.service.bodies.fields import JsonObject

router = APIRouter(tags=["system"])
"""To be included without asking who calls: load balancers have no key."""


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


@router.get("/ok")
async def okay() -> Okay:
    """Whether the service answers."""
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
