"""`plait run --timings`: where the time of the model calls went."""

from __future__ import annotations

import io
import json
import re

import pytest

from plait.cli.timings import print_timings
from plait.events import Result
from plait.flow.timings import Timing
from plait.flow.usage import Usage
from plait.simulator import Profile, running
from tests.command import endpoint_env, plait

PLAN = Timing(1, {}, connect_s=0.02, first_token_s=1.0, generation_s=3.0)
WRITE = Timing(
    12, {"retry": 1.0, "rpm": 112.3, "concurrency": 0.01}, connect_s=0.3, first_token_s=22.3, generation_s=100.1
)


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, **timings: Timing) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = io.StringIO()
    print_timings(Result("id", "story", "success", {}, Usage(), 14.25, timings), out)
    return out.getvalue()


def test_a_sentence_says_what_took_longest_beside_how_long_the_run_took(monkeypatch: pytest.MonkeyPatch) -> None:
    told = " ".join(shown(monkeypatch, 200, plan=PLAN, write=WRITE).split())
    assert told.startswith(
        "most of the time: waiting for requests per minute (112.3 s of 240.0 s call time; the run took 14.2 s)"
    )
    told = shown(monkeypatch, 200, plan=PLAN)
    assert told.startswith("most of the time: generating the rest of the answers (3.00 s of 4.02 s call time;")


def test_a_row_for_each_node_in_their_order_and_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 80, plan=PLAN, write=WRITE).splitlines()
    rows = [" ".join(line.split()) for line in lines[-4:]]
    # Only causes that occurred have a column, in the order in which calls meet them.
    assert rows == [
        "seconds in calls rpm retry connect token generation total",
        "plan 1 0.0 0.0 0.0 1.0 3.0 4.0",
        "write 12 112.3 1.0 0.3 22.3 100.1 236.0",
        "all 13 112.3 1.0 0.3 23.3 103.1 240.0",
    ]
    assert max(map(len, lines)) <= 80


def test_a_single_node_needs_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 80, plan=PLAN).splitlines()[-1].split() == ["plan", "1", "0.02", "1.00", "3.00", "4.02"]


@pytest.mark.parametrize("columns", [30, 50])
def test_where_there_is_no_room_the_nodes_stand_below_each_other(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = shown(monkeypatch, columns, plan=PLAN, **{"write/" + "long" * 20: WRITE})
    assert max(map(len, text.splitlines())) <= columns
    assert re.search(r"rpm +112\.3 s", text)
    assert "plan  1 call, 4.0 s" in text


def test_a_run_without_calls_has_no_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 80) == "no model call ended, so there are no timings\n"


def test_the_command_prints_them_on_stderr_after_the_usage() -> None:
    with running(Profile(latency_s=1.0)) as server:
        ended = plait("run", "story", "topic=x", "--timings", env=endpoint_env(server))
    assert ended.code == 0, ended.err
    assert "call time" not in ended.out
    usage, summary, *_ = ended.err.splitlines()
    assert usage.startswith("story: 1 call")
    assert summary.startswith("most of the time: waiting for the first token (")


def test_json_has_the_same_in_its_last_event() -> None:
    with running(Profile(max_concurrency=1, latency_s=0.5)) as server:
        env = endpoint_env(server)
        ended = plait("run", "stories", 'topics:=["a", "b"]', "--json", "--max-concurrency", "1", env=env)
    timings = json.loads(ended.out.splitlines()[-1])["timings"]
    assert sum(timing["calls"] for timing in timings.values()) == 2
    assert sum(timing["waits"]["concurrency"] for timing in timings.values()) > 0.1
    assert sum(timing["first_token_s"] for timing in timings.values()) > 0.8
    assert sum(timing["connect_s"] for timing in timings.values()) > 0
