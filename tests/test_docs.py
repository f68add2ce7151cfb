"""Every command and code block of README, CONTRIBUTING and docs is executed.

A block whose info string has a title is a file beside the commands that follow it. In a console block, lines that begin
with `$ ` are commands; what stands below them shows their output, which models word differently each time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plait.app import find_app
from plait.settings import from_env
from plait.simulator import running
from tests.command import PATIENCE_S, plait, started

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# The blocks of a page share their names, as a notebook's cells do.
RUN_PAGE = """
import ast, asyncio, inspect, json, sys

async def main():
    names = {"__name__": "page"}
    for number, block in enumerate(json.load(sys.stdin), 1):
        code = compile(block, f"<block {number}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, names)
        if inspect.isawaitable(found):
            await found

asyncio.run(main())
"""


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for language, title, text in FENCE.findall(page.read_text()):
        yield Block(language, title, text)


def environment(base_url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MODEL": "openai:gpt-4.1-mini"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shell(command: str, folder: Path, base_url: str) -> None:
    """Run a documented command; what it is piped into is the reader's own."""
    words = shlex.split(command.partition(" | ")[0])
    match words[0]:
        case "plait" if words[1] == "simulate":  # it serves until it is stopped
            with started(*words[1:], "--port", "0", cwd=folder) as serving:
                assert serving.stdout is not None
                assert b"http://127.0.0.1:" in serving.stdout.readline(), command
                serving.send_signal(signal.SIGINT)
                assert serving.wait(PATIENCE_S) == 130, command
        case "plait":
            done = plait(*words[1:], cwd=folder, env=environment(base_url))
            allowed = {0, 1} if words[1] == "doctor" else {0}  # this machine may lack something
            assert done.code in allowed, f"{command}\n{done.out}{done.err}"
        case "make":  # .ci/run runs demo, lint and test; a test that ran them would run itself
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert words[1] in targets, command
        case "export":
            return
        case other:
            pytest.fail(f"no way to check {other!r}: {command}")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_documented_commands_run(page: Path, tmp_path: Path) -> None:
    (tmp_path / "topic.txt").write_text("a lighthouse")
    (tmp_path / "prompt.txt").write_text("Greet {name} as a pirate would.")
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "bread.md").write_text("Yeast turns sugar into gas, and the gas lifts the dough.")
    (tmp_path / "topics.json").write_text('{"topics": ["a cat", "a dog"]}')
    with running() as provider:
        for block in blocks(page):
            if block.title:
                (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block.title).write_text(block.text)
                if block.title == "langgraph.json":
                    app = find_app(tmp_path)
                    from_env({"PARADIGM_API_KEY": "k"}, section=app.section)
            elif block.language == "console":
                for command in re.findall(r"^\$ (.+)$", block.text, re.MULTILINE):
                    shell(command, tmp_path, provider.base_url)
            elif block.language == "json":
                json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_documented_code_runs(page: Path, tmp_path: Path) -> None:
    code = [block.text for block in blocks(page) if block.language == "python" and not block.title]
    if not code:
        return
    with running() as provider:
        done = subprocess.run(
            [sys.executable, "-c", RUN_PAGE],
            check=False,
            input=json.dumps(code),
            cwd=tmp_path,
            env={**os.environ, **environment(provider.base_url)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr


def test_help_names_every_exit_code_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = plait("--help").out
    for code in ("0", "1", "2", "3", "4", "5", "124", "130"):
        assert re.search(rf"(?<!\d){code} ", shown)
        assert re.search(rf"(?<!\d){code} ", readme)
