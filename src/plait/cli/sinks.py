"""Where a run's events and its result go when they do not go to a terminal: JSON lines, plain text, a file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TextIO
from uuid import uuid4

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from plait.cli.values import sections, to_text
from plait.errors import InputError
from plait.events import Event, Result, TokenEvent
from plait.json_events import event_fields
from plait.json_values import dumps


class Sink(Protocol):
    """Takes the events of one run as they come, then its result."""

    def take(self, event: Event) -> None: ...

    def finish(self, result: Result) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line for every event, each written through at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def take(self, event: Event) -> None:
        self._out.write(f"{dumps(event_fields(event))}\n")
        self._out.flush()

    def finish(self, result: Result) -> None:
        """The end event was the result."""

    def close(self) -> None:
        """Nothing to put back."""


class PlainText:
    """Only the result, as text; a line on stderr shows meanwhile that something happens, if that is a terminal."""

    def __init__(
        self, name: str, inputs: Mapping[str, object], out: TextIO, err: TextIO, *, show_result: bool = True
    ) -> None:
        self._name = name
        self._show_result = show_result
        self._inputs = inputs
        self._out = out
        self._started = time.monotonic()
        self._branches: set[tuple[str, str]] = set()
        self._pieces = 0
        console = Console(file=err)
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(self, console=console, transient=True, refresh_per_second=4)
            self._live.start()

    def take(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            self._pieces += 1
            self._branches.add((event.branch, event.label))

    def finish(self, result: Result) -> None:
        self.close()
        if result.outputs is not None and self._show_result:
            self._out.write(f"{to_text(sections(result.outputs, self._inputs))}\n")
            self._out.flush()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words = f"{self._name}: {time.monotonic() - self._started:.0f} s"
        if self._pieces:
            words += f", {_count(len(self._branches), 'branch', 'branches')}, {_count(self._pieces, 'token')}"
        yield Text(words, style="dim", overflow="ellipsis", no_wrap=True)


def write_output(path: Path, result: Result, inputs: Mapping[str, object]) -> None:
    """Replace the file by the outputs, at once or not at all: text for .txt and .md, else JSON."""
    if path.suffix.lower() in {".txt", ".md"}:
        content = to_text(sections(result.outputs, inputs))
    else:
        content = dumps(result.outputs, indent=2)
    whole = f"{content}\n".encode(errors="backslashreplace")
    # Beside the target: a rename is atomic only within one file system.
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        try:
            with part.open("xb") as file:
                file.write(whole)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                part.chmod(path.stat().st_mode & 0o777)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"--output: cannot write {str(path)!r}: {error.strerror or error}") from error


def _count(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
