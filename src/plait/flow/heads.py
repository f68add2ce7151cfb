"""The text of HTTP/1.1: a request's bytes, the head of an answer, and where its body ends (RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

RawHeaders = Sequence[tuple[bytes, bytes]]

MOST_HEAD_BYTES = 131_072
_MOST_LINE_BYTES = 8192
_NO_BODY = frozenset({204, 304})


class NotHttp(ValueError):
    """What came is no answer of HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of an answer."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    length: int | None
    """Of the body in bytes; None where it is chunked, or ends with the connection."""
    chunked: bool
    keeps: bool
    """Whether the connection may be used again."""


def request_bytes(method: str, target: bytes, headers: RawHeaders, body: bytes, *, last: bool) -> bytes:
    """A whole request, whose body is as long as it is; `last`: the connection is not to be used again.

    Raises ValueError for a header that would be more than one.
    """
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target)]
    for name, value in headers:
        low = name.lower()
        # The body is here and has a length.
        if low != b"transfer-encoding" and not (last and low == b"connection"):
            lines.append(b"%b: %b" % (name, value))
        if low == b"transfer-encoding":
            lines.append(b"Content-Length: %d" % len(body))
    if last:
        lines.append(b"Connection: close")
    head = b"\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ValueError("expected header values without line breaks")
    return b"%b\r\n\r\n%b" % (head, body)


def read_head(text: bytes) -> Head:
    """The head of an answer, without the empty line that ends it. Raises NotHttp."""
    first, *lines = text.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    code, _, reason = rest.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(code) != 3 or not code.isdigit():
        raise NotHttp(f"expected an answer of HTTP/1.1, found {first[:80]!r}")
    status = int(code)
    headers: list[tuple[bytes, bytes]] = []
    length: int | None = None
    chunked = coded = False
    keeps = version == b"HTTP/1.1"
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name[0] in b" \t" or name[-1] in b" \t":
            raise NotHttp(f"expected a header, found {line[:80]!r}")
        value = value.strip(b" \t")
        headers.append((name, value))
        low = name.lower()
        if low == b"content-length":
            if not value.isdigit() or (length is not None and length != int(value)):
                raise NotHttp(f"expected a length of the body, found {value[:80]!r}")
            length = int(value)
        elif low == b"transfer-encoding":
            coded = True
            chunked = value.lower().rpartition(b",")[2].strip() == b"chunked"
        elif low == b"connection":
            options = value.lower()
            keeps = b"close" not in options and (keeps or b"keep-alive" in options)
    if status in _NO_BODY or 100 <= status < 200:
        length, coded, chunked = 0, False, False
    if coded:
        length = None
    return Head(status, reason, headers, length, chunked, keeps and (chunked or length is not None))


class Chunks:
    """Takes the chunked coding off a body (RFC 9112, section 7.1); what comes after the last chunk is dropped."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._held = b""
        self._left = 0
        """Bytes of the chunk that are still to come, its line end included."""
        self._last = False

    def feed(self, data: bytes) -> bytes | None:
        """Take what came; returns what follows the body once it is whole, else None. Raises NotHttp."""
        data, self._held = self._held + data, b""
        while data:
            if self._left > 2:
                part = data[: self._left - 2]
                self._take(part)
                self._left -= len(part)
                data = data[len(part) :]
                continue
            end = data.find(b"\r\n")
            if end < 0:
                if len(data) > _MOST_LINE_BYTES:
                    raise NotHttp("expected a chunk's size, found a long line")
                self._held = data
                return None
            line, data = data[:end], data[end + 2 :]
            if self._left:
                if line:
                    raise NotHttp(f"expected the end of a chunk, found {line[:80]!r}")
                self._left = 0
            elif self._last:
                if not line:
                    return data
            else:
                size = _size(line)
                self._last = size == 0
                self._left = size + 2 if size else 0
        return None


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise NotHttp(f"expected a chunk's size, found {line[:80]!r}")
    return int(digits, 16)
