"""Experiments reach LangSmith whole, once and without secrets; without its key nothing leaves this machine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import pytest
import requests
from langgraph.graph import StateGraph
from langsmith.utils import LangSmithError, get_env_var

import plait
from plait.datasets.examples import Example
from plait.errors import CallRefused, EndpointUnreachable, InputError, SettingsError
from plait.experiments import Definition, evaluate, read
from plait.experiments.langsmith.calls import explained
from plait.experiments.langsmith.uploads import Upload, upload_experiment
from plait.experiments.records import (
    CallTrace,
    ExampleRun,
    Experiment,
    Failure,
    NodeTrace,
    Origin,
    Score,
    ToolTrace,
)
from plait.settings import Endpoint, Settings
from plait.simulator import Simulator, running
from plait.store.rows import RowError
from tests.langsmith_server import KEY, STAMP, TENANT, Entry, LangSmith

CALL = CallTrace(
    model="m",
    began_s=0.25,
    duration_s=0.5,
    waits={"rpm": 0.1},
    first_token_s=0.2,
    generation_s=0.2,
    input_tokens=10,
    cached_tokens=4,
    output_tokens=5,
    cost_usd=0.01,
)
TOLD = ExampleRun(
    position=0,
    example=Example(0, "e1", {"topic": "a fox"}, {"title": "Fox"}, {"lang": "en", "split": "dev"}),
    outputs={"story": "once"},
    scores=(
        Score("exact", True),
        Score("words", 3, comment="counted", metadata={"by": "hand"}, node="draft"),
        Score("tone", value="warm"),
    ),
    failures=(Failure("judge", "TimeoutError", "too slow"),),
    duration_s=2.0,
    usage={"calls": 2},
    judge_usage={"calls": 1},
    nodes=(
        NodeTrace(name="draft/ask", branch="draft@1/ask@1", began_s=0.25, duration_s=0.75, calls=(CALL,)),
        NodeTrace(name="draft", branch="draft@1", began_s=0.0, duration_s=1.0),
    ),
    tools=(ToolTrace(name="search", args={"q": "fox"}, began_s=1.0, duration_s=0.5, error="OSError: gone"),),
)
AGAIN = replace(
    TOLD, position=1, repetition=1, outputs="twice", scores=(Score("exact", False),), failures=(), nodes=(), tools=()
)
FAILED = ExampleRun(
    position=2,
    example=Example(1, "e2", {"topic": "none"}),
    status="error",
    error=RowError("ValueError", "no such topic"),
    duration_s=0.5,
)
EXPERIMENT = Experiment(
    id="story-1121-1004-abc",
    name="before",
    definition="story-quality",
    workflow="story",
    place="story-1121-1004-abc",
    status="finished",
    created_at=1_763_719_440.0,
    duration_s=4.0,
    repetitions=2,
    runs=(TOLD, AGAIN, FAILED),
    summary_scores=(Score("pass_rate", 0.5),),
    summary_failures=(Failure("spread", "ValueError", "one value"),),
    origin=Origin(
        commit="0123abc",
        dirty=True,
        dataset="eval/datasets/stories.jsonl",
        dataset_hash="77",
        model="openai:m",
        context={"words": 5},
        versions={"plait": "0.1.0"},
        workflow_digest="99",
    ),
)

SESSION = "before-96760f47"
"""Also in another process, and in a later version of plait."""


def settings_for(langsmith: LangSmith) -> Settings:
    return Settings(langsmith=langsmith.env)


async def upload(langsmith: LangSmith, experiment: Experiment = EXPERIMENT, dataset: str | None = None) -> Upload:
    return await upload_experiment(experiment, settings=settings_for(langsmith), dataset=dataset)


def labelled(langsmith: LangSmith) -> dict[str, dict[str, Entry]]:
    """What the server keeps, with words in place of ids."""
    kept = langsmith.state
    words = {id_: f"DATASET {entry['name']}" for id_, entry in kept["datasets"].items()}
    words |= {id_: f"EXAMPLE {entry['metadata']['plait_example']}" for id_, entry in kept["examples"].items()}
    words |= {id_: f"SESSION {entry['name']}" for id_, entry in kept["sessions"].items()}
    words |= {
        id_: f"RUN {entry['name']} {entry['extra'].get('metadata', {}).get('position', '')}".strip()
        for id_, entry in kept["runs"].items()
    }
    for id_, entry in kept["feedback"].items():
        words[id_] = f"FEEDBACK {entry['key']} of {words.get(entry['run_id'], 'all')}"
    text = json.dumps(kept)
    for id_, word in words.items():
        text = text.replace(id_, word)
    assert len(set(words.values())) == len(words)
    found: dict[str, dict[str, Entry]] = json.loads(text)
    return found


def root(position: int, **fields: object) -> Entry:
    """A run of EXPERIMENT as LangSmith has it; the runs begin a microsecond apart."""
    stamp, name = f"20251121T100400{position:06}Z", f"RUN story {position}"
    fraction = f".{position:06}" if position else ""
    return {
        "id": name,
        "trace_id": name,
        "parent_run_id": None,
        "dotted_order": f"{stamp}{name}",
        "session_name": SESSION,
        "name": "story",
        "run_type": "chain",
        "start_time": f"2025-11-21T10:04:00{fraction}Z",
        **fields,
    }


def child(name: str, above: str, order: str, run_type: str, start: str, end: str, **fields: Any) -> Entry:
    return {
        "id": f"RUN {name}",
        "trace_id": "RUN story 0",
        "parent_run_id": f"RUN {above}",
        "dotted_order": order,
        "session_name": SESSION,
        "name": name,
        "run_type": run_type,
        "reference_example_id": None,
        "inputs": {},
        "outputs": {},
        "error": None,
        "start_time": f"2025-11-21T10:04:{start}Z",
        "end_time": f"2025-11-21T10:04:{end}Z",
        "extra": {},
    } | fields


def about(position: int, example: str, **fields: object) -> Entry:
    """The metadata of a run."""
    return {
        "metadata": {
            "plait_experiment": EXPERIMENT.id,
            "example": example,
            "position": position,
            "repetition": 0,
            "status": "success",
            "usage": {"calls": 2},
            "judge_usage": {"calls": 1},
            "evaluator_failures": [],
            "example_version": STAMP,
            **fields,
        }
    }


def given(key: str, position: int | None, **fields: object) -> Entry:
    """A score of a run, or of the experiment."""
    name = None if position is None else f"RUN story {position}"
    fraction = f".{position:06}" if position else ""
    return {
        "id": f"FEEDBACK {key} of {name or 'all'}",
        "run_id": name,
        "trace_id": name,
        "session_id": f"SESSION {SESSION}",
        "key": key,
        "score": None,
        "value": None,
        "comment": None,
        "feedback_source": {
            "type": "model",
            "metadata": {"plait_experiment": EXPERIMENT.id, "evaluator": key} | fields.pop("source", {}),  # type: ignore[operator]
        },
        "start_time": None if position is None else f"2025-11-21T10:04:00{fraction}Z",
        "extra": None,
        "extend_trace_retention": True,
        **fields,
    }


def runs_expected() -> dict[str, Entry]:
    order = "20251121T100400000000ZRUN story 0"
    draft = f"{order}.20251121T100400000000ZRUN draft"
    ask = f"{draft}.20251121T100400250000ZRUN draft/ask"
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_token_details": {"cache_read": 4},
        "total_cost": 0.01,
    }
    call = {
        "ls_model_name": "m",
        "ls_model_type": "chat",
        "usage_metadata": usage,
        "replayed": False,
        "waits_s": {"rpm": 0.1},
        "first_token_s": 0.2,
        "generation_s": 0.2,
    }
    failure = {"evaluator": "judge", "type": "TimeoutError", "message": "too slow"}
    no_usage: Entry = {"usage": {}, "judge_usage": {}}
    found = [
        root(
            0,
            reference_example_id="EXAMPLE e1",
            inputs={"topic": "a fox"},
            outputs={"story": "once"},
            error=None,
            end_time="2025-11-21T10:04:02Z",
            extra=about(0, "e1", evaluator_failures=[failure]),
        ),
        child("draft", "story 0", draft, "chain", "00", "01", extra={"metadata": {"branch": "draft@1"}}),
        child("draft/ask", "draft", ask, "chain", "00.250000", "01", extra={"metadata": {"branch": "draft@1/ask@1"}}),
        child(
            "m",
            "draft/ask",
            f"{ask}.20251121T100400250000ZRUN m",
            "llm",
            "00.250000",
            "00.750000",
            extra={"metadata": call},
        ),
        child(
            "search",
            "story 0",
            f"{order}.20251121T100401000000ZRUN search",
            "tool",
            "01",
            "01.500000",
            inputs={"q": "fox"},
            error="OSError: gone",
        ),
        root(
            1,
            reference_example_id="EXAMPLE e1",
            inputs={"topic": "a fox"},
            outputs={"output": "twice"},
            error=None,
            end_time="2025-11-21T10:04:02.000001Z",
            extra=about(1, "e1", repetition=1),
        ),
        root(
            2,
            reference_example_id="EXAMPLE e2",
            inputs={"topic": "none"},
            outputs=None,
            error="ValueError: no such topic",
            end_time="2025-11-21T10:04:00.500002Z",
            extra=about(2, "e2", status="error", **no_usage),
        ),
    ]
    return {entry["id"]: entry for entry in found}


@pytest.mark.parametrize("multipart", [True, False], ids=["multipart", "json"])
async def test_an_experiment_arrives_whole_and_a_second_upload_changes_nothing(multipart: bool) -> None:
    async with LangSmith(multipart=multipart) as langsmith:
        sent = await upload(langsmith)
        kept = labelled(langsmith)
        (dataset,) = kept["datasets"].values()
        # What langsmith itself adds: its version, and this machine's platform.
        dataset["metadata"].pop("runtime")
        assert dataset == {
            "id": "DATASET stories",
            "name": "stories",
            "created_at": STAMP,
            "data_type": "kv",
            "metadata": {"plait_dataset": "eval/datasets/stories.jsonl"},
        }
        common = {
            "dataset_id": "DATASET stories",
            "use_source_run_io": False,
            "created_at": STAMP,
            "modified_at": STAMP,
        }
        assert kept["examples"] == {
            "EXAMPLE e1": {
                "id": "EXAMPLE e1",
                "inputs": {"topic": "a fox"},
                "outputs": {"title": "Fox"},
                "metadata": {"lang": "en", "split": "dev", "plait_example": "e1"},
                "split": ["dev"],
                **common,
            },
            "EXAMPLE e2": {
                "id": "EXAMPLE e2",
                "inputs": {"topic": "none"},
                "outputs": None,
                "metadata": {"plait_example": "e2"},
                "split": None,
                **common,
            },
        }
        version = {"dataset_version": STAMP if multipart else None}
        session = session_expected() | {"extra": {"metadata": described_expected() | version}}
        assert kept["sessions"] == {f"SESSION {SESSION}": session}
        expected = runs_expected()
        if not multipart:
            # There LangSmith does not say what version of an example it made.
            for entry in expected.values():
                entry["extra"].get("metadata", {}).pop("example_version", None)
        assert kept["runs"] == expected
        scores = [
            given("exact", 0, score=True),
            given("words", 0, score=3.0, comment="counted", extra={"by": "hand"}, source={"node": "draft"}),
            given("tone", 0, value="warm"),
            given("exact", 1, score=False),
            given("pass_rate", None, score=0.5),
        ]
        assert kept["feedback"] == {entry["id"]: entry for entry in scores}
        assert (sent.dataset_created, sent.examples_created, sent.runs, sent.feedback) == (True, 2, 7, 5)
        assert sent.url == (
            f"http://localhost/o/{TENANT}/datasets/{sent.dataset_id}/compare?selectedSessions={sent.project_id}"
        )
        before = langsmith.state
        again = await upload(langsmith)
        assert langsmith.state == before
        assert again == replace(sent, dataset_created=False, examples_created=0)
        assert langsmith.lost == []


def session_expected() -> Entry:
    return {
        "id": f"SESSION {SESSION}",
        "name": SESSION,
        "description": None,
        "reference_dataset_id": "DATASET stories",
        "num_examples": 2,
        "num_repetitions": 2,
        "evaluator_keys": ["exact", "tone", "words"],
        "tenant_id": TENANT,
        "start_time": STAMP,
    }


def described_expected() -> Entry:
    return {
        "plait_experiment": "story-1121-1004-abc",
        "name": "before",
        "definition": "story-quality",
        "workflow": "story",
        "node": None,
        "reused": None,
        "num_repetitions": 2,
        "duration_s": 4.0,
        "revision_id": "0123abc",
        "git": {"commit": "0123abc", "dirty": True},
        "dataset": "eval/datasets/stories.jsonl",
        "dataset_hash": "77",
        "model": "openai:m",
        "context": {"words": 5},
        "versions": {"plait": "0.1.0"},
        "workflow_digest": "99",
        "summary_failures": [{"evaluator": "spread", "type": "ValueError", "message": "one value"}],
    }


async def test_two_experiments_over_one_dataset_stand_side_by_side() -> None:
    async with LangSmith() as langsmith:
        first = await upload(langsmith)
        # The same name, and an id that only its time tells apart.
        second = await upload(langsmith, replace(EXPERIMENT, created_at=EXPERIMENT.created_at + 31_536_000))
        assert first.dataset_id == second.dataset_id
        assert first.project_id != second.project_id
        assert (second.dataset_created, second.examples_created) == (False, 0)
        assert len(langsmith.examples) == 2
        assert len(langsmith.runs) == 2 * first.runs


async def test_an_example_that_changed_since_is_left_as_it_is_and_counted() -> None:
    async with LangSmith() as langsmith:
        await upload(langsmith)
        before = langsmith.examples.copy()
        newer = replace(TOLD, example=replace(TOLD.example, reference_outputs={"title": "Vixen"}))
        sent = await upload(langsmith, replace(EXPERIMENT, created_at=1.0, runs=(newer, FAILED)))
        assert sent.examples_changed == 1
        assert langsmith.examples == before


async def test_examples_from_langsmith_are_referred_to_by_their_ids_there() -> None:
    ids = ("22222222-2222-4222-8222-222222222222", "33333333-3333-4333-8333-333333333333")
    runs = tuple(
        replace(run, example=replace(run.example, id=id_)) for run, id_ in zip((TOLD, FAILED), ids, strict=True)
    )
    experiment = replace(EXPERIMENT, runs=runs, origin=Origin(dataset="langsmith:tales"))
    async with LangSmith() as langsmith:
        there = langsmith.add_dataset("tales", *({"id": id_, "inputs": {}} for id_ in ids))
        sent = await upload(langsmith, experiment)
        assert (str(sent.dataset_id), sent.dataset_created, sent.examples_created) == (there, False, 0)
        assert list(langsmith.datasets) == [there]
        roots = [run for run in langsmith.runs.values() if run["parent_run_id"] is None]
        assert [run["reference_example_id"] for run in roots] == list(ids)

        del langsmith.examples[ids[1]]
        with pytest.raises(InputError, match=f"1 that are no longer there, such as {ids[1]}"):
            await upload(langsmith, experiment)
        copied = await upload(langsmith, replace(experiment, created_at=2.0), "a copy")
        assert (copied.dataset_created, copied.examples_created) == (True, 2)

        named = replace(experiment, runs=(TOLD,))
        with pytest.raises(InputError, match=r"expected the ids that LangSmith's dataset 'tales' .* found 'e1'"):
            await upload(langsmith, named)
        with pytest.raises(InputError, match=r"expected the dataset 'sagas' in LangSmith"):
            await upload(langsmith, replace(named, origin=Origin(dataset="langsmith:sagas")))


async def test_somebody_elses_dataset_of_that_name_gets_no_examples_unless_it_is_named() -> None:
    theirs = {"id": "22222222-2222-4222-8222-222222222222", "inputs": {"topic": "theirs"}}
    async with LangSmith() as langsmith:
        langsmith.add_dataset("stories", theirs)
        before = langsmith.state
        with pytest.raises(InputError, match="expected a dataset 'stories' that plait made"):
            await upload(langsmith)
        assert langsmith.state == before
        sent = await upload(langsmith, dataset="stories")
        assert (sent.dataset_created, sent.examples_created, len(langsmith.examples)) == (False, 2, 3)


@pytest.mark.parametrize(
    ("origin", "name"),
    [("a/b.c/tales.v2.jsonl.gz", "tales"), ("rows", "story-quality"), ("", "story-quality"), (".jsonl", "dataset")],
)
async def test_a_dataset_is_named_after_its_file_or_else_the_definition(origin: str, name: str) -> None:
    async with LangSmith() as langsmith:
        sent = await upload(langsmith, replace(EXPERIMENT, origin=Origin(dataset=origin)))
        assert (sent.dataset, sent.dataset_created) == (name, True)


async def test_an_experiment_is_not_sent_for_a_second_dataset() -> None:
    async with LangSmith() as langsmith:
        await upload(langsmith)
        before = langsmith.runs.copy()
        with pytest.raises(InputError, match="found that it was sent for another"):
            await upload(langsmith, dataset="others")
        assert langsmith.runs == before


async def test_no_secret_is_sent() -> None:
    secret, token = "the-secret-of-an-endpoint", "sk-foreign-0123456789abcdef"
    told: Entry = {"a": [f"with {secret}", {"b": f"{token} {KEY}"}], f"key {secret}": "https://me:word@host/path"}
    scores = (Score("exact", True, comment=f"Bearer {'x1' * 12}", value=secret, metadata={"m": secret}),)
    runs = (
        replace(TOLD, example=replace(TOLD.example, inputs=told, reference_outputs=told), outputs=told, scores=scores),
        replace(FAILED, error=RowError("ValueError", f"{secret} refused")),
    )
    origin = replace(EXPERIMENT.origin, context={"key": secret}, dataset=f"https://me:word@host/{secret}.jsonl")
    experiment = replace(EXPERIMENT, runs=runs, origin=origin)
    async with LangSmith() as langsmith:
        settings = replace(settings_for(langsmith), endpoints={"mine": Endpoint("http://x", api_key=secret)})
        await upload_experiment(experiment, settings=settings, dataset="told")
        sent = b"".join(langsmith.bodies)
        assert sent.count(b"***") > 20
        for word in (secret, token, KEY, "me:word", "x1x1"):
            assert word.encode() not in sent


async def test_without_a_key_the_variable_is_named(unused_url: str) -> None:
    with pytest.raises(SettingsError, match="set LANGSMITH_API_KEY"):
        await upload_experiment(EXPERIMENT, settings=Settings(langsmith={"LANGSMITH_ENDPOINT": unused_url}))


async def test_an_experiment_that_is_not_finished_is_not_sent() -> None:
    async with LangSmith() as langsmith:
        with pytest.raises(InputError, match=r"found one that is paused; `plait resume story-1121-1004-abc`"):
            await upload(langsmith, replace(EXPERIMENT, status="paused"))
        assert langsmith.requests == []


async def test_a_wrong_key_is_named_by_its_variable_and_quoted_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    wrong = "a-wrong-key-0123456789"
    async with LangSmith() as langsmith:
        for status in (None, 403):
            langsmith.forbids = status
            settings = Settings(langsmith=langsmith.env | {"LANGSMITH_API_KEY": wrong})
            with pytest.raises(
                CallRefused, match=rf"refuses the key \(HTTP {status or 401}\).*LANGSMITH_API_KEY"
            ) as caught:
                await upload_experiment(EXPERIMENT, settings=settings)
            assert wrong not in str(caught.value)
            assert caught.value.__cause__ is None
        assert langsmith.state == LangSmith().state
    assert caplog.records == []


async def test_a_request_that_comes_too_early_is_sent_again() -> None:
    async with LangSmith() as langsmith:
        await upload(langsmith)
        expected = langsmith.state
    async with LangSmith() as langsmith:
        langsmith.busy = 2
        await upload(langsmith)
        assert [status for _, _, status in langsmith.requests].count(429) == 2
        found = langsmith.state
    assert [list(entries) for entries in (found["sessions"], found["runs"])] != [[], []]
    assert {kind: len(entries) for kind, entries in found.items()} == {kind: len(e) for kind, e in expected.items()}


@pytest.mark.parametrize("multipart", [True, False], ids=["multipart", "json"])
async def test_runs_that_langsmith_refuses_fail_the_upload(multipart: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with LangSmith(multipart=multipart) as langsmith:
        langsmith.refused_path = "/runs/"
        with pytest.raises(CallRefused, match=r"refuses what was sent \(HTTP 422\).*not today"):
            await upload(langsmith)
        assert langsmith.feedback == {}
        langsmith.refused_path = None
        await upload(langsmith)
        assert langsmith.lost == []
        assert (len(langsmith.runs), len(langsmith.feedback)) == (7, 5)
    assert caplog.records == []


async def test_a_score_that_langsmith_refuses_fails_the_upload(caplog: pytest.LogCaptureFixture) -> None:
    async with LangSmith() as langsmith:
        langsmith.refused_path = "/feedback"
        with pytest.raises(CallRefused, match="not today"):
            await upload(langsmith)
    assert caplog.records == []


@pytest.fixture
def unused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_server_that_is_gone_is_said_to_be_unreachable(
    unused_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(langsmith={"LANGSMITH_ENDPOINT": unused_url, "LANGSMITH_API_KEY": KEY})
    with pytest.raises(EndpointUnreachable, match=f"LangSmith at {unused_url} cannot be reached; check LANGSMITH_END"):
        await upload_experiment(EXPERIMENT, settings=settings)
    assert caplog.records == []


async def test_an_endpoint_that_is_no_url_is_named() -> None:
    settings = Settings(langsmith={"LANGSMITH_ENDPOINT": "localhost", "LANGSMITH_API_KEY": KEY})
    with pytest.raises(SettingsError, match="LANGSMITH_ENDPOINT: expected a URL"):
        await upload_experiment(EXPERIMENT, settings=settings)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (429, EndpointUnreachable, "took no more"),
        (503, EndpointUnreachable, "took no more"),
        (404, CallRefused, "refuses what was sent"),
    ],
)
def test_what_langsmith_answered_at_last_is_said_without_keys(status: int, kind: type[Exception], said: str) -> None:
    answer = requests.Response()
    answer.status_code, answer._content = status, f"no: {KEY} is not welcome".encode()
    error = LangSmithError(f"with {KEY}")
    error.__cause__ = requests.HTTPError(KEY, response=answer)
    explanation = explained(error, "https://me:word@host", [KEY])
    assert type(explanation) is kind
    assert f"LangSmith at https://***@host {said} (HTTP {status})" in str(explanation)
    assert KEY not in str(explanation)


async def test_an_upload_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    async with LangSmith() as langsmith:
        await upload(langsmith)
    # The loop's own threads wait for more.
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert [name for name in left if not name.startswith("asyncio_")] == []


async def test_a_cancelled_upload_sends_no_more_and_the_next_one_completes_it() -> None:
    loop = asyncio.get_running_loop()
    async with LangSmith() as langsmith:
        with ThreadPoolExecutor(1) as senders, ThreadPoolExecutor(1) as waiting:
            loop.set_default_executor(senders)
            langsmith.held = asyncio.Event()
            uploading = asyncio.create_task(upload(langsmith))
            await langsmith.arrived.wait()
            uploading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await uploading
            langsmith.held.set()
            # Its thread ends by itself.
            await loop.run_in_executor(waiting, senders.shutdown)
        loop.set_default_executor(ThreadPoolExecutor(1))
        assert (len(langsmith.runs), langsmith.feedback) == (7, {})
        await upload(langsmith)
        assert (len(langsmith.runs), len(langsmith.feedback)) == (7, 5)


async def test_the_environment_leaves_no_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING_SAMPLING_RATE", "0")
    # langsmith remembers what it read in an earlier test.
    remembered: Any = get_env_var
    remembered.cache_clear()
    assert get_env_var("TRACING_SAMPLING_RATE") == "0"
    async with LangSmith() as langsmith:
        await upload(langsmith)
        assert (len(langsmith.runs), len(langsmith.feedback)) == (7, 5)
    remembered.cache_clear()


async def test_more_runs_than_a_request_takes_go_in_several() -> None:
    runs = tuple(replace(FAILED, position=n, example=replace(FAILED.example, id=f"e{n}")) for n in range(250))
    async with LangSmith() as langsmith:
        sent = await upload(langsmith, replace(EXPERIMENT, runs=runs))
        assert (sent.runs, len(langsmith.runs), len(langsmith.examples)) == (250, 250, 250)
        assert [path for _, path, _ in langsmith.requests].count("/runs/multipart") == 3


# asyncio's own loop: uvloop opens its sockets where no audit hook sees them.
SCRIPT = """
import asyncio, contextlib, json, sys
from typing import TypedDict

