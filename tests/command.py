"""Runs the real `plait` command as a subprocess, on pipes or on a pseudo-terminal, for the tests of the CLI."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.simulator import Simulator

_STYLE = re.compile(r"\x1b\[[0-9;]*m")

PATIENCE_S = 120.0
"""How long a command may take before the test fails: only a failing test gets there."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that is over."""

    code: int
    out: str
    err: str


def plait(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, stdin: str | bytes = "") -> Ended:
    """Run the command to its end, stdout and stderr being pipes."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "plait.cli", *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=given,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def started(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """The command while it runs, stdout and stderr being pipes; killed at the end of the block if need be."""
    process = subprocess.Popen(
        [sys.executable, "-m", "plait.cli", *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


class Terminal:
    """The command on a pseudo-terminal; `text` is all that was written to it so far, without colours."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.text = ""
        self.raw = b""
        self._master = master

    def read_until(self, *wanted: str) -> str:
        """Read until all of these have been written."""
        self._read(lambda: all(each in self.text for each in wanted), f"expected {wanted}")
        return self.text

    def read_to_end(self) -> str:
        """Read until the command is over."""
        self._read(lambda: False, "expected the end")
        self.process.wait(PATIENCE_S)
        return self.text

    def _read(self, reached: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{what}, the terminal shows {self.text[-2000:]!r}")
            try:
                found = os.read(self._master, 65536)
            except OSError:  # Linux: the last writer has closed the terminal
                found = b""
            if not found:
                if what == "expected the end":
                    return
                raise EOFError(f"{what}, the terminal shows {self.text[-2000:]!r}")
            self.raw += found
            self.text = _STYLE.sub("", self.raw.decode(errors="replace"))


@contextmanager
def on_terminal(
    *words: str, size: tuple[int, int] = (100, 30), env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Generator[Terminal]:
    """The command with a terminal of `size` (columns, rows) as stdin, stdout and stderr."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "plait.cli", *words],
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        os.close(master)


def endpoint_env(provider: Simulator) -> dict[str, str]:
    """The environment in which `openai:...` is the provider, and the default."""
    return {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "sk-test", "PLAIT_MODEL": "openai:test-model"}


def write_app(folder: Path, **workflows: str) -> Path:
    """An app with a file for each workflow, whose source defines `graph`; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in workflows.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    graphs = {name: f"./{name}.py:graph" for name in workflows}
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}), encoding="utf-8")
    return folder
