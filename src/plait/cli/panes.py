"""Live panes: the tail of every concurrent branch's text, side by side in whatever room the terminal has."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from plait.cli.values import clean
from plait.events import TokenEvent, UpdateEvent

_NARROWEST = 28
_LOWEST = 4
_HIGHEST = 14
_INDEX = re.compile(r"(?<=\[)\d+(?=\])")


@dataclass(slots=True)
class Branch:
    """What one branch has said so far, message by message: concurrent messages of a node do not mix."""

    label: str
    path: str
    messages: dict[str, str] = field(default_factory=dict)
    done: bool = False

    @property
    def text(self) -> str:
        return "\n\n".join(text.strip() for text in list(self.messages.values()))

    def tail(self, console: Console, width: int, rows: int) -> Text:
        """The last lines of the text, wrapped to `width` cells."""
        end = clean(self.text[-2 * width * rows :]).strip()
        return Text("\n").join(Text(end, overflow="fold").wrap(console, width)[-rows:])


class Board:
    """The branches of a run, drawn to fit the terminal; a single one is drawn without a frame."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.branches: dict[tuple[str, str], Branch] = {}
        self._started = time.monotonic()

    def add(self, event: TokenEvent) -> Branch:
        """Append a token to its branch."""
        branch = self.branches.setdefault((event.branch, event.label), Branch(event.label, event.branch))
        branch.messages[event.message_id] = branch.messages.get(event.message_id, "") + event.text
        branch.done = False
        return branch

    def finish(self, event: UpdateEvent) -> None:
        """Mark the branches that end with this node."""
        for branch in self.branches.values():
            if branch.path == event.branch or branch.path.startswith(f"{event.branch}/"):
                branch.done = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # The drawing thread reads while the event loop writes: work on a copy.
        branches = _in_order(list(self.branches.values()))
        # The line below is the cursor's; the room at the right is for the ^C that the terminal itself writes,
        # which would otherwise wrap and leave a line of the drawing behind.
        width, height = max(10, options.max_width - 2), max(2, console.size.height - 1)
        if not branches:
            waiting = f"{self.name}: waiting for the first token, {time.monotonic() - self._started:.0f} s"
            yield Text(waiting, style="dim", overflow="ellipsis", no_wrap=True)
        elif len(branches) == 1:
            yield branches[0].tail(console, width, height)
        else:
            yield from _draw(branches, console, width, height)


def _in_order(branches: list[Branch]) -> list[Branch]:
    """Siblings by their index, whichever spoke first; otherwise as they came."""
    stems: dict[str, int] = {}
    for branch in branches:
        stems.setdefault(_INDEX.sub("", branch.path), len(stems))

    def place(branch: Branch) -> tuple[int, list[int]]:
        return stems[_INDEX.sub("", branch.path)], [int(index) for index in _INDEX.findall(branch.path)]

    return sorted(branches, key=place)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many panes are shown, in how many columns, and how high each is (frame included)."""

    shown: int
    columns: int
    pane_height: int


def fit(count: int, width: int, height: int) -> Layout:
    """The layout for `count` panes in a terminal of `width` x `height` cells."""
    widest = max(1, min(count, width // _NARROWEST))
    if count > widest * max(1, height // _LOWEST):
        height -= 1  # the line that counts the others
    lines = max(1, height // _LOWEST)
    shown = min(count, widest * lines)
    rows = math.ceil(shown / widest)
    return Layout(shown, math.ceil(shown / rows), max(3, min(_HIGHEST, height // rows)))


def _draw(branches: list[Branch], console: Console, width: int, height: int) -> Iterator[Table | Text]:
    layout = fit(len(branches), width, height)
    # Those still writing come first where not all fit; what is shown keeps its order.
    wanted = sorted(range(len(branches)), key=lambda index: (branches[index].done, index))[: layout.shown]
    shown = [branches[index] for index in sorted(wanted)]
    pane_width = width // layout.columns
    grid = Table.grid(padding=0, expand=False)
    for _ in range(layout.columns):
        grid.add_column(width=pane_width)
    panes = [_pane(branch, console, pane_width, layout.pane_height) for branch in shown]
    for start in range(0, len(panes), layout.columns):
        grid.add_row(*panes[start : start + layout.columns])
    yield grid
    if hidden := len(branches) - layout.shown:
        yield Text(f"+{hidden} more", style="dim")


def _pane(branch: Branch, console: Console, width: int, height: int) -> Panel:
    label = clean(" ".join(branch.label.split()))
    return Panel(
        branch.tail(console, width - 4, height - 2),
        title=Text(f"{label} (done)" if branch.done else label, style="bold"),
        title_align="left",
        border_style="dim" if branch.done else "cyan",
        width=width,
        height=height,
    )
