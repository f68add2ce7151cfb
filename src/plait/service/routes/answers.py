"""Answers that hold anything a graph may hold, and pages of what a search found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fastapi import Response

from plait.service.json_texts import dumps
from plait.service.problems import problem
from plait.store.service.faults import FilterRefused


def answer(value: object, *, headers: Mapping[str, str] | None = None) -> Response:
    """A 200 with the value as JSON; it is not checked against the route's model, which only documents it."""
    return Response(dumps(value), 200, headers, "application/json")


def page(
    found: Sequence[Mapping[str, object]], *, limit: int, offset: int, select: Sequence[str] | None = None
) -> Response:
    """The first `limit` of what a search for one more than that found.

    X-Pagination-Total counts what was left out, what is here, and one if there is more; X-Pagination-Next is the
    offset to go on with, if there is more.
    """
    here = found[:limit]
    more = len(found) > limit
    headers = {"X-Pagination-Total": str(offset + len(found))}
    if more:
        headers["X-Pagination-Next"] = str(offset + limit)
    if select:
        wanted = {*select, "extracted"}
        here = [{key: value for key, value in one.items() if key in wanted} for one in here]
    return answer(here, headers=headers)


@contextmanager
def filters_checked() -> Iterator[None]:
    """Answers a filter that the store refuses with a 422."""
    try:
        yield
    except FilterRefused as error:
        raise problem(422, str(error)) from error