seen = []
def guard(event, arguments):
    if event == "socket.connect":
        seen.append(str(arguments[1][0] if isinstance(arguments[1], tuple) else arguments[1]))
    elif event == "socket.getaddrinfo":
        seen.append(str(arguments[0]))
sys.addaudithook(guard)

import requests
import plait
from langgraph.graph import StateGraph
from plait.experiments import Definition, evaluate

class State(TypedDict):
    text: str

async def ask(state: State):
    return {"text": (await plait.chat_model().ainvoke(state["text"])).text}

graph = StateGraph(State).add_node(ask).set_entry_point("ask").set_finish_point("ask").compile()

async def main():
    rows = [record async for record in plait.batch(graph, [{"text": "a"}, {"text": "b"}])]
    one = await plait.run(graph, {"text": "c"})
    examples = [{"inputs": {"text": "d"}, "reference_outputs": {"text": "d"}}]
    scored = await evaluate(Definition(name="e", workflow=graph, dataset=examples, evaluators=("exact",)))
    found = {"statuses": [each.status for each in (*rows, one, *scored.runs)], "seen": list(seen)}
    with contextlib.suppress(OSError):
        # The client of langsmith's client, in a thread as there: would the guard see it?
        await asyncio.to_thread(requests.get, "http://localhost:9")
    print(json.dumps({**found, "scores": len(scored.runs[0].scores), "afterwards": seen[len(found["seen"]):]}))

