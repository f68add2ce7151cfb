"""Tables that fit the terminal they are shown on: a column without room goes below its row, nothing is cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from plait.cli.values import clean

__all__ = ["Block", "Facts", "Note", "Page", "Sheet", "Title", "cell", "terminal"]

_INDENT = 2
_GAP = 2
_PIPE = 10_000
"""Columns of what is no terminal: lines there are for other programs, which want them whole."""
_LEAST = 20


@dataclass(frozen=True, slots=True)
class Title:
    """Stands above what belongs together."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence, indented and wrapped at words."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table. Columns that have no room stand below their row, the rightmost first; empty ones are left out."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Text]]
    words: Collection[int] = (0,)
    """Columns that hold no numbers: they are set to the left."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Values with their names in front; long ones are wrapped beside them."""

    values: Mapping[str, str]
    """Those that are empty are left out."""


Block = Title | Note | Sheet | Facts | Text


def cell(text: str, style: str = "") -> Text:
    """Text that is safe to show: data must not move the cursor."""
    return Text(" ".join(clean(text).split()), style=style)


def terminal(out: TextIO | None = None) -> Console:
    """Of `out`, or standard output. Colours only on a terminal without NO_COLOR; elsewhere lines are never broken."""
    file = out or sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdigit() else _PIPE
    return Console(file=file, highlight=False, markup=False, width=width)


@dataclass(frozen=True, slots=True)
class Page:
    """Blocks one below the other, for a Console; in front of a title stands an empty line."""

    blocks: Sequence[Block]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(_LEAST, options.max_width)
        for block in self.blocks:
            for line in _lines(console, block, width):
                line.rstrip()
                yield line


def _lines(console: Console, block: Block, width: int) -> Iterator[Text]:
    match block:
        case Title(text):
            yield Text()
            yield cell(text, "bold cyan")
        case Note(text, style):
            yield from _wrapped(console, cell(text, style), width, _INDENT)
        case Sheet():
            yield from _sheet(console, block, width)
        case Facts(values):
            yield from _facts(console, values, width)
        case _:
            yield from _wrapped(console, block, width, 0)


def _facts(console: Console, values: Mapping[str, str], width: int) -> Iterator[Text]:
    told = {label: cell(value) for label, value in values.items() if value}
    label_width = max(map(cell_len, told), default=0)
    for label, value in told.items():
        margin = _INDENT + label_width + _GAP
        for number, line in enumerate(value.wrap(console, max(_LEAST // 2, width - margin), overflow="fold")):
            name = f"{' ' * _INDENT}{label:<{label_width}}{' ' * _GAP}" if number == 0 else " " * margin
            yield Text.assemble((name, "dim"), line)


def _wrapped(console: Console, text: Text, width: int, indent: int) -> Iterator[Text]:
    for number, line in enumerate(text.wrap(console, width - indent - _GAP, overflow="fold")):
        yield Text(" " * (indent if number == 0 else indent + _GAP)).append_text(line)


def _sheet(console: Console, sheet: Sheet, width: int) -> Iterator[Text]:
    filled = [0, *(index for index in range(1, len(sheet.heads)) if any(row[index].plain for row in sheet.rows))]
    room = {
        index: max(cell_len(sheet.heads[index]), *(row[index].cell_len for row in sheet.rows), 0) for index in filled
    }
    kept = list(filled)
    while len(kept) > 1 and _INDENT + sum(room[index] + _GAP for index in kept) - _GAP > width:
        kept.pop()
    heads = [Text(head, style="dim") for head in sheet.heads]
    if len(kept) > 1 and any(sheet.heads):
        yield _line(heads, kept, room, sheet.words)
    for row in sheet.rows:
        if len(kept) > 1:
            yield _line(row, kept, room, sheet.words)
        else:
            yield from _wrapped(console, row[0], width, _INDENT)
        if below := _below(sheet.heads, row, filled[len(kept) :]):
            yield from _wrapped(console, below, width, 2 * _INDENT)


def _line(cells: Sequence[Text], kept: Sequence[int], room: dict[int, int], words: Collection[int]) -> Text:
    line = Text(" " * _INDENT)
    for index in kept:
        padding = " " * (room[index] - cells[index].cell_len)
        if index not in words:
            line.append(padding)
        line.append_text(cells[index])
        if index in words:
            line.append(padding)
        line.append(" " * _GAP)
    return line


def _below(heads: Sequence[str], row: Sequence[Text], dropped: Sequence[int]) -> Text:
    parts = [
        Text.assemble((f"{heads[index]} " if heads[index] else "", "dim"), row[index])
        for index in dropped
        if row[index].plain
    ]
    return Text("; ").join(parts)
