"""Every command and code block of README, CONTRIBUTING and docs is executed.

A block whose info string has a title is a file beside the commands that follow it. In a console block, lines that begin
with `$ ` are commands; what stands below them shows their output, which models word differently each time. A server
that a page starts goes on until the page ends, on a free port.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
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


def commands(block: Block) -> list[str]:
    """The commands of a console block, each in one line; none of another block."""
    text = block.text.replace("\\\n", "") if block.language == "console" else ""
    return re.findall(r"^\$ (.+)$", text, re.MULTILINE)


def write(block: Block, folder: Path) -> None:
    """Write the file that a block shows."""
    (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
    (folder / block.title).write_text(block.text)


def environment(base_url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MODEL": "openai:gpt-4.1-mini"}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Shell:
    """Runs documented commands in a folder. What serves goes on until `close`."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self._env = environment(base_url)
        self._served = ExitStack()
        self._ports: dict[str, str] = {}

    def close(self) -> None:
        """End what serves."""
        self._served.close()

    def placed(self, text: str) -> str:
        """The text with the ports that were free in place of those that are printed."""
        for printed, free in self._ports.items():
            text = re.sub(rf"(localhost|127\.0\.0\.1):{printed}\b", rf"127.0.0.1:{free}", text)
        assert "//localhost:" not in text, f"nothing was started there: {text}"
        return text

    def run(self, command: str) -> None:
        """Run a command; what it is piped into is the reader's own."""
        words = shlex.split(command.partition(" | ")[0])
        match words[0]:
            case "plait" if words[1] == "simulate":  # it serves until it is stopped
                with started(*words[1:], "--port", "0", cwd=self.folder) as serving:
                    assert serving.stdout is not None
                    assert b"http://127.0.0.1:" in serving.stdout.readline(), command
                    serving.send_signal(signal.SIGINT)
                    assert serving.wait(PATIENCE_S) == 130, command
            case "plait" if words[1] == "serve":
                self._serve([sys.executable, "-m", "plait.cli", *words[1:]], printed="8123")
            case "uvicorn":
                self._serve([sys.executable, "-m", *words], printed="8000")
            case "plait":
                done = plait(*words[1:], cwd=self.folder, env=self._env)
                allowed = {0, 1} if words[1] == "doctor" else {0}  # this machine may lack something
                assert done.code in allowed, f"{command}\n{done.out}{done.err}"
            case "curl":
                self._curl(shlex.split(self.placed(command.partition(" | ")[0])))
            case "make":  # .ci/run runs demo, lint and test; a test that ran them would run itself
                targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
                assert words[1] in targets, command
            case "npm" | "node":  # they print what tests/test_service_examples.py runs
                assert words[1] == "install" or (ROOT / "examples" / "js" / words[1]).exists(), command
            case "python":
                assert (ROOT / "examples" / words[1]).exists(), command
            case "export":
                return
            case other:
                pytest.fail(f"no way to check {other!r}: {command}")

    def _curl(self, words: list[str]) -> None:
        if shutil.which("curl") is None:
            pytest.skip("needs curl 7.82 or newer")
        words = [*words, "--fail-with-body"]
        asked = subprocess.run(words, check=False, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE_S)
        assert asked.returncode == 0, f"{words}\n{asked.stdout}{asked.stderr}"

    def _serve(self, words: list[str], *, printed: str) -> None:
        if "--port" in words:
            printed = words[words.index("--port") + 1]
        self._ports[printed] = self._served.enter_context(serving([*words, "--port", "0"], self.folder, self._env))


def start_servers(page: Path, shell: Shell) -> None:
    """Start what a page serves, each in the files that the page has shown by then."""
    for block in blocks(page):
        if block.title:
            write(block, shell.folder)
        for command in commands(block):
            if command.startswith(("plait serve", "uvicorn")):
                shell.run(command)


@contextmanager
def serving(words: list[str], folder: Path, env: dict[str, str]) -> Generator[str]:
    """A server while the block lasts; gives the port that it names on stderr, and asks it to end orderly."""
    with subprocess.Popen(words, cwd=folder, env={**os.environ, **env}, stderr=subprocess.PIPE, text=True) as process:
        try:
            port, said = _port_of(process)
        except BaseException:
            process.kill()  # or the end of the block would wait for it
            raise
        reader = threading.Thread(target=said.extend, args=(process.stderr,))
        reader.start()
        try:
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(PATIENCE_S)
            finally:
                process.kill()
                reader.join()
        assert code in (0, -signal.SIGTERM), "".join(said)  # uvicorn ends by the signal, once it is done


def _port_of(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """The port that a server names when it listens, and all that it said until then."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return found[1], said
    pytest.fail("".join(said))


@pytest.mark.timeout(600)  # a page may have dozens of commands
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_documented_commands_run(page: Path, tmp_path: Path) -> None:
    (tmp_path / "topic.txt").write_text("a lighthouse")
    (tmp_path / "prompt.txt").write_text("Greet {name} as a pirate would.")
    (tmp_path / "articles").mkdir()
    (tmp_path / "articles" / "bread.md").write_text("Yeast turns sugar into gas, and the gas lifts the dough.")
    (tmp_path / "topics.json").write_text('{"topics": ["a cat", "a dog"]}')
    with running() as provider, closing(Shell(tmp_path, provider.base_url)) as shell:
        for block in blocks(page):
            if block.title:
                write(block, tmp_path)
                if block.title == "langgraph.json":
                    app = find_app(tmp_path)
                    from_env({"PARADIGM_API_KEY": "k"}, section=app.section)
            elif block.language == "console":
                for command in commands(block):
                    shell.run(command)
            elif block.language == "json":
                json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_documented_code_runs(page: Path, tmp_path: Path) -> None:
    code = [block.text for block in blocks(page) if block.language == "python" and not block.title]
    if not code:
        return
    folder = tmp_path / "served"
    folder.mkdir()
    with running() as provider, closing(Shell(folder, provider.base_url)) as shell:
        if any("localhost:" in text or "service.db" in text for text in code):
            start_servers(page, shell)
        done = subprocess.run(
            [sys.executable, "-c", RUN_PAGE],
            check=False,
            input=json.dumps([shell.placed(text) for text in code]),
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