asyncio.run(main())
"""


@pytest.mark.parametrize("key", [{}, {"LANGSMITH_API_KEY": KEY}], ids=["no key", "a key that nobody asked to use"])
def test_runs_batches_and_experiments_open_no_socket_beyond_loopback(key: dict[str, str]) -> None:
    with running() as provider:
        own = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MODEL": "openai:m"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, **own, **key},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["statuses"], found["scores"]) == (["success"] * 4, 1)
    assert set(found["seen"]) == {"127.0.0.1"}
    assert "localhost" in found["afterwards"]


class Text(TypedDict):
    text: str


async def ask(state: Text) -> Text:
    return {"text": (await plait.chat_model().ainvoke(state["text"])).text}


async def test_what_was_evaluated_can_be_sent(provider: Simulator, tmp_path: Path) -> None:
    inner = StateGraph(Text).add_node(ask).set_entry_point("ask").set_finish_point("ask").compile()
    graph = StateGraph(Text).add_node("write", inner).set_entry_point("write").set_finish_point("write").compile()
    examples = [{"inputs": {"text": text}, "reference_outputs": {"text": text}} for text in "ab"]
    definition = Definition(
        name="echo", workflow=graph, dataset=examples, evaluators=("exact", "latency_s"), repetitions=2
    )
    async with LangSmith() as langsmith:
        settings = Settings(
            langsmith=langsmith.env,
            home=tmp_path,
            model="openai:m",
            endpoints={"openai": Endpoint(provider.base_url, "sk-test")},
        )
        experiment = await evaluate(definition, name="first", settings=settings)
        sent = await upload_experiment(experiment, settings=settings)
        assert (sent.dataset, sent.examples_created, sent.feedback, langsmith.lost) == ("echo", 2, 8, [])
        runs = list(langsmith.runs.values())
        names = {run["id"]: run["name"] for run in runs}
        above = [(names.get(run["parent_run_id"]), run["name"], run["run_type"]) for run in runs]
        one = [(None, experiment.workflow, "chain"), (experiment.workflow, "write", "chain")]
        one += [("write", "write/ask", "chain"), ("write/ask", "m", "llm")]
        assert sorted(above, key=str) == sorted(4 * one, key=str)
        for run in runs:
            if run["run_type"] == "llm":
                usage = run["extra"]["metadata"]["usage_metadata"]
                assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
        by_key = Counter(entry["key"] for entry in langsmith.feedback.values())
        assert by_key == {score.key: 4 for score in experiment.runs[0].scores}
        before = langsmith.state
        await upload_experiment(await asyncio.to_thread(read, "first", settings=settings), settings=settings)
        assert langsmith.state == before
