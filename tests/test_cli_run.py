"""`plait run` as users run it: a subprocess, real HTTP, pipes and terminals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from plait.simulator import Behaviour, Profile, Simulator, running
from tests.command import PATIENCE_S, endpoint_env, on_terminal, plait, started, write_app

STORIES = 'topics:=["a forest", "a city"]'


@pytest.fixture
def server() -> Generator[Simulator]:
    with running(answer=lambda body: f"Once upon a time: {body['messages'][-1]['content']}") as provider:
        yield provider


def test_a_piped_run_prints_only_the_result(server: Simulator) -> None:
    ended = plait("run", "story", "topic=a magical forest", env=endpoint_env(server))
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Once upon a time: ")
    assert "a magical forest" in ended.out
    assert "\x1b" not in ended.out + ended.err
    assert "story: 1 call, 1 attempt, " in ended.err


def test_json_lines_tell_every_event_and_end_with_the_outputs(server: Simulator) -> None:
    ended = plait("run", "stories", STORIES, "--json", env=endpoint_env(server))
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert {event["type"] for event in events} == {"token", "update", "usage", "end"}
    for label in ("a forest", "a city"):
        said = "".join(e["text"] for e in events if e["type"] == "token" and e["label"] == label)
        assert said.startswith("Once upon a time")
    end = events[-1]
    assert end["status"] == "success"
    assert [story["topic"] for story in end["outputs"]["stories"]] == ["a forest", "a city"]
    assert end["usage"]["calls"] == 2


def test_inputs_come_from_a_file_from_stdin_and_from_words_in_this_order(server: Simulator, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"topic": "from the file", "words": 20}')
    (tmp_path / "topic.txt").write_text("from the text")
    env = endpoint_env(server)
    file = plait("run", "story", "--input", str(tmp_path / "in.json"), env=env)
    assert "from the file" in file.out
    assert "20 words" in file.out
    text = plait("run", "story", f"topic=@{tmp_path / 'topic.txt'}", "--input", str(tmp_path / "in.json"), env=env)
    assert "from the text" in text.out
    stdin = plait("run", "story", "words=30", "--input", "-", stdin='{"topic": "from stdin"}', env=env)
    assert "from stdin" in stdin.out
    assert "30 words" in stdin.out


def test_the_result_goes_to_a_file_and_keeps_its_mode(server: Simulator, tmp_path: Path) -> None:
    env = endpoint_env(server)
    folder = tmp_path / "results"
    folder.mkdir()
    assert plait("run", "stories", STORIES, "--output", str(folder / "out.json"), env=env).out == ""
    assert len(json.loads((folder / "out.json").read_text())["stories"]) == 2
    text = folder / "out.md"
    text.write_text("old")
    text.chmod(0o640)
    ended = plait("run", "story", "topic=x", "--output", str(text), env=env)
    assert "wrote " in ended.err
    assert text.read_text().startswith("Once upon a time")
    assert text.stat().st_mode & 0o777 == 0o640
    assert {path.name for path in folder.iterdir()} == {"out.json", "out.md"}


def test_context_and_model_reach_the_workflow(server: Simulator) -> None:
    env = endpoint_env(server)
    plait("run", "story", "topic=x", "--model", "openai:other", env=env)
    assert server.requests[-1].body["model"] == "other"
    ended = plait("run", "story", "topic=x", "--model", "openai:a", "--context", "model=openai:b", env=env)
    assert server.requests[-1].body["model"] == "b"
    assert "--model openai:a was not used: the workflow chose b itself" in ended.err


def test_max_concurrency_bounds_the_requests_in_flight(server: Simulator) -> None:
    topics = json.dumps([f"topic {index}" for index in range(8)])
    ended = plait("run", "stories", f"topics:={topics}", "--max-concurrency", "2", env=endpoint_env(server))
    assert ended.code == 0
    assert server.peak <= 2


def test_what_nodes_print_stays_out_of_the_result(tmp_path: Path) -> None:
    ended = plait("run", "noisy", "--json", "--app", str(write_app(tmp_path / "app", noisy=NOISY)))
    assert ended.code == 0, ended.err
    assert json.loads(ended.out.splitlines()[-1])["outputs"] == {"text": "quiet"}
    assert "noise from a node" in ended.err


# --- what goes wrong -----------------------------------------------------------------------------------


def test_bad_inputs_are_told_one_line_each_before_any_call(server: Simulator) -> None:
    ended = plait("run", "story", "topic=", "words=many", "wrods=3", env=endpoint_env(server))
    assert ended.code == 2
    assert ended.out == ""
    first, *others = ended.err.splitlines()
    assert first.startswith("plait: topic: ")
    assert [line.split(":")[0].strip() for line in others] == ["words", "wrods"]
    assert server.requests == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "stroy", "topic=x"], 2, "did you mean 'story'"),
        (["run", "story"], 2, "topic: missing"),
        (["run", "story", "topic=x", "--input", "/no/such.json"], 2, "--input: cannot read '/no/such.json'"),
        (["run", "story", "topic=x", "--output", "/no/such/out"], 2, "--output: cannot write"),
        (["run", "story", "topic=x", "--timeout", "0"], 2, "--timeout: expected seconds above 0"),
        (["run", "story", "topic=x", "--max-concurrency", "0"], 2, "--max-concurrency: expected 1 or more, found 0"),
        (["run", "story", "topic=x", "--max-concurrency", "x"], 2, "--max-concurrency: expected a whole number, found"),
        (
            ["run", "story", "topic=x", "--rpm", "0.5"],
            2,
            "--rpm: expected 1 or more a minute, found 0.5; for fewer use",
        ),
        (["run", "story", "topic=x", "--deadline", "soon"], 2, "--deadline: expected seconds, found 'soon'"),
        (["run", "story", "topic=x", "--max-wait", "-1"], 2, "--max-wait: expected 0 or more seconds, found -1"),
        (["run", "story", "topic=x", "--timeout", "abc"], 2, "--timeout: expected seconds above 0, found 'abc'"),
        (["run", "story", "topic=x", "--model", ""], 2, "--model: expected endpoint:model, found ''"),
        (["run", "story", "topic=x", "--model", "openai:"], 2, "found 'openai:' with no model name"),
        (["run", "story", "topic=x", "--model", "gpt"], 4, "expected a model as endpoint:model"),
        (["run", "story", "topic=x", "--model", "nobody:gpt"], 4, "nobody"),
        (["run", "story", "topic=x", "--wat"], 2, "No such option: --wat"),
        (["--log-level", "loud", "list"], 2, "--log-level: expected one of debug, info"),
        (["run", "story", "topic=x", "--app", "/no/such/app"], 3, "/no/such/app: expected"),
    ],
)
def test_each_mistake_has_its_line_and_its_code(server: Simulator, words: list[str], code: int, message: str) -> None:
    ended = plait(*words, env=endpoint_env(server))
    assert message in ended.err
    assert ended.err.startswith("plait: ")
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert ended.code == code
    assert server.requests == []


def test_stdin_that_is_closed_is_told() -> None:
    command = f"{sys.executable} -m plait.cli run story --input - <&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "plait: --input: cannot read standard input: it is closed\n"


def test_a_run_that_fails_without_a_call_says_nothing_of_usage(tmp_path: Path) -> None:
    ended = plait("run", "bad", "--app", str(write_app(tmp_path / "app", bad=BAD)))
    assert ended.err == "plait: node 'fail' raised ZeroDivisionError: division by zero\n"


def test_a_refused_key_an_unknown_model_and_a_dead_endpoint_end_with_4(tmp_path: Path) -> None:
    with running(Profile(require_key="right", models=("known",))) as server:
        env = endpoint_env(server) | {"PLAIT_MODEL": "openai:known"}
        refused = plait("run", "story", "topic=x", "--output", str(tmp_path / "out"), env=env)
        unknown = plait("run", "story", "topic=x", "--model", "openai:other", env=env | {"OPENAI_API_KEY": "right"})
    dead = plait("run", "story", "topic=x", env=env | {"PLAIT_MAX_ATTEMPTS": "1"})
    for ended in (refused, unknown, dead):
        assert ended.code == 4, ended.err
        assert ended.err.startswith("plait: ")
        assert "Traceback" not in ended.err
    assert "401" in refused.err
    assert "OPENAI_API_KEY" in refused.err
    assert "sk-test" not in refused.err
    assert "`other` does not exist" in unknown.err
    assert "cannot reach" in dead.err
    assert not (tmp_path / "out").exists()


def test_a_workflow_that_raises_ends_with_1_and_names_the_exception(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", bad=BAD)
    ended = plait("run", "bad", "--app", str(app))
    assert ended.code == 1
    assert ended.err.splitlines()[0] == "plait: node 'fail' raised ZeroDivisionError: division by zero"
    assert "Traceback" not in ended.err
    traced = plait("run", "bad", "--app", str(app), "--debug")
    assert "Traceback" in traced.err
    assert "1 / 0" in traced.err


def test_a_broken_app_ends_with_3(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text('{\n  "graphs": {,}\n}')
    ended = plait("run", "story", "topic=x", cwd=tmp_path)
    assert ended.code == 3
    assert "line 2, column 14" in ended.err
    broken = write_app(tmp_path / "app", raises="raise RuntimeError('at import')")
    ended = plait("run", "raises", "--app", str(broken))
    assert ended.code == 3
    assert "RuntimeError: at import" in ended.err


def test_a_timeout_ends_with_124_even_if_a_thread_hangs(server: Simulator, tmp_path: Path) -> None:
    server.close_gate()
    ended = plait("run", "story", "topic=x", "--timeout", "0.2", env=endpoint_env(server))
    assert ended.code == 124, ended.err
    assert "plait: story did not finish within 0.2 s" in ended.err
    hanging = write_app(tmp_path / "app", hangs=HANGS)
    assert plait("run", "hangs", "--timeout", "0.2", "--app", str(hanging)).code == 124


# --- stopping ------------------------------------------------------------------------------------------


@pytest.mark.real_time  # a stop has 0.8 s to end orderly
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_closes_the_calls_in_flight_and_says_so(
    server: Simulator, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    server.close_gate()
    words = ["run", "stories", STORIES, "--output", str(tmp_path / "out.json")]
    with started(*words, env=endpoint_env(server)) as process:
        server.wait_arrived(2)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    assert out == b""
    assert err.decode() == "stopped: 2 calls in flight closed, 0 finished; out.json was not written\n"
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("source", ["HANGS", "BLOCKS_THE_LOOP"])
def test_ctrl_c_ends_a_run_whose_node_cannot_be_stopped(tmp_path: Path, source: str) -> None:
    app = write_app(tmp_path / "app", hangs=globals()[source])
    with started("run", "hangs", "--app", str(app)) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert b"stopped: 0 calls in flight closed, 0 finished; nothing was written" in err


def test_a_reader_that_goes_away_ends_the_run_quietly(server: Simulator) -> None:
    with started("run", "stories", STORIES, "--json", env=endpoint_env(server)) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 141
    assert err == b""
    head = subprocess.run(
        f"{sys.executable} -m plait.cli run story topic=x | head -c 10",
        shell=True,
        env={**os.environ, **endpoint_env(server)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert head.stdout == b"Once upon "
    assert b"Traceback" not in head.stderr


# --- on a terminal -------------------------------------------------------------------------------------


def test_concurrent_branches_are_drawn_in_panes_and_the_result_is_printed_once(server: Simulator) -> None:
    with on_terminal("run", "stories", STORIES, env=endpoint_env(server)) as terminal:
        hold = _hold_streams(server)
        terminal.read_until("─ a forest ─", "─ a city ─", "Once upon")
        server.release(hold)
        shown = terminal.read_to_end()
    assert terminal.process.returncode == 0
    result = shown[shown.rindex("\x1b[?25h") :]
    assert "╭" not in result
    assert result.count("Once upon") == 2
    assert result.index("a forest") < result.index("a city")
    assert "stories: 2 calls" in result


def test_one_branch_is_plain_text_and_not_repeated(server: Simulator) -> None:
    with on_terminal("run", "story", "topic=x", env=endpoint_env(server)) as terminal:
        shown = terminal.read_to_end()
    left = shown[shown.rindex("\x1b[?25h") :]
    assert left.count("Once upon") == 1
    assert "╭" not in shown


def test_a_narrow_terminal_is_not_overrun(server: Simulator) -> None:
    with on_terminal("run", "stories", STORIES, size=(40, 15), env=endpoint_env(server)) as terminal:
        hold = _hold_streams(server)
        terminal.read_until("─ a forest ─", "─ a city ─", "Once upon")
        server.release(hold)
        shown = terminal.read_to_end()
    frames = [line for line in shown.replace("\r", "\n").splitlines() if "╭" in line]
    assert frames
    assert max(line.count("─") + 2 for line in frames) <= 40


def test_a_dumb_terminal_gets_no_control_codes(server: Simulator) -> None:
    with on_terminal("run", "stories", STORIES, env=endpoint_env(server) | {"TERM": "dumb"}) as terminal:
        hold = _hold_streams(server)
        shown = terminal.read_until("(several branches write at once")
        assert "Once" not in shown
        server.release(hold)
        shown = terminal.read_to_end()
    assert b"\x1b" not in terminal.raw
    assert "a forest" in shown


def test_no_color_means_no_colours(server: Simulator) -> None:
    with on_terminal("run", "stories", STORIES, env=endpoint_env(server) | {"NO_COLOR": "1"}) as terminal:
        terminal.read_to_end()
    assert b"Once upon" in terminal.raw
    assert not re.search(rb"\x1b\[([0-9;]*;)?3[0-9]m", terminal.raw)


def test_ctrl_c_on_a_terminal_shows_the_cursor_again(server: Simulator) -> None:
    with on_terminal("run", "stories", STORIES, env=endpoint_env(server)) as terminal:
        _hold_streams(server)
        terminal.read_until("Once upon")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read_to_end()
    assert terminal.process.returncode == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "stopped: 2 calls in flight closed" in shown


def _hold_streams(server: Simulator) -> asyncio.Event:
    """From now on every answer stops after a few words; `server.release` what is returned."""
    hold = asyncio.Event()
    server.behave = lambda body, index: Behaviour(hold=hold, hold_after_chunks=3)
    return hold


# --- workflows -----------------------------------------------------------------------------------------

NOISY = """
from typing import TypedDict
from langgraph.graph import StateGraph

print("noise at import")

class State(TypedDict, total=False):
    text: str

def speak(state: State) -> State:
    print("noise from a node")
    return {"text": "quiet"}

graph = StateGraph(State).add_node(speak).set_entry_point("speak").compile()
"""

BAD = """
from typing import TypedDict
from langgraph.graph import StateGraph

class State(TypedDict, total=False):
    text: str

def fail(state: State) -> State:
    1 / 0

graph = StateGraph(State).add_node(fail).set_entry_point("fail").compile()
"""

HANGS = """
import sys, threading
from typing import TypedDict
from langgraph.graph import StateGraph

class State(TypedDict, total=False):
    text: str

def hang(state: State) -> State:
    print("begun", file=sys.stderr, flush=True)
    threading.Event().wait()

graph = StateGraph(State).add_node(hang).set_entry_point("hang").compile()
"""

BLOCKS_THE_LOOP = HANGS.replace("def hang", "async def hang")
