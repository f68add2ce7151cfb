"""Wraps text at words while it is still arriving."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TextIO

from rich.cells import cell_len

_PIECE = re.compile(r"\n|[^\S\n]+|\S+")
_LONGEST = 24
"""Cells of a word that is not held back any longer: URLs, and languages that write without spaces."""


class Wrapped:
    """Writes pieces of text to a terminal and breaks lines between words; the last word is held until it ends."""

    def __init__(self, out: TextIO, width: Callable[[], int]) -> None:
        self._out = out
        self._width = width
        self._column = 0
        self._gap = ""
        self._word = ""

    def write(self, text: str) -> None:
        """Take a piece of text."""
        for piece in _PIECE.findall(text):
            if piece == "\n":
                self._end_word()
                self._out.write("\n")
                self._column, self._gap = 0, ""
            elif piece.isspace():
                self._end_word()
                self._gap += piece
            else:
                self._word += piece
                if cell_len(self._word) > _LONGEST:
                    self._end_word()
        self._out.flush()

    def end_line(self) -> None:
        """Write what is held, and go to a new line unless the cursor is at the start of one."""
        self._end_word()
        if self._column:
            self._out.write("\n")
        self._column, self._gap = 0, ""
        self._out.flush()

    def _end_word(self) -> None:
        if not self._word:
            return
        width, cells = self._width(), cell_len(self._word)
        if self._column and self._column + cell_len(self._gap) + cells > width and self._gap:
            self._out.write("\n")
            self._column, self._gap = 0, ""
        self._out.write(self._gap + self._word)
        self._column += cell_len(self._gap) + cells
        # A terminal wraps when the next character comes: a full line ends in its last column, not in column 0.
        self._column = (self._column - 1) % max(width, 1) + 1
        self._gap = self._word = ""
