"""Server-sent events from the bytes of an answer, as the OpenAI SDK understands them."""

from __future__ import annotations

from collections.abc import Iterator

Event = tuple[bytes, str]
"""Its data, and its name where it has one."""


class EventLines:
    """Takes bytes as they come and gives the events that they complete.

    Follows openai's `SSEDecoder`, also where that leaves WHATWG's HTML, section 9.2: an event without data is one, an
    `id` makes an event of each later blank line, and a line that is no UTF-8 raises UnicodeDecodeError.
    """

    __slots__ = ("_data", "_half_line", "_id", "_name", "_retry", "_skips_newline")

    def __init__(self) -> None:
        self._half_line = b""
        self._skips_newline = False
        """Whether the last line ended in CR, which a LF may still follow."""
        self._data: list[bytes] = []
        self._name = ""
        self._id = ""
        self._retry = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that end in these bytes."""
        half = self._half_line
        if not half and not self._data and not self._skips_newline and chunk[:6] == b"data: " and chunk[-2:] == b"\n\n":
            # Nearly always: one whole event, or several.
            lines = chunk.split(b"\n")
            if len(lines) == 3 and b"\r" not in chunk and chunk.isascii() and not (self._name or self._id):
                self._retry = False
                yield lines[0][6:], ""
                return
        yield from self._events(self._lines(chunk))

    def finish(self) -> None:
        """Nothing follows. An event that no blank line ended is none; its last line must be text all the same."""
        self._half_line.decode()

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._skips_newline and chunk:
            self._skips_newline = False
            chunk = chunk.removeprefix(b"\n")
        text = self._half_line + chunk
        if b"\r" not in chunk:
            lines = text.split(b"\n")
            self._half_line = lines.pop()
            return lines
        self._skips_newline = text[-1:] == b"\r"
        lines = text.splitlines()
        self._half_line = b"" if text[-1:] in (b"\n", b"\r") else lines.pop()
        return lines

    def _events(self, lines: list[bytes]) -> Iterator[Event]:
        for line in lines:
            if not line.isascii():
                line.decode()
            if line[:6] == b"data: ":
                self._data.append(line[6:])
            elif line:
                self._field(line)
            elif self._data or self._name or self._id or self._retry:
                data, name = b"\n".join(self._data), self._name
                self._data, self._name, self._retry = [], "", False
                yield data, name

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value.encode())
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry":
            try:
                int(value)
            except ValueError:
                return
            self._retry = True
