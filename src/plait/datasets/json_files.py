"""Reads records from JSON lines, JSON arrays and objects one after another, and from lines of plain text."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator

import orjson

from plait.datasets.examples import Fault, Row

__all__ = ["bad_encoding", "json_lines", "json_stream", "text_lines"]

_BOM = codecs.BOM_UTF8
_STEP_BYTES = 1 << 16
_BLANK = " \t\r\n"


def json_lines(stream: io.BufferedReader) -> Iterator[Row]:
    """One object a line; blank lines are left out."""
    loads = orjson.loads
    offset = _skip_mark(stream)
    for number, line in enumerate(stream, 1):
        try:
            value = loads(line)
        except orjson.JSONDecodeError as error:
            if not line.isspace():
                yield number, _no_json(line, error, offset)
        else:
            yield number, value if type(value) is dict else _no_object(value)
        offset += len(line)


def text_lines(stream: io.BufferedReader) -> Iterator[Row]:
    """A column `text`, one record a line without its line end; blank lines are left out."""
    offset = _skip_mark(stream)
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield number, bad_encoding(error, offset)
        else:
            if text and not text.isspace():
                yield number, {"text": text}
        offset += len(line)


def _skip_mark(stream: io.BufferedReader) -> int:
    """How many bytes the byte order mark has that the stream began with."""
    return len(stream.read(len(_BOM))) if stream.peek(len(_BOM)).startswith(_BOM) else 0


def bad_encoding(error: UnicodeDecodeError, offset: int) -> Fault:
    """`offset` is where the decoded bytes begin in the source (after decompression)."""
    byte = error.object[error.start]
    return Fault(
        f"expected UTF-8, found byte 0x{byte:02x} at offset {offset + error.start:,}; the encoding may be latin-1 "
        "(iconv -f latin1 -t utf-8 converts it)"
    )


def _no_object(value: object) -> Fault:
    names = {list: "an array", str: "a text", type(None): "null", bool: "a boolean"}
    return Fault(f"expected a JSON object, found {names.get(type(value), 'a number')}")


def _no_json(line: bytes, error: orjson.JSONDecodeError, offset: int) -> Fault:
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return bad_encoding(wrong, offset)
    if not line.endswith(b"\n"):
        return Fault(f"expected a JSON object, but the file ends within it, after {len(line):,} bytes (half written?)")
    hint = "; NaN and Infinity are no JSON, write null" if b"NaN" in line or b"Infinity" in line else ""
    return Fault(f"expected a JSON object, found a mistake at character {error.colno}: {error.msg}{hint}")


def json_stream(stream: io.BufferedReader) -> Iterator[Row]:
    """The elements of a JSON array, or objects one after another, whatever their line ends.

    After a mistake nothing more can be read: where the next element begins is unknown.
    """
    text = _Text(stream)
    decoder = json.JSONDecoder()
    number = 0
    try:
        is_array = text.next_character() == "["
        if is_array:
            text.skip()
        while character := text.next_character():
            if is_array and character == "]":
                text.skip()
                if text.next_character():
                    yield number + 1, Fault("expected nothing behind the array's closing ], found more")
                return
            number += 1
            value = text.decode(decoder)
            yield number, value if type(value) is dict else _no_object(value)
            if is_array and text.next_character() == ",":
                text.skip()
            elif is_array and text.next_character() not in ("]", ""):
                yield number + 1, Fault(f"expected , or ] behind element {number}")
                return
        if is_array:
            yield number + 1, Fault("expected the array's closing ], but the file ends (half written?)")
    except UnicodeDecodeError as error:
        yield number + 1, bad_encoding(error, text.offset)
    except json.JSONDecodeError as error:
        ended = "the file ends within it (half written?)" if text.ended else f"found a mistake: {error.msg}"
        yield max(number, 1), Fault(f"expected a JSON object, but {ended}")


class _Text:
    """A window of decoded text that grows while an element does not fit."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.ended = False
        self.offset = 0
        """Bytes before those that were decoded last."""
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._window = ""
        self._at = 0

    def next_character(self) -> str:
        """The next that is not blank, "" at the end; it is not consumed."""
        while True:
            while self._at < len(self._window):
                character = self._window[self._at]
                if character not in _BLANK:
                    return character
                self._at += 1
            if not self._read(_STEP_BYTES):
                return ""

    def skip(self) -> None:
        self._at += 1

    def decode(self, decoder: json.JSONDecoder) -> object:
        """The value that begins here. Raises json.JSONDecodeError."""
        step = _STEP_BYTES
        while True:
            try:
                value, end = decoder.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                # What fails well before the window's end is a mistake, not an element that goes on.
                if error.pos < len(self._window) - 16 and "Unterminated" not in error.msg:
                    raise
                if not self._read(step):
                    raise
            else:
                # Only a number may go on behind the window; waiting for more would hold back a pipe's last object.
                if isinstance(value, dict | list | str) or end < len(self._window) or not self._read(step):
                    self._at = end
                    return value
            # Doubled, so that a huge element is not parsed anew for every few bytes.
            step *= 2

    def _read(self, size: int) -> bool:
        if self.ended:
            return False
        data = self._stream.read1(size)
        self.ended = not data
        text = self._decoder.decode(data, final=self.ended)
        self.offset += len(data)
        self._window = self._window[self._at :] + text
        self._at = 0
        return not self.ended or bool(text)
