"""What becomes of evaluators' errors: a failure of one row, or the end of all; and what is stored of them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest
from openevals.exact import exact_match
from openevals.llm import create_async_llm_as_judge

import plait
from plait.datasets import Example
from plait.errors import SettingsError
from plait.experiments.evaluators import evaluator, score_all
from plait.experiments.records import ExampleRun, Failure, Score
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope, entered
from plait.settings import Settings, from_env
from plait.simulator import Behaviour, Simulator


@pytest.fixture
def settings(provider: Simulator) -> Settings:
    return from_env({"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "marigold"}).override(
        model="openai:m", max_attempts=1
    )


def scope_of(settings: Settings) -> Scope:
    return Scope("a run", gate=gate_for(settings), settings=settings)


def run_of(outputs: object = None, reference: dict[str, object] | None = None, **parts: Any) -> ExampleRun:
    example = Example(3, "a tide", {"question": "why?"}, reference, {"split": "test"})
    given = {"answer": "the moon"} if outputs is None else outputs
    return ExampleRun(position=3, example=example, outputs=given, **parts)


async def failed(target: object, **options: Any) -> Failure:
    [(_, outcome)] = await score_all([evaluator(target)], run_of(), **options)
    assert isinstance(outcome, Failure)
    return outcome


async def test_an_error_is_a_failure_that_names_the_line_and_leaves_the_others_alone() -> None:
    def broken(outputs: dict[str, Any]) -> bool:
        return bool(outputs["titel"])

    outcomes = await score_all([evaluator(broken), evaluator(lambda outputs: True, name="fine")], run_of())
    failure = outcomes[0][1]
    assert isinstance(failure, Failure)
    assert (failure.evaluator, failure.type) == ("broken", "KeyError")
    assert failure.message.startswith("'titel' (test_evaluator_faults.py:")
    assert outcomes[1][1] == (Score("fine", True),)


async def test_a_missing_reference_is_named_where_the_evaluator_needs_one() -> None:
    def compare(outputs: Any, reference_outputs: Any) -> bool:
        return bool(outputs["answer"] == reference_outputs["answer"])

    assert (await failed(compare)).message.endswith("the example has no reference_outputs")
    assert (await failed(exact_match)).message.endswith("the example has no reference_outputs")


async def test_exits_self_cancellations_and_forgotten_awaits_are_failures_too() -> None:
    def leave(outputs: Any) -> bool:
        raise SystemExit("bye")

    async def leave_later(outputs: Any) -> bool:
        raise SystemExit("bye")

    async def cancelled(outputs: Any) -> bool:
        raise asyncio.CancelledError

    def cancelled_in_thread(outputs: Any) -> bool:
        raise asyncio.CancelledError

    def forgot(outputs: Any) -> Any:
        return leave_later(outputs)

    assert (await failed(leave)).type == "SystemExit"
    assert (await failed(leave_later)).type == "SystemExit"
    assert (await failed(cancelled)).type == "CancelledError"
    assert (await failed(cancelled_in_thread)).type == "CancelledError"
    assert "is it async, without `async def`?" in (await failed(forgot)).message


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_would_fail_every_run_stops_the_others_and_is_raised(is_async: bool) -> None:
    ended: list[str] = []

    async def waits(outputs: Any) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")
        return True

    def broke(outputs: Any) -> bool:
        raise RuntimeError from SettingsError("no model")

    async def broke_later(outputs: Any) -> bool:
        raise RuntimeError from SettingsError("no model")

    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError) as raised:
            await score_all([evaluator(waits), evaluator(broke_later if is_async else broke)], run_of())
    assert isinstance(raised.value.__cause__, SettingsError)
    assert ended == ["waits"]


async def test_a_judge_that_is_refused_stops_everything(provider: Simulator, settings: Settings) -> None:
    provider.script(Behaviour(status=401))
    with entered(Scope("a run", gate=gate_for(settings), settings=settings)):
        judge = evaluator(create_async_llm_as_judge(prompt="{outputs}", judge=plait.chat_model()))
        with pytest.raises(Exception, match="401") as raised:
            await score_all([judge], run_of())
    assert plait.is_fatal(raised.value)


async def test_an_own_client_that_is_refused_stops_everything(provider: Simulator, settings: Settings) -> None:
    provider.script(Behaviour(status=401))

    def judge(outputs: Any) -> bool:
        with openai.OpenAI(base_url=provider.base_url, api_key="wrong", max_retries=0) as client:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "judge"}])
        return True

    with entered(scope_of(settings)), pytest.raises(openai.AuthenticationError):
        await score_all([evaluator(judge)], run_of())


class NotFound(Exception):
    status_code = 404


async def test_a_refusal_of_another_service_concerns_one_run(settings: Settings) -> None:
    def page_is_there(outputs: Any) -> bool:
        raise NotFound("no such page")

    async def page_is_there_later(outputs: Any) -> bool:
        raise NotFound("no such page")

    def answers(outputs: Any) -> bool:
        with httpx.Client(trust_env=False) as client:
            client.get("http://127.0.0.1:1/")
        return True

    with entered(scope_of(settings)):
        assert (await failed(page_is_there)).type == "NotFound"
        assert (await failed(page_is_there_later)).type == "NotFound"
        assert (await failed(answers)).type == "ConnectError"
    assert (await failed(page_is_there)).type == "NotFound"


async def test_an_earlier_evaluators_failed_call_makes_no_other_refusal_fatal(
    provider: Simulator, settings: Settings
) -> None:
    provider.script(Behaviour(status=400))

    async def forgiving(outputs: Any) -> bool:
        with pytest.raises(openai.BadRequestError):
            await plait.chat_model().ainvoke("judge")
        return True

    def page_is_there(outputs: Any) -> bool:
        raise NotFound("no such page")

    with entered(scope_of(settings)) as scope:
        await score_all([evaluator(forgiving)], run_of())
        assert scope.usage.failed_calls == 1
        assert (await failed(page_is_there)).type == "NotFound"


async def test_what_stops_everything_is_found_in_groups_and_causes(settings: Settings) -> None:
    async def several(outputs: Any) -> bool:
        raise ExceptionGroup("two", [ValueError("x"), ExceptionGroup("one", [SettingsError("no model")])])

    def caused(outputs: Any) -> bool:
        raise RuntimeError("judge") from SettingsError("no model")

    for each in (several, caused):
        with entered(scope_of(settings)), pytest.raises((ExceptionGroup, RuntimeError)):
            await score_all([evaluator(each)], run_of())


async def test_a_group_of_another_services_refusals_that_goes_round_in_a_circle_concerns_one_run() -> None:
    def page_is_there(outputs: Any) -> bool:
        first = ValueError("bad page")
        try:
            raise ExceptionGroup("pages", [first, ValueError("another")])
        except ExceptionGroup:
            raise first  # noqa: B904  (the group becomes the context of its own member)

    assert (await failed(page_is_there)).type == "ValueError"


class Textless(Exception):
    status_code = 429

    def __str__(self) -> str:
        raise LookupError("no text")


async def test_an_error_whose_text_raises_is_a_failure() -> None:
    def textless(outputs: Any) -> bool:
        raise Textless

    failure = await failed(textless)
    assert failure.type == "Textless"
    assert failure.message.startswith("no message: its text raises LookupError (test_evaluator_faults.py:")


async def test_no_key_or_password_is_stored_with_a_failure(settings: Settings) -> None:
    def leaky(outputs: Any) -> bool:
        raise RuntimeError(f"{'.' * 1990} marigold and sk-abcdefghijklmnop at https://me:secret@host/v1")

    with entered(scope_of(settings)):
        message = (await failed(leaky)).message
    assert message.startswith(f"{'.' * 1990} *** and")
    for secret in ("mari", "sk-a", "secret"):
        assert secret not in message


async def test_no_password_is_stored_with_a_score() -> None:
    def quotes(outputs: Any) -> Score:
        where = "see https://me:secret@host/v1"
        return Score(score=1, comment=where, metadata={"pages": [{"first": where, "size": 3}]})

    [(_, outcome)] = await score_all([evaluator(quotes)], run_of())
    where = "see https://***@host/v1"
    assert outcome == (Score("quotes", 1.0, comment=where, metadata={"pages": [{"first": where, "size": 3}]}),)
