"""Shows a batch while it runs: a panel on a terminal, else a plain line every ten seconds, or nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Protocol, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from plait.batches import Progress
from plait.cli.batch_words import cost, error_lines, progress_line
from plait.cli.durations import rate, rows, spell

_FRAME_S = 0.25
_LINE_S = 10.0
_ERRORS = 3


class Display(Protocol):
    """Where a batch is seen while it runs."""

    def write(self, text: str) -> None:
        """Write whole lines of results to stdout; called in a thread."""
        ...

    async def follow(self) -> None:
        """Show how the batch goes, until cancelled."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


class Silent:
    """Shows nothing."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    async def follow(self) -> None:
        """There is nothing to show."""

    def close(self) -> None:
        """There is nothing to put back."""


class Plain(Silent):
    """A line on stderr every ten seconds, for logs."""

    def __init__(self, look: Callable[[], tuple[str, Progress] | None], out: TextIO) -> None:
        super().__init__(out)
        self._look = look

    async def follow(self) -> None:
        while True:
            await asyncio.sleep(_LINE_S)
            if seen := self._look():
                sys.stderr.write(f"{progress_line(*seen)}\n")
                sys.stderr.flush()


class Panel:
    """Drawn in place four times a second; results that go to the same terminal appear above it."""

    def __init__(
        self, look: Callable[[], tuple[str, Progress] | None], draining: Callable[[], bool], out: TextIO
    ) -> None:
        self._look = look
        self._draining = draining
        self._out = None if out.isatty() else out
        self._console = Console(file=out if out.isatty() else sys.stderr, highlight=False, markup=False, emoji=False)
        # What is drawn was found on the loop: the batch's numbers are not for other threads.
        self._live = Live(console=self._console, transient=True, auto_refresh=False)
        self._live.start()

    def write(self, text: str) -> None:
        if self._out is not None:
            self._out.write(text)
            self._out.flush()
        else:
            self._console.print(Text(_inert(text)), soft_wrap=True, end="")

    async def follow(self) -> None:
        while True:
            seen = self._look()
            view = View(*seen, draining=self._draining()) if seen else Text("opening the batch", style="dim")
            await asyncio.to_thread(self._live.update, view, refresh=True)
            await asyncio.sleep(_FRAME_S)

    def close(self) -> None:
        self._live.stop()


def display_for(
    look: Callable[[], tuple[str, Progress] | None], draining: Callable[[], bool], out: TextIO, *, quiet: bool
) -> Display:
    """The display that fits stderr."""
    if quiet:
        return Silent(out)
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return Panel(look, draining, out)
    return Plain(look, out)


def _inert(text: str) -> str:
    # JSON escapes what lies below the space only; the others move cursors, too, and have the same escape.
    return "".join(char if not "\x7f" <= char <= "\x9f" else f"\\u{ord(char):04x}" for char in text)


class View:
    """One frame of the panel."""

    def __init__(self, batch_id: str, now: Progress, *, draining: bool) -> None:
        self._id = batch_id
        self._now = now
        self._draining = draining

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now, width = self._now, options.max_width
        yield _ends(Text(self._id, style="bold"), Text(spell(now.elapsed_s), style="dim"), width)
        yield _bar(now, width, ascii_only=options.ascii_only)
        yield from _packed(_counts(now), width)
        yield from _packed(_rates(now), width)
        if now.limit and not self._draining:
            yield _line(f"waits for {now.limit}", "yellow", width)
        for said in error_lines(now.errors, now.last_errors, _ERRORS):
            yield _line(said, "red", width)
        if self._draining:
            ending = [f"ending {rows(now.running)} in flight", "Ctrl-C again stops at once"]
            yield from _packed([Text(part, style="bold yellow") for part in ending], width)
        # The cursor stands on an empty line, where the terminal's own ^C disturbs nothing.
        yield Text()


def _counts(now: Progress) -> list[Text]:
    said = [Text(f"{now.done:,} done", style="green")]
    said.append(Text(f"{now.failed:,} failed", style="red" if now.failed else "dim"))
    said.append(Text(f"{now.running:,} in flight"))
    if now.total is not None:
        said.append(Text(f"of {rows(now.total)}", style="dim"))
    return said


def _rates(now: Progress) -> list[Text]:
    said = [f"{rate(now.rows_per_s)} rows/s", f"{rate(now.tokens_per_s)} tokens/s"]
    if now.cost_usd:
        said.append(cost(now))
    if now.eta_s is not None:
        said.append(f"{spell(now.eta_s)} left")
    if now.replayed_calls:
        said.append(f"{now.replayed_calls:,} replayed")
    return [Text(part) for part in said]


def _bar(now: Progress, width: int, *, ascii_only: bool) -> Text:
    full, rest = ("#", "-") if ascii_only else ("━", "─")
    share = Text() if not now.total else Text(f" {100 * (now.done + now.failed) // now.total:>3} %")
    cells = max(1, width - share.cell_len)
    total = now.total or max(1, now.done + now.failed + now.running)
    failed = min(cells, max(round(cells * now.failed / total), 1 if now.failed else 0))
    done = min(cells - failed, int(cells * now.done / total))
    running = min(cells - failed - done, round(cells * now.running / total))
    bar = Text(full * done, style="green", no_wrap=True)
    bar.append(full * failed, style="red").append(full * running, style="yellow")
    return bar.append(rest * (cells - done - failed - running), style="dim").append_text(share)


def _ends(left: Text, right: Text, width: int) -> Text:
    gap = width - left.cell_len - right.cell_len
    if gap < 2:
        left.truncate(width, overflow="ellipsis")
        return left
    return left.append(" " * gap).append_text(right)


def _packed(parts: list[Text], width: int) -> list[Text]:
    """The parts on as few lines as hold them; none is broken."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 3 + part.cell_len <= width:
            lines[-1].append("   ").append_text(part)
        else:
            part.truncate(width, overflow="ellipsis")
            lines.append(Text(no_wrap=True).append_text(part))
    return lines


def _line(text: str, style: str, width: int) -> Text:
    found = Text(text, style=style, no_wrap=True)
    if cell_len(text) > width:
        found.truncate(width, overflow="ellipsis")
    return found
