"""Shows a run on a terminal: one branch as plain streaming text, concurrent ones in live panes, then the result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from plait.cli.panes import Board, Branch
from plait.cli.values import Section, clean, only_text, sections
from plait.cli.wrapping import Wrapped
from plait.events import CustomEvent, Event, Result, TokenEvent, UpdateEvent
from plait.json_values import to_json

_GRACE_S = 1.0
"""How long a lone branch is drawn in place, in case others join it, before it is written as plain text."""


class Screen:
    """The sink for a terminal. Modes: `live` redraws in place, `raw` appends one branch's text, `still` only waits.

    A dumb terminal cannot redraw: there `live` holds the text back.
    """

    def __init__(self, name: str, inputs: Mapping[str, object], out: TextIO, *, show_result: bool = True) -> None:
        self._console = Console(file=out, highlight=False, markup=False)
        self._plain = Wrapped(out, lambda: self._console.width)
        self._inputs = inputs
        self._show_result = show_result
        self._board = Board(name)
        self._first_token: float | None = None
        self._written: Branch | None = None
        self._message = ""
        self._text = ""
        """What stands on the screen as plain text, since the last change of branch."""
        self._live: Live | None = None
        self._mode: Literal["live", "raw", "still"] = "live"
        if not self._console.is_dumb_terminal:
            self._start_live()

    def take(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, TokenEvent):
            self._token(event)
        elif isinstance(event, UpdateEvent):
            self._board.finish(event)
        elif isinstance(event, CustomEvent):
            self._note(event)

    def finish(self, result: Result) -> None:
        """Show the result, unless it is the very text that was streamed."""
        self.close()
        if result.outputs is None or not self._show_result:
            return
        parts = sections(result.outputs, self._inputs)
        text = only_text(parts)
        if self._mode == "raw" and text is not None and clean(text).strip() == self._text.strip():
            return
        if self._text:
            self._console.rule(style="dim")
        for index, part in enumerate(parts):
            self._print(part, alone=text is not None, first=index == 0)

    def close(self) -> None:
        """Leave the terminal as it was found: panes gone, cursor shown, on a new line."""
        if self._mode == "live":
            self._stop_live()
            lone = list(self._board.branches.values())
            if self._first_token is not None and len(lone) == 1 and not self._text:
                self._begin_raw(lone[0])
        if self._mode == "raw":
            self._plain.end_line()

    def _token(self, event: TokenEvent) -> None:
        branch = self._board.add(event)
        if self._first_token is None:
            self._first_token = time.monotonic()
        if self._mode == "live" and self._live is None:
            self._hold(branch, event)
        elif self._mode == "live":
            alone = len(self._board.branches) == 1 and len(branch.messages) == 1
            if alone and time.monotonic() - self._first_token > _GRACE_S:
                self._stop_live()
                self._begin_raw(branch)
        elif self._mode == "raw":
            self._append(branch, event)

    def _hold(self, branch: Branch, event: TokenEvent) -> None:
        first = next(iter(self._board.branches.values()))
        if branch is not first and first.done:
            self._begin_raw(first)
            self._append(branch, event)
        elif branch is not first:
            self._side_by_side()
        elif self._first_token is not None and time.monotonic() - self._first_token > _GRACE_S:
            self._begin_raw(branch)

    def _append(self, branch: Branch, event: TokenEvent) -> None:
        if branch is self._written and event.message_id == self._message:
            self._write(event.text if self._text.strip() else event.text.lstrip())
            return
        overlapping = event.message_id in branch.messages and branch.messages[event.message_id] != event.text
        if self._written is not None and (overlapping or not (branch is self._written or self._written.done)):
            self._side_by_side()
            return
        if self._text:
            self._plain.end_line()
            self._plain.write("\n")
            self._text = ""
        self._written, self._message = branch, event.message_id
        self._write(event.text.lstrip())

    def _side_by_side(self) -> None:
        self._plain.end_line()
        if self._console.is_dumb_terminal:
            self._mode = "still"
            self._console.print("(several branches write at once; their texts follow at the end)")
        else:
            self._start_live()

    def _begin_raw(self, branch: Branch) -> None:
        self._mode, self._written = "raw", branch
        *earlier, last = branch.messages.values()
        for text in earlier:
            self._write(f"{text.strip()}\n\n")
        self._message = list(branch.messages)[-1]
        self._text = ""
        self._write(last.lstrip())

    def _write(self, text: str) -> None:
        kept = clean(text)
        self._text += kept
        self._plain.write(kept)

    def _start_live(self) -> None:
        self._mode = "live"
        self._live = Live(
            self._board, console=self._console, transient=True, refresh_per_second=10, vertical_overflow="crop"
        )
        self._live.start()

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _note(self, event: CustomEvent) -> None:
        if self._live is not None:
            text = event.data if isinstance(event.data, str) else str(to_json(event.data))
            self._console.print(Text(clean(f"{event.label}: {text}"), style="dim"), soft_wrap=True)

    def _print(self, part: Section, *, alone: bool, first: bool) -> None:
        if not first:
            self._console.print()
        if part.title and not alone:
            self._console.print(Text(clean(part.title), style="bold red" if part.failed else "bold cyan"))
        self._console.print(Text(clean(part.text).strip("\n")))
