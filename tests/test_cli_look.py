"""The commands that look and set up: --help, list, graph, models, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plait.simulator import Profile, running
from plait.weights import WEIGHTS
from tests.command import endpoint_env, on_terminal, plait, started, write_app

GREET = """
from typing import Annotated, NotRequired, TypedDict
from langgraph.graph import StateGraph

class Input(TypedDict):
    name: Annotated[str, "whom to greet"]
    loud: NotRequired[bool]

class State(Input):
    greeting: str

def greet(state: State) -> dict[str, str]:
    return {"greeting": f"Hello {state['name']}"}

graph = StateGraph(State, input_schema=Input).add_node(greet).set_entry_point("greet").compile()
"""


# --- --help --------------------------------------------------------------------------------------------


def test_help_groups_the_commands_and_lists_the_exit_codes() -> None:
    ended = plait("--help")
    assert ended.code == 0
    assert ended.err == ""
    places = [ended.out.index(f"─ {panel} ─") for panel in ("Run", "Look", "Set up")]
    assert places == sorted(places)
    for command in ("run", "list", "graph", "models", "doctor"):
        assert f"│ {command} " in ended.out
    for code in ("0", "1", "2", "3", "4", "124", "130"):
        assert f"\n {code}  " in ended.out


def test_help_imports_neither_langchain_nor_pydantic_nor_an_http_client() -> None:
    program = (
        "import sys; sys.argv = ['plait', '--help']\n"
        "from plait.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'langchain_core', 'langgraph', 'pydantic', 'aiohttp', 'httpx2', 'openai', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


def test_no_command_shows_the_help_and_a_wrong_one_the_nearest() -> None:
    nothing = plait()
    assert nothing.code == 2
    assert "Usage: plait" in nothing.out + nothing.err
    wrong = plait("rnu")
    assert wrong.code == 2
    assert wrong.err.startswith("plait: No such command 'rnu'.")
    assert "'run'" in wrong.err


@pytest.mark.parametrize("words", ["list", "--help", "graph stories"])
def test_output_that_cannot_be_written_is_told_and_a_reader_that_leaves_is_not(words: str) -> None:
    command = f"{sys.executable} -m plait.cli {words}"
    full = subprocess.run(f"{command} >/dev/full", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert full.returncode == 1
    assert full.stderr.endswith("plait: cannot write to standard output: No space left on device\n")
    closed = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert closed.returncode == 2
    assert closed.stderr == "plait: cannot write to standard output: it is closed\n"
    silent = subprocess.run(f"{command} 2>&-", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert silent.returncode == 0
    assert silent.stdout
    with started(*words.split()) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=60)
    assert process.returncode == 141
    assert err.decode() in {"", "from the app that comes with plait\n"}


def test_a_signal_before_anything_is_imported_ends_quietly() -> None:
    program = "import signal, sys; sys.argv = ['plait', 'list']; import plait.cli; signal.raise_signal(signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_the_log_level_may_stand_anywhere() -> None:
    assert "DEBUG asyncio" in plait("list", "--log-level", "debug").err
    assert "DEBUG asyncio" in plait("list", "--log-level=debug").err
    missing = plait("list", "--log-level")
    assert missing.code == 2
    assert "'--log-level' requires an argument" in missing.err


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert plait("--version").out == f"plait {version('plait')}\n"


# --- list ----------------------------------------------------------------------------------------------


def test_list_shows_the_bundled_workflows_with_their_inputs() -> None:
    ended = plait("list")
    assert ended.code == 0
    assert "story  Write a short story" in ended.out
    assert "    topic: str (required)  what the story is about" in ended.out
    assert "    topics: list[str] (required)" in ended.out
    assert ended.err == "from the app that comes with plait\n"


def test_list_shows_a_broken_workflow_with_its_reason_beside_the_others(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", greet=GREET, broken="import no_such_package_at_all")
    ended = plait("list", cwd=app)
    assert ended.code == 0
    assert "    name: str (required)  whom to greet" in ended.out
    assert "broken: " in ended.out
    assert "no_such_package_at_all" in ended.out
    assert str(app / "langgraph.json") in ended.err
    found = json.loads(plait("list", "--json", "--app", str(app)).out)
    assert [entry["name"] for entry in found] == ["greet", "broken"]
    assert found[0]["inputs"][0] == {
        "name": "name",
        "type": "str",
        "required": True,
        "description": "whom to greet",
        "default": None,
    }
    assert found[0]["error"] is None
    assert "no_such_package_at_all" in found[1]["error"]


def test_list_on_a_narrow_terminal_without_colours() -> None:
    with on_terminal("list", size=(40, 15), env={"NO_COLOR": "1"}) as terminal:
        shown = terminal.read_to_end()
    assert "topic: str (required)" in shown


# --- graph ---------------------------------------------------------------------------------------------


def test_graph_prints_mermaid_text_without_nodes_of_langgraphs_own() -> None:
    ended = plait("graph", "stories")
    assert ended.code == 0
    assert "graph TD;" in ended.out
    assert "write --> collect;" in ended.out
    assert "error_handler" not in ended.out


def test_graph_draws_a_png(tmp_path: Path) -> None:
    ended = plait("graph", "stories", "--png", str(tmp_path / "stories.png"))
    assert ended.code == 0, ended.err
    assert ended.out == ""
    assert (tmp_path / "stories.png").read_bytes().startswith(b"\x89PNG")
    assert plait("graph", "stories", "--png", "/no/such/folder/a.png").code == 2


def test_graph_of_an_unknown_workflow_suggests_the_nearest() -> None:
    ended = plait("graph", "storys")
    assert ended.code == 2
    assert "did you mean" in ended.err


# --- models --------------------------------------------------------------------------------------------


def test_models_shows_what_is_configured_and_never_a_key() -> None:
    env = {"OPENAI_API_KEY": "sk-secret", "PLAIT_MODEL": "openai:gpt-5.4-mini"}
    for words in (["models"], ["models", "--json"]):
        ended = plait(*words, env=env)
        assert ended.code == 0, ended.err
        assert "local:smollm2-135m" in ended.out
        assert "https://api.openai.com/v1" in ended.out
        assert "sk-secret" not in ended.out + ended.err


def test_a_missing_runtime_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from plait.cli.models import show_models

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    show_models(None, as_json=True)
    found = json.loads(capsys.readouterr().out)["models"][0]["note"]
    assert found.endswith("; the runtime is missing: pip install xllamacpp")
    assert ", ready" not in found


def test_a_password_in_a_url_is_hidden() -> None:
    env = {"OPENAI_BASE_URL": "http://user:SECRET@127.0.0.1:9/v1", "PLAIT_MAX_ATTEMPTS": "1"}
    for words in (["models"], ["models", "--json"], ["doctor"]):
        ended = plait(*words, env=env)
        assert "http://***@127.0.0.1:9/v1" in ended.out
        assert "SECRET" not in ended.out + ended.err
    wrong = plait("list", env={"OPENAI_BASE_URL": "ftp://user:SECRET@host/v1"})
    assert "found 'ftp://***@host/v1'" in wrong.err


def test_pulling_unknown_weights_names_the_known_ones() -> None:
    ended = plait("models", "pull", "gpt-5")
    assert ended.code == 4
    assert "local:smollm2-135m" in ended.err


@pytest.mark.model
def test_pulling_weights_that_are_there_prints_their_place() -> None:
    from plait.settings import from_env
    from plait.weights import find

    there = find("smollm2-135m", from_env())
    if there is None:
        pytest.skip("the embedded model's weights are not fetched")
    ended = plait("models", "pull", "local:smollm2-135m")
    assert ended.code == 0
    assert ended.out == f"{there}\n"
    assert WEIGHTS["smollm2-135m"].licence in ended.err


# --- doctor --------------------------------------------------------------------------------------------


def test_doctor_reaches_a_loopback_endpoint_and_never_prints_the_key() -> None:
    with running(Profile(require_key="sk-test")) as server:
        ended = plait("doctor", env=endpoint_env(server))
    assert "problem" not in ended.out, ended.out
    assert ended.code == 0
    assert "sk-test" not in ended.out + ended.err
    for subject in ("system", "packages", "workflow story", "model", "endpoint openai", "flow control", "proxies"):
        assert f" {subject}: " in ended.out


def test_doctor_finds_a_refused_key_a_dead_endpoint_and_a_broken_workflow(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", greet=GREET, broken="raise ValueError('no')")
    with running(Profile(require_key="another")) as server:
        refused = plait("doctor", "--json", "--app", str(app), env=endpoint_env(server))
    dead = plait("doctor", "--json", env=endpoint_env(server))
    assert refused.code == dead.code == 1
    problems = {check["subject"]: check for check in json.loads(refused.out) if check["status"] == "problem"}
    assert set(problems) == {"workflow broken", "endpoint openai"}
    assert "the key is refused" in problems["endpoint openai"]["found"]
    assert problems["endpoint openai"]["cure"] == "correct OPENAI_API_KEY"
    problems = {check["subject"]: check for check in json.loads(dead.out) if check["status"] == "problem"}
    assert "cannot be reached" in problems["endpoint openai"]["found"]


def test_doctor_names_the_missing_key_and_hides_a_proxys_password() -> None:
    env = {"PLAIT_MODEL": "openai:gpt-5.4-mini", "HTTPS_PROXY": "http://user:secret@127.0.0.1:9"}
    ended = plait("doctor", env=env)
    assert ended.code == 1
    assert "problem model: openai:gpt-5.4-mini, but OPENAI_API_KEY is not set" in ended.out
    assert "HTTPS_PROXY=127.0.0.1:9" in ended.out
    assert "secret" not in ended.out + ended.err


def test_doctor_reports_settings_and_an_app_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_text("{")
    ended = plait("doctor", cwd=tmp_path, env={"PLAIT_MAX_CONCURRENCY": "many"})
    assert ended.code == 1
    assert "problem app: " in ended.out
    assert "problem settings: PLAIT_MAX_CONCURRENCY: expected a whole number, found 'many'" in ended.out
