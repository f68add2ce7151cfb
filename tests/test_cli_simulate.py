"""`plait simulate`: a provider in the foreground, told in lines, ended by Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from pathlib import Path
from subprocess import Popen

import httpx2
import pytest

from plait.cli.simulate import Options, simulate
from plait.errors import PlaitError
from plait.simulator import PRESETS
from tests.command import PATIENCE_S, on_terminal, plait, started


def base_url(process: Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def ask(url: str, text: str) -> httpx2.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return httpx2.post(f"{url}/chat/completions", json=body, timeout=30)


def test_it_serves_until_ctrl_c_and_ends_with_a_table() -> None:
    with started("simulate", "--port", "0", "--rpm", "6", "--burst", "1", "--key", "sk-x") as process:
        url = base_url(process)
        headers = {"authorization": "Bearer sk-x"}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        found = [httpx2.post(f"{url}/chat/completions", json=body, headers=headers).status_code for _ in range(2)]
        assert found == [200, 429]
        assert httpx2.get(f"{url}/models").status_code == 401
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert out == b""
    told = err.decode()
    assert f"export OPENAI_BASE_URL={url} OPENAI_API_KEY=sk-x" in told
    assert 'plait run story topic="a magical forest" --model openai:simulated' in told
    assert re.search(r"^received +3 in \d+ s$", told, re.MULTILINE)
    assert re.search(r"^refused +2 \(rpm 1, invalid 1\)$", told, re.MULTILINE)


def test_the_workflow_of_its_hint_runs_against_it(tmp_path: Path) -> None:
    with started("simulate", "--profile", "burst20", "--port", "0", "--latency", "0") as process:
        env = {"OPENAI_BASE_URL": base_url(process), "OPENAI_API_KEY": "none"}
        words = ("run", "story", "topic=a magical forest", "--model", "openai:simulated")
        done = plait(*words, cwd=tmp_path, env=env)
        assert done.code == 0, done.err
        assert "a magical forest" in done.out


def test_json_lines_begin_with_the_url_and_end_with_the_counters() -> None:
    with started("simulate", "--port", "0", "--json") as process:
        url = json.loads(base_url(process))["base_url"]
        assert ask(url, "hi").status_code == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert json.loads(out.decode().splitlines()[-1])["accepted"] == 1
    assert err.decode().strip() == ""


def test_answers_come_from_rules_or_from_a_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def answer(body):\n    return body['model'].upper()\n")
    with started("simulate", "--port", "0", "--answer", "moon=Made of cheese.") as process:
        assert "Made of cheese." in ask(base_url(process), "Of what is the moon?").text
    with started("simulate", "--port", "0", "--answers", "mine:answer", cwd=tmp_path) as process:
        assert ask(base_url(process), "hi").json()["choices"][0]["message"]["content"] == "M"


def test_on_a_terminal_a_line_follows_the_counters() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with on_terminal("simulate", "--port", str(port), size=(80, 24)) as terminal:
        terminal.read_until("accepted 0, refused 0")
        ask(f"http://127.0.0.1:{port}/v1", "hi")
        terminal.read_until("accepted 1, refused 0")
        terminal.process.send_signal(signal.SIGINT)
        told = terminal.read_to_end()
        assert re.search(r"accepted +1", told)
        assert terminal.raw.rstrip().rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")
        assert terminal.process.returncode == 130


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(changes={"rpm": "many"}), "--rpm: expected a number, found 'many'"),
        (Options(changes={"rpm": "0"}), "--rpm: expected a number above 0, found 0.0"),
        (Options(changes={"rpd": "1.5"}), "--rpd: expected a whole number, found '1.5'"),
        (Options(changes={"latency_s": "-1"}), "--latency: expected a number of 0 or more, found -1.0"),
        (Options(changes={"over_limit": "drop"}), "--over-limit: expected one of refuse, queue, found 'drop'"),
        (Options(changes={"headers": "x"}), "--headers: expected one of openai, azure, anthropic, none, found 'x'"),
        (Options(faults=["fire=1"]), "--fault: expected one of 429, 429-silent"),
        (Options(faults=["reset"]), "--fault KIND=PROBABILITY: expected a number, found 'reset'"),
        (Options(faults=["500=0.7", "503=0.7"]), "sum up to 1 at most"),
        (Options(port="70000"), "--port: expected a number from 0"),
        (Options(profile="x"), "profile: expected one of openai-tier1"),
        (Options(answer=["hi"]), "--answer: expected REGEX=TEXT, found 'hi'"),
        (Options(answer=["(=hi"]), "expected a regular expression"),
        (Options(answer=["a=b"], answers="c:d"), "--answer and --answers: expected one of them, found both"),
        (Options(answers="nothing"), "--answers: expected package.module:function, found 'nothing'"),
        (Options(answers="nowhere:x"), "--answers: nowhere cannot be imported"),
        (Options(answers="json:nothing"), "--answers: json has no function 'nothing'"),
    ],
)
def test_values_that_cannot_be_used_are_told(options: Options, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(PlaitError, match=re.escape(said)):
        simulate(options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--burst", "0.5"], "plait: --burst: expected a number of 1 or more, found 0.5"),
        (["--host", "nowhere.invalid"], "plait: cannot listen at nowhere.invalid"),
    ],
)
def test_they_are_told_in_a_line(words: list[str], said: str) -> None:
    done = plait("simulate", "--port", "0", *words)
    assert done.code == 2, done.err
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_port_in_use_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = plait("simulate", "--port", str(taken.getsockname()[1]))
    assert done.code == 2
    assert "address already in use" in done.err


def test_help_lists_the_profiles() -> None:
    shown = " ".join(plait("simulate", "--help").out.split())
    assert all(f"{name} {preset.note}" in shown for name, preset in PRESETS.items())
