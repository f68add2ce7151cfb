"""A batch's end of its talk with Ray actors, which stand here in this process: what they are told as the head goes."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from plait.app import App, find_app
from plait.batches import ray_clusters
from plait.batches.channels import NoMore
from plait.batches.ray_clusters import RayWorkplace
from plait.batches.ray_links import RayLink


class RayError(Exception):
    """As Ray's own."""


class Method:
    """An actor's, which answers with nothing, or never."""

    def __init__(self, told: list[object] | None = None, *, answers: bool) -> None:
        self._told = told
        self._answers = answers

    def remote(self, *given: Any) -> Awaitable[Any]:
        return self._called(*given)

    async def _called(self, *given: Any) -> None:
        if self._told is not None:
            self._told += [pickle.loads(message) for message in given[0]]
        if not self._answers:
            await asyncio.Event().wait()


class Actor:
    """A live worker that has nothing to say; `told` is what it was told."""

    def __init__(self, *, answers: bool = True) -> None:
        self.told: list[object] = []
        self.greet = self.begin = self.pulse = Method(answers=answers)
        self.hear = Method(answers=False)
        self.tell = Method(self.told, answers=answers)


def linked(actor: Any) -> RayLink:
    return RayLink(actor, kill=lambda: None, ray_error=RayError, silence_s=30.0)


@pytest.fixture
def app() -> App:
    return find_app()


async def test_workers_of_a_cluster_whose_head_is_gone_are_told_to_stop_at_once(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_clusters, "_HEAD_S", 0.0)
    monkeypatch.setattr(ray_clusters, "_FAREWELL_S", 0.1)
    place = RayWorkplace("auto", app)
    place._session = SimpleNamespace(head="127.0.0.1:1")  # type: ignore[assignment]
    actors = [Actor(), Actor(answers=False)]
    links = [linked(actor) for actor in actors]
    place._links.update(links)
    async with asyncio.timeout(30.0):
        await place._watch()
        assert [await link.receive() for link in links] == [None, None]
    assert [actor.told for actor in actors] == 2 * [[NoMore(at_once=True)]]
    assert [await link.dismissed() for link in links] == 2 * ["the head of the cluster is gone"]
