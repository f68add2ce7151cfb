"""The heads of HTTP/1.1: a request's bytes, and what an answer begins with (RFC 9112)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RawHeaders = Sequence[tuple[bytes, bytes]]


class NotHttp(ValueError):
    """What came is no answer of HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of an answer that has a body, or might have had."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]

    def is_framed(self) -> bool:
        """Whether the body says where it ends; if not, it ends with the connection (RFC 9112, section 6.3)."""
        return any(self._framings())

    def is_ambiguous(self) -> bool:
        """Whether the body says so twice, and differently."""
        return all(self._framings())

    def _framings(self) -> tuple[bool, bool]:
        """Whether it has a length; whether it is in chunks."""
        length = chunked = False
        for name, value in self.headers:
            low = name.lower()
            length = length or low == b"content-length"
            chunked = chunked or (low == b"transfer-encoding" and b"chunked" in value.lower())
        return length, chunked


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
