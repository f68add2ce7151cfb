"""The simulator's limits: minutes, days, tokens, concurrency; how they are told, and changed while it runs."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai
import pytest

from plait.errors import SettingsError
from plait.simulator import PRESETS, Behaviour, Clock, Profile, Simulator, preset, running
from plait.simulator.dialects import duration
from plait.simulator.meters import Meters

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()


def clock() -> Clock:
    return Clock(frozen=True, wall=NOON)


async def post(simulator: Simulator, text: str = "how are you", **fields: object) -> httpx2.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(f"{simulator.base_url}/chat/completions", json=body)


def message(found: httpx2.Response) -> str:
    return str(found.json()["error"]["message"])


async def statuses(simulator: Simulator, count: int, **fields: object) -> list[int]:
    return [(await post(simulator, f"question {number}", **fields)).status_code for number in range(count)]


async def test_a_burst_is_admitted_then_the_rate_and_refusals_cost_nothing() -> None:
    time = clock()
    async with Simulator(Profile(rpm=60, burst=3), clock=time) as simulator:
        assert await statuses(simulator, 6) == [200] * 3 + [429] * 3
        time.advance(0.999)
        assert await statuses(simulator, 1) == [429]
        time.advance(0.001)
        assert await statuses(simulator, 2) == [200, 429]
        time.advance(3600)
        assert await statuses(simulator, 4) == [200] * 3 + [429]
        assert (simulator.counters.accepted, simulator.counters.refused) == (7, {"rpm": 6})


async def test_a_refusal_says_which_limit_and_when_to_come_back() -> None:
    async with Simulator(Profile(rpm=600, burst=1), clock=clock()) as simulator:
        good = await post(simulator)
        assert good.headers["x-ratelimit-limit-requests"] == "600"
        assert good.headers["x-ratelimit-remaining-requests"] == "0"
        assert good.headers["x-ratelimit-reset-requests"] == "100ms"
        refused = await post(simulator)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert message(refused) == (
        "Rate limit reached for m in organization org-simulated on requests per min (RPM): "
        "Limit 600, Used 600, Requested 1. Please try again in 100ms."
    )
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "requests"


async def test_tokens_are_charged_for_prompt_and_answer_and_a_request_that_is_too_large_never_fits() -> None:
    time = clock()
    async with Simulator(Profile(tpm=60), clock=time, answer=lambda body: "ten " * 10) as simulator:
        answers = [await post(simulator, "word " * 15) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert answers[1].headers["x-ratelimit-remaining-tokens"] == "10"
        assert answers[1].headers["x-ratelimit-reset-tokens"] == "50s"
        assert "on tokens per min (TPM): Limit 60, Used 50, Requested 25. Please try again in 15s." in message(
            answers[2]
        )
        large = await post(simulator, "word " * 51)
        assert message(large).startswith("Request too large for m")
        assert "retry-after" not in large.headers
        time.advance(15)
        assert (await post(simulator, "word " * 15)).status_code == 200


async def test_reserved_tokens_are_those_of_max_tokens() -> None:
    async with Simulator(Profile(tpm=100, charge="reserved"), clock=clock()) as simulator:
        assert await statuses(simulator, 3, max_tokens=48) == [200, 200, 429]


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 12), ("America/Los_Angeles", 19)])
def test_a_days_limit_ends_at_midnight_of_its_zone(zone: str, hours: int) -> None:
    time = clock()
    meters = Meters(Profile(rpd=2, reset_zone=zone), time)
    assert [meters.admit(0), meters.admit(0)] == [None, None]
    refusal = meters.admit(0)
    assert refusal is not None
    assert refusal.wait_s == hours * 3600
    time.advance(hours * 3600 - 1)
    assert meters.admit(0) is not None
    time.advance(1)
    assert meters.admit(0) is None


async def test_tokens_a_day_are_counted_and_told_where_no_minute_is_limited() -> None:
    async with Simulator(Profile(tpd=20, headers="anthropic"), clock=clock()) as simulator:
        good = await post(simulator)  # 3 words in, 5 out
        assert good.headers["anthropic-ratelimit-tokens-remaining"] == "12"
        assert good.headers["anthropic-ratelimit-tokens-reset"] == "2026-07-02T00:00:00Z"
        assert await statuses(simulator, 3) == [200, 200, 429]
        assert "tokens per day (TPD)" in message(await post(simulator))


async def test_what_one_limit_refuses_is_not_charged_to_another() -> None:
    time = clock()
    async with Simulator(Profile(rpm=60, burst=1, rpd=2), clock=time) as simulator:
        assert await statuses(simulator, 5) == [200, 429, 429, 429, 429]
        time.advance(60)
        assert await statuses(simulator, 1) == [200]
        time.advance(60)
        assert "requests per day (RPD)" in message(await post(simulator))


async def test_each_dialect_has_its_own_headers() -> None:
    found = {}
    for dialect in ("openai", "azure", "anthropic", "none"):
        async with Simulator(Profile(rpm=60, burst=1, tpm=1000, headers=dialect), clock=clock()) as simulator:
            await post(simulator)
            refused = await post(simulator)
            names = ("x-ratelimit", "anthropic", "retry")
            found[dialect] = {name for name in refused.headers if name.startswith(names)}
            if dialect == "azure":
                assert refused.headers["retry-after-ms"] == "1000"
    units = ("requests", "tokens")
    assert found["none"] == {"retry-after"}
    assert found["azure"] == {"retry-after", "retry-after-ms", *(f"x-ratelimit-remaining-{unit}" for unit in units)}
    words = ("limit", "remaining", "reset")
    assert found["openai"] == {"retry-after", *(f"x-ratelimit-{word}-{unit}" for unit in units for word in words)}
    assert found["anthropic"] == {
        "retry-after",
        *(f"anthropic-ratelimit-{unit}-{word}" for unit in units for word in words),
    }


async def test_retry_after_can_be_a_date_or_missing_and_the_reason_vague() -> None:
    async with Simulator(Profile(rpm=6, burst=1, retry_after="date"), clock=clock()) as simulator:
        await post(simulator)
        dated = await post(simulator)
        assert parsedate_to_datetime(dated.headers["retry-after"]).timestamp() == NOON + 10
        simulator.change(retry_after="none", vague=True, headers="none")
        silent = await post(simulator)
    assert "retry-after" not in silent.headers
    assert silent.json()["error"] == {
        "message": "Rate limit reached",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


async def test_limits_change_while_it_runs_and_what_is_used_stays_used() -> None:
    time = clock()
    async with Simulator(Profile(rpm=60, burst=2, rpd=10), clock=time) as simulator:
        assert await statuses(simulator, 3) == [200, 200, 429]
        simulator.change(rpm=600, burst=20)
        time.advance(0.5)
        assert await statuses(simulator, 6) == [200] * 5 + [429]
        simulator.change(rpm=None, rpd=8)
        assert await statuses(simulator, 2) == [200, 429]
        with pytest.raises(SettingsError, match="rpm: expected a number above 0, found 0"):
            simulator.change(rpm=0)
        with pytest.raises(SettingsError, match="no setting 'rmp'; it has rpm"):
            simulator.change(rmp=5)
        assert simulator.profile.rpd == 8


def test_a_simulator_in_a_thread_is_changed_from_another() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    with running(Profile(rpm=60, burst=1), clock=clock()) as simulator:
        url = f"{simulator.base_url}/chat/completions"
        assert [httpx2.post(url, json=body).status_code for _ in range(2)] == [200, 429]
        simulator.change(rpm=None)
        assert httpx2.post(url, json=body).status_code == 200
        simulator.reset()
        assert (simulator.counters.received, simulator.requests) == (0, [])


async def test_above_the_concurrency_limit_requests_are_refused() -> None:
    async with Simulator(Profile(max_concurrency=2)) as simulator:
        simulator.close_gate()
        async with asyncio.TaskGroup() as group:
            good = [group.create_task(post(simulator)) for _ in range(2)]
            await simulator.arrived(2)
            refused = await post(simulator)
            assert message(refused).startswith("Too many concurrent requests")
            simulator.open_gate()
        assert [each.result().status_code for each in good] == [200, 200]
        assert (await post(simulator)).status_code == 200
        assert simulator.counters.refused == {"concurrency": 1}


async def test_or_they_queue_in_order_of_arrival_and_those_who_leave_free_their_place() -> None:
    order: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        order.append(body["messages"][0]["content"])
        return "yes"

    async with Simulator(Profile(max_concurrency=1, over_limit="queue"), answer=answer) as simulator:
        simulator.close_gate()
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(post(simulator, str(number))))
            await simulator.arrived(number + 1)
        tasks[2].cancel()
        await simulator.reach(lambda found: found.in_flight == 4)
        simulator.open_gate()
        await asyncio.wait(tasks)
        assert order == ["0", "1", "3", "4"]
        assert simulator.counters.served_peak == 1
        assert simulator.counters.peak == 5
        assert simulator.counters.closed_early == 1


async def test_raising_the_concurrency_limit_seats_those_who_queue() -> None:
    async with Simulator(Profile(max_concurrency=1, over_limit="queue")) as simulator:
        simulator.close_gate()
        tasks = [asyncio.create_task(post(simulator)) for _ in range(4)]
        await simulator.arrived(4)
        simulator.change(max_concurrency=3)
        await simulator.reach(lambda found: found.served == 3)
        simulator.open_gate()
        assert {(await task).status_code for task in tasks} == {200}
        assert simulator.counters.served_peak == 3


async def test_other_processes_watch_and_change_it_by_its_endpoints() -> None:
    async with Simulator(Profile(rpd=1), clock=clock()) as simulator, httpx2.AsyncClient() as client:
        assert await statuses(simulator, 2) == [200, 429]
        counters = (await client.get(f"{simulator.origin}/simulator/counters")).json()
        expected = {"received": 2, "accepted": 1, "refused": {"rpd": 1}, "in_flight": 0, "peak": 1, "duplicates": 0}
        assert {name: counters[name] for name in expected} == expected
        await client.post(f"{simulator.origin}/simulator/advance", json={"seconds": 86400})
        assert await statuses(simulator, 1) == [200]
        await client.post(f"{simulator.origin}/simulator/change", json={"rpd": 3})
        assert await statuses(simulator, 3) == [200, 200, 429]
        cleared = (await client.post(f"{simulator.origin}/simulator/reset")).json()
        assert (cleared["received"], cleared["accepted"], cleared["refused"]) == (0, 0, {})
        assert await statuses(simulator, 3) == [200] * 3
        wrong = await client.post(f"{simulator.origin}/simulator/change", json={"rpd": "many"})
        assert (wrong.status_code, wrong.json()["error"]) == (
            400,
            "rpd: expected a whole number of 1 or more, found 'many'",
        )
        for path, body in (("advance", {"seconds": -1}), ("advance", {}), ("change", [])):
            assert (await client.post(f"{simulator.origin}/simulator/{path}", json=body)).status_code == 400
        assert (await client.get(f"{simulator.origin}/simulator/nothing")).status_code == 404


async def test_an_accepted_body_that_comes_again_is_a_duplicate_a_refused_one_is_not() -> None:
    async with Simulator(Profile(rpm=60, burst=2), clock=clock()) as simulator:
        simulator.script(Behaviour(status=500))
        answers = [(await post(simulator)).status_code for _ in range(3)]
        assert answers == [500, 200, 429]
        assert simulator.counters.duplicates == 0
        simulator.change(rpm=None)
        await post(simulator)
        await post(simulator, "something else")
        assert simulator.counters.duplicates == 1
        assert simulator.counters.faults == {"scripted": 1}


async def test_the_sdk_waits_as_the_simulator_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Simulator(Profile(rpm=60, burst=1, headers="azure")) as simulator:
        sdk = openai.AsyncOpenAI(base_url=simulator.base_url, api_key="none", max_retries=4)
        for number in range(3):
            await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": str(number)}])
        assert simulator.counters.accepted == 3
        assert simulator.counters.refused["rpm"] >= 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rpm": -1}, "rpm: expected a number above 0, found -1"),
        ({"rpm": math.nan}, "rpm: expected a number above 0, found nan"),
        ({"burst": 0.5}, "burst: expected a number of 1 or more, found 0.5"),
        ({"rpd": 1.5}, "rpd: expected a whole number of 1 or more, found 1.5"),
        ({"max_concurrency": True}, "max_concurrency: expected a whole number of 1 or more, found True"),
        ({"over_limit": "drop"}, "over_limit: expected one of refuse, queue, found 'drop'"),
        ({"reset_zone": "Mars/Base"}, "reset_zone: expected a time zone such as Europe/Paris, found 'Mars/Base'"),
        ({"faults": {"fire": 0.1}}, "faults: expected one of 429, 429-silent, .*, found 'fire'"),
        ({"faults": {"500": 0.7, "502": 0.7}}, "sum up to 1 at most, found 1.4"),
        ({"faults": 5}, "faults: expected kinds with their probabilities, found 5"),
        ({"models": "m"}, "models: expected a list of names, found 'm'"),
        ({"vague": 1}, "vague: expected true or false, found 1"),
    ],
)
def test_values_that_cannot_be_used_are_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Profile(**changes)


def test_presets_are_profiles_with_a_note() -> None:
    assert preset("burst20").burst == 20
    assert all(each.note for each in PRESETS.values())
    with pytest.raises(SettingsError, match=r"profile: expected one of openai-tier1, .*, found 'x'"):
        preset("x")


def test_a_clock_moves_forward_only() -> None:
    with pytest.raises(SettingsError, match="forward only"):
        clock().advance(-1)


def test_durations_are_written_as_openai_writes_them() -> None:
    written = [duration(seconds) for seconds in (0, 0.1, 0.9999, 1.7, 59.9999, 360, 86341)]
    assert written == ["0ms", "100ms", "1s", "1.7s", "1m0s", "6m0s", "23h59m1s"]
