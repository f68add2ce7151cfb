"""Which errors of a run would meet every further one alike."""

from __future__ import annotations

import asyncio

import pytest

from plait.errors import CallRefused, EndpointUnreachable
from plait.failures import explain, is_fatal
from plait.settings import from_env


async def test_a_fatal_error_is_found_among_those_of_a_task_group() -> None:
    async def refused() -> None:
        raise RuntimeError("judge") from CallRefused("wrong key")

    async def broken() -> None:
        raise ValueError("no title")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(broken())
            group.create_task(refused())

    with pytest.raises(ExceptionGroup) as raised:
        await both()
    assert is_fatal(raised.value)
    assert is_fatal(ExceptionGroup("outer", [raised.value]))
    assert str(explain(raised.value, from_env({}))) == "wrong key"


def test_a_group_of_errors_that_concern_one_run_is_not_fatal() -> None:
    assert not is_fatal(ExceptionGroup("two", [ValueError("no title"), EndpointUnreachable("no answer")]))


def test_an_error_that_is_raised_out_of_its_own_group_is_followed_once() -> None:
    error = ValueError("no title")
    error.__context__ = ExceptionGroup("one", [error])
    assert not is_fatal(error)
