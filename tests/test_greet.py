"""The greet workflow: a name in, one sentence out."""

from __future__ import annotations

import asyncio

import pytest

import plait
from chains.answers import EmptyAnswer
from plait.errors import InputError
from plait.events import TokenEvent
from plait.settings import Settings, from_env
from plait.simulator import Simulator
from plait.weights import find


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", max_attempts=1)


async def test_a_greeting_streams_under_the_name(provider: Simulator, settings: Settings) -> None:
    events = [event async for event in plait.stream("greet", {"name": " Ada "}, settings=settings)]
    end = events[-1]
    assert end.type == "end"
    assert end.result.outputs == {"greeting": "Answer to: Write one short, friendly sentence that greets Ada."}
    assert {event.label for event in events if isinstance(event, TokenEvent)} == {"Ada"}


async def test_what_is_known_about_somebody_reaches_the_model(provider: Simulator, settings: Settings) -> None:
    context = {"prompt": "Greet in {rhyme}."}
    await plait.run("greet", {"name": "Ada", "about": "writes programs"}, context=context, settings=settings)
    system, human = (message["content"] for message in provider.requests[0].body["messages"])
    assert system == "Greet in {rhyme}."
    assert human == "Write one short, friendly sentence that greets Ada.\nAbout Ada: writes programs"


async def test_twenty_people_are_greeted_at_once(provider: Simulator, settings: Settings) -> None:
    provider.close_gate()
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(plait.run("greet", {"name": f"P{n}"}, settings=settings)) for n in range(20)]
        await provider.arrived(20)
        provider.open_gate()
    assert all(run.result().outputs["greeting"].endswith(f" P{n}.") for n, run in enumerate(runs))


async def test_no_greeting_twice_is_a_named_error(provider: Simulator, settings: Settings) -> None:
    provider.answer = lambda body: "\n"
    with pytest.raises(EmptyAnswer, match="found nothing but white space, twice"):
        await plait.run("greet", {"name": "Ada"}, settings=settings)


@pytest.mark.parametrize("inputs", [{}, {"name": " "}, {"name": "x" * 201}])
async def test_nobody_is_refused(provider: Simulator, settings: Settings, inputs: dict[str, object]) -> None:
    with pytest.raises(InputError, match="name"):
        await plait.run("greet", inputs, settings=settings)
    assert provider.requests == []


@pytest.mark.model
@pytest.mark.skipif(find("smollm2-135m", from_env()) is None, reason="weights absent: plait models pull smollm2-135m")
async def test_the_embedded_model_greets() -> None:
    result = await plait.run("greet", {"name": "Ada"}, settings=from_env().override(model="local:smollm2-135m"))
    assert result.outputs["greeting"]
