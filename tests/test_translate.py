"""The translate workflow: a branch per language and piece, results in the order of the languages."""

from __future__ import annotations

import pytest

import plait
from plait.errors import CallRefused, InputError
from plait.events import TokenEvent
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Body, Simulator


@pytest.fixture
async def settings(provider: Simulator) -> Settings:
    provider.answer = lambda body: f"<{body['messages'][-1]['content']}>"
    return from_env({"OPENAI_BASE_URL": provider.base_url}).override(model="openai:m", max_attempts=1)


def system_of(body: Body) -> str:
    return str(body["messages"][0]["content"])


async def test_languages_come_in_their_order_each_under_its_label(provider: Simulator, settings: Settings) -> None:
    inputs = {"text": "Good morning.", "languages": ["German", "French", "Welsh"]}
    events = [event async for event in plait.stream("translate", inputs, settings=settings)]
    end = events[-1]
    assert end.type == "end"
    good = {"text": "<Good morning.>", "error": None}
    assert end.result.outputs == {"translations": {"German": good, "French": good, "Welsh": good}}
    assert list(end.result.outputs["translations"]) == ["German", "French", "Welsh"]
    assert {event.label for event in events if isinstance(event, TokenEvent)} == {"German", "French", "Welsh"}
    assert {"French" in system_of(request.body) for request in provider.requests} == {True, False}


async def test_a_language_named_twice_is_paid_once(provider: Simulator, settings: Settings) -> None:
    inputs = {"text": "Hi", "languages": ["French", "french ", "French"]}
    result = await plait.run("translate", inputs, settings=settings)
    assert list(result.outputs["translations"]) == ["French"]
    assert len(provider.requests) == 1


async def test_a_long_text_is_translated_in_pieces_and_joined_as_it_was(
    provider: Simulator, settings: Settings
) -> None:
    provider.answer = lambda body: str(body["messages"][-1]["content"]).upper()
    text = "\n\n".join(f"Paragraph {n} says a little. And more." for n in range(40)) + " " * 300 + "End."
    inputs = {"text": text, "languages": ["French"]}
    result = await plait.run("translate", inputs, context={"most_chars": 150}, settings=settings)
    assert result.outputs["translations"]["French"]["text"] == text.upper()
    assert len(provider.requests) > 10


async def test_a_failed_piece_fails_its_language_alone(provider: Simulator, settings: Settings) -> None:
    def behave(body: Body, index: int) -> Behaviour | None:
        wrong = "into Welsh" in system_of(body) and "four" in body["messages"][-1]["content"]
        return Behaviour(status=400, error={"message": "no Welsh", "type": "x", "code": None}) if wrong else None

    provider.behave = behave
    inputs = {"text": "one two three " * 20 + "four", "languages": ["Welsh", "French"]}
    result = await plait.run("translate", inputs, context={"most_chars": 100}, settings=settings)
    translations = result.outputs["translations"]
    assert translations["Welsh"]["text"] is None
    assert "no Welsh" in translations["Welsh"]["error"]
    assert translations["French"]["error"] is None


async def test_languages_that_all_fail_are_all_named(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: Behaviour(status=400)
    result = await plait.run("translate", {"text": "Hi", "languages": ["French", "Welsh"]}, settings=settings)
    assert [item["error"] is None for item in result.outputs["translations"].values()] == [False, False]


async def test_a_refused_key_is_said_once(provider: Simulator, settings: Settings) -> None:
    provider.behave = lambda body, index: Behaviour(status=401)
    with pytest.raises(CallRefused):
        await plait.run("translate", {"text": "Hi", "languages": ["French", "Welsh"]}, settings=settings)


async def test_the_prompt_comes_from_the_context(provider: Simulator, settings: Settings) -> None:
    inputs = {"text": "Hi", "languages": ["French"]}
    await plait.run("translate", inputs, context={"prompt": "To {language}, in {verse}."}, settings=settings)
    assert system_of(provider.requests[0].body) == "To French, in {verse}."


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"text": " \n", "languages": ["French"]}, "text"),
        ({"text": "Hi", "languages": []}, "languages"),
        ({"text": "Hi", "languages": [" "]}, "languages"),
        ({"text": "Hi"}, "languages: missing"),
    ],
)
async def test_nothing_to_translate_is_refused(
    provider: Simulator, settings: Settings, inputs: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        await plait.run("translate", inputs, settings=settings)
    assert provider.requests == []
