"""Plans: a probe whose rows are kept, a forecast that is stored and holds, and what it is compared with afterwards."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import plait
from benchmarks.cache_reuse import CALLS, conversation, rows
from benchmarks.plan import Case, Outcome, play
from benchmarks.subjects import one_call_graph
from plait.batches import NewBatch
from plait.batches.plans import Planned, comparison, plan, probe_row, stored_plan
from plait.errors import BatchPaused, InputError
from plait.flow.usage import Tokens
from plait.forecasts import ModelUse
from plait.models import chat_model
from plait.settings import Settings, from_env
from plait.simulator import Profile, Simulator
from plait.store.folders import FolderShelf
from plait.store.readers import BatchReader
from plait.store.rows import RowRecord

CASES = [
    Case("constant", "6,000 rpm, told", rows=150, seed=1),
    Case("uniform", "8 at once, queued", rows=120, seed=2),
    Case("log-normal 0.5", "10 at once, set", rows=150, seed=3),
    Case("log-normal 1", "7,500 rpm, set", rows=150, seed=4),
    Case("1 in 4 tenfold", "10 at once, set", rows=150, seed=5),
]


@pytest.fixture
async def endpoint() -> AsyncGenerator[Simulator]:
    async with Simulator(Profile(rpm=60_000, burst=1000)) as simulator:
        yield simulator


def settings_at(simulator: Simulator, home: Path, **more: str) -> Settings:
    env = {"OPENAI_BASE_URL": simulator.base_url, "OPENAI_API_KEY": "none", "PLAIT_HOME": str(home)}
    return from_env({**env, "PLAIT_MODEL": "openai:m", **more}, section={"prices": {"m": {"input": 1, "output": 4}}})


def batch_of(count: int, settings: Settings, folder: Path, probe: int | None = None) -> NewBatch:
    file = folder / "rows.jsonl"
    file.write_text("".join(f'{{"question": "question {row}"}}\n' for row in range(count)), encoding="utf-8")
    graph = one_call_graph(chat_model("openai:m", settings=settings))
    return NewBatch(workflow=graph, rows=file, settings=settings, probe=probe)


async def resume(planned: Planned, new: NewBatch, settings: Settings) -> int:
    assert not isinstance(new.workflow, str)
    done = [row async for row in plait.resume(planned.batch_id, workflow=new.workflow, settings=settings)]
    return len(done)


def read(settings: Settings, batch_id: str) -> BatchReader:
    return FolderShelf(settings.home).find(batch_id).read()


async def test_a_probe_is_run_once_and_the_rest_is_run_by_a_resume(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    new = await asyncio.to_thread(batch_of, 60, settings, tmp_path, 12)
    told: list[tuple[str, int]] = []
    planned = await plan(new, note=lambda batch_id, done: told.append((batch_id, done)))
    assert endpoint.counters.received == planned.probe.calls == 12
    assert told == [(planned.batch_id, done) for done in range(1, 13)]
    assert (planned.total, planned.forecast.rows) == (60, 48)
    assert await asyncio.to_thread(lambda: [b.status for b in FolderShelf(tmp_path).batches()]) == ["planned"]
    assert await resume(planned, new, settings) == 48
    assert endpoint.counters.received == 60
    assert endpoint.counters.duplicates == 0


async def test_the_probe_is_a_random_choice_not_the_first_rows(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    new = await asyncio.to_thread(batch_of, 200, settings, tmp_path, 10)
    first, second = await plan(new), await plan(new)
    assert first.probe.positions == second.probe.positions
    assert max(first.probe.positions) > 20


async def test_a_stored_plan_reads_back_as_it_was_made(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    planned = await plan(await asyncio.to_thread(batch_of, 30, settings, tmp_path, 10))
    with await asyncio.to_thread(read, settings, planned.batch_id) as reader:
        meta = await asyncio.to_thread(lambda: reader.meta)
    assert stored_plan(meta) == planned
    assert stored_plan({}) is None
    assert stored_plan({"forecast": {"probe": {}, "forecast": {"what": 1}}}) is None


async def test_forecast_and_actual_are_compared_once_the_batch_is_finished(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    new = await asyncio.to_thread(batch_of, 40, settings, tmp_path, 10)
    planned = await plan(new)
    with await asyncio.to_thread(read, settings, planned.batch_id) as reader:
        assert await asyncio.to_thread(comparison, reader) is None
        await resume(planned, new, settings)
        lines = await asyncio.to_thread(comparison, reader)
    assert lines is not None
    table = {line.split("  ")[0]: line.split() for line in lines[1:]}
    assert list(table) == ["cost", "tokens", "calls", "time", "failed rows"]
    # 30 rows: a prompt of 2 words, an answer of 4.
    assert table["tokens"][-2:] == [str(30 * (2 + 4)), "inside"]
    assert table["calls"][-2:] == ["30", "inside"]
    assert table["cost"][-1] == "inside"


async def test_a_batch_that_was_never_planned_has_nothing_to_compare(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    new = await asyncio.to_thread(batch_of, 3, settings, tmp_path)
    assert not isinstance(new.workflow, str)
    batch = plait.batch(new.workflow, [{"question": "one"}], settings=settings)
    assert len([row async for row in batch]) == 1
    with await asyncio.to_thread(read, settings, batch.id) as reader:
        assert await asyncio.to_thread(comparison, reader) is None


async def test_a_probe_of_the_whole_dataset_leaves_a_finished_batch(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    planned = await plan(await asyncio.to_thread(batch_of, 5, settings, tmp_path))
    assert (planned.probe.rows, planned.forecast.rows) == (5, 0)
    with await asyncio.to_thread(read, settings, planned.batch_id) as reader:
        assert (await asyncio.to_thread(lambda: reader.meta))["status"] == "finished"
        assert await asyncio.to_thread(comparison, reader) is None


async def test_a_model_without_a_price_is_named_and_tokens_are_forecast(endpoint: Simulator, tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "none", "PLAIT_HOME": str(tmp_path)}
    settings = from_env({**env, "PLAIT_MODEL": "openai:m"})
    planned = await plan(await asyncio.to_thread(batch_of, 30, settings, tmp_path, 10))
    assert planned.unpriced == ("m",)
    assert planned.probe.cost_usd is None
    assert planned.forecast.cost_usd is None
    assert 20 * 6 in planned.forecast.tokens


async def test_limits_that_bind_come_from_headers_from_settings_and_from_the_day(tmp_path: Path) -> None:
    async with Simulator(Profile(rpm=600, burst=100)) as simulator:
        settings = settings_at(simulator, tmp_path)
        planned = await plan(await asyncio.to_thread(batch_of, 2000, settings, tmp_path, 20))
        assert planned.forecast.binding == "requests/min"
        assert planned.forecast.binding_part == "m"
        assert 186 in planned.forecast.duration_s  # the ideal: (1,980 - 100 at once) / 10 a second, and a little less
        day = settings_at(simulator, tmp_path / "day", PLAIT_RPD="1000")
        planned = await plan(await asyncio.to_thread(batch_of, 2000, day, tmp_path, 20))
        assert planned.forecast.binding == "requests/day"


async def test_a_bound_of_the_users_own_is_advised_to_be_raised(tmp_path: Path) -> None:
    async with Simulator(Profile(latency_s=0.02)) as simulator:
        settings = settings_at(simulator, tmp_path, PLAIT_MAX_CONCURRENCY="2")
        planned = await plan(await asyncio.to_thread(batch_of, 500, settings, tmp_path, 10))
    assert planned.forecast.binding == "concurrency"
    assert "raise --max-concurrency" in planned.forecast.advice[0]


async def test_failing_rows_are_counted_told_and_forecast(tmp_path: Path) -> None:
    def answer(body: dict[str, object]) -> str | None:
        if "7" in json.dumps(body["messages"]):
            raise ValueError("no sevens")
        return None

    async with Simulator(answer=answer) as simulator:
        settings = settings_at(simulator, tmp_path, PLAIT_MAX_ATTEMPTS="1")
        planned = await plan(await asyncio.to_thread(batch_of, 100, settings, tmp_path, 30))
    assert planned.probe.failed > 0
    assert sum(planned.probe.errors.values()) == planned.probe.failed
    assert planned.forecast.failures.high > planned.forecast.failures.likely > 0
    assert any("probe rows failed" in advice for advice in planned.forecast.advice)


async def test_a_refused_key_pauses_the_probe_and_leaves_a_batch_to_go_on_with(tmp_path: Path) -> None:
    async with Simulator(Profile(require_key="right")) as simulator:
        settings = settings_at(simulator, tmp_path)
        with pytest.raises(BatchPaused):
            await plan(await asyncio.to_thread(batch_of, 30, settings, tmp_path, 10))
    assert await asyncio.to_thread(lambda: [b.status for b in FolderShelf(tmp_path).batches()]) == ["paused"]


async def test_a_probe_of_no_rows_is_refused_before_anything_is_sent(endpoint: Simulator, tmp_path: Path) -> None:
    settings = settings_at(endpoint, tmp_path)
    with pytest.raises(InputError, match="--probe: expected 1 row or more, found 0"):
        await plan(await asyncio.to_thread(batch_of, 30, settings, tmp_path, 0))
    assert endpoint.counters.received == 0


def test_a_rows_times_are_shared_by_its_models_and_leave_out_what_it_waited() -> None:
    timings = {
        "a": {"calls": 3, "waits": {"rpm": 3.0}, "connect_s": 0.5, "first_token_s": 1.0, "generation_s": 0.5},
        "b": {"calls": 1, "waits": {"retry": 1.0}, "connect_s": 0.0, "first_token_s": 1.0, "generation_s": 1.0},
    }
    usage = {"attempts": 8, "models": {"x": [100, 10, 20], "y": [5, 0, 5]}, "model_calls": {"x": 3, "y": 1}}
    one_by_one = RowRecord(0, "r", "success", usage=usage, timings=timings, duration_s=10.0)
    found = probe_row(one_by_one)
    assert found.models == {
        "x": ModelUse(6, Tokens(100, 10, 20), 3.0),
        "y": ModelUse(2, Tokens(5, 0, 5), 1.0),
    }
    assert found.duration_s == 6.0
    at_once = RowRecord(0, "r", "error", usage=usage, timings=timings, duration_s=2.0)
    assert probe_row(at_once).duration_s == 1.0
    assert probe_row(at_once).failed


async def test_the_cost_of_live_batches_lies_inside_its_interval(tmp_path: Path) -> None:
    # What a batch costs is a function of its seed: so is whether that lies inside.
    outcomes: list[Outcome] = []
    for number, case in enumerate(CASES):
        home = tmp_path / str(number)
        await asyncio.to_thread(home.mkdir)
        outcomes.append(await play(case, home))
    assert sum(outcome.cost_inside for outcome in outcomes) >= 0.9 * len(outcomes)
    assert [outcome.planned.forecast.binding for outcome in outcomes[2:4]] == ["concurrency", "requests/min"]


async def test_rows_that_began_go_before_rows_that_did_not(tmp_path: Path) -> None:
    documents = 48
    profile = Profile(max_concurrency=3, over_limit="queue", latency_s=0.04, cache_ttl_s=3600)
    async with Simulator(profile, answer=lambda _: "yes") as simulator:
        settings = settings_at(simulator, tmp_path, PLAIT_MAX_CONCURRENCY="3")
        graph = conversation(chat_model("openai:m", settings=settings))
        done = [row async for row in plait.batch(graph, rows(documents), settings=settings)]
        order = [request.body["messages"][0]["content"].split()[0] for request in simulator.requests]
    assert len(order) == documents * CALLS
    # Three calls at once: some rows wait so that no place stays empty, all others begin when one has ended.
    calls: Counter[str] = Counter()
    under_way = []
    for word in order:
        calls[word] += 1
        under_way.append(sum(count < CALLS for count in calls.values()))
    assert max(under_way) <= documents / 2
    assert [row.usage["cached_tokens"] for row in done] == [done[0].usage["cached_tokens"]] * documents
    assert simulator.counters.cached_tokens == sum(int(str(row.usage["cached_tokens"])) for row in done) > 0
