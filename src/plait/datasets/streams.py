"""Opens the bytes of a source: files, standard input, gzip and zstd of these, copied on the way where asked."""

from __future__ import annotations

import gzip
import io
import select
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, cast

import zstandard

from plait.datasets.examples import Fault
from plait.errors import InputError

__all__ = ["BUFFER_BYTES", "Stop", "cut_short", "open_path", "open_stdin"]

BUFFER_BYTES = 1 << 18
_FED_BYTES = 1 << 15
_POLL_S = 0.05
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

Stop = Callable[[], bool]
"""Whether the reader went away; asked between reads."""


def open_path(path: Path, stop: Stop) -> io.BufferedReader:
    """The file's bytes, decompressed by what it begins with. Raises OSError."""
    if str(path).startswith("/dev/"):
        return _plain(_Live(path.open("rb", buffering=0), stop))
    return _plain(path.open("rb", buffering=0))


def open_stdin(stop: Stop, tee: Path | None = None) -> io.BufferedReader:
    """Standard input's bytes, decompressed; what was read is in the file `tee` too, in whole lines.

    A read that waits for more input ends when `stop` says so, as if the input had ended.
    """
    # The descriptor, not the buffer: what Python reads ahead select cannot see.
    stream = _plain(_Live(open(sys.stdin.fileno(), "rb", buffering=0, closefd=False), stop))  # noqa: SIM115
    return stream if tee is None else io.BufferedReader(_Tee(stream, tee), BUFFER_BYTES)


def cut_short(error: Exception) -> Fault | None:
    """What is wrong with compressed bytes, None where the error is about something else."""
    if isinstance(error, EOFError):
        return Fault("the compressed file ends early: it was cut off; fetch or write it again")
    if isinstance(error, gzip.BadGzipFile | zlib.error | zstandard.ZstdError):
        return Fault(f"the compressed file is damaged ({error}); fetch or write it again")
    return None


def _plain(raw: io.RawIOBase | IO[bytes]) -> io.BufferedReader:
    buffered: io.BufferedReader = io.BufferedReader(cast("io.FileIO", raw), BUFFER_BYTES)
    head = buffered.peek(4)[:4]
    if head.startswith(_GZIP):
        return io.BufferedReader(_Gzip(gzip.GzipFile(fileobj=buffered), buffered), BUFFER_BYTES)
    if head.startswith(_ZSTD):
        return io.BufferedReader(_Zstd(buffered), BUFFER_BYTES)
    return buffered


class _Gzip(io.RawIOBase):
    def __init__(self, stream: gzip.GzipFile, below: io.BufferedReader) -> None:
        self._stream = stream
        self._below = below

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._below.close()
        super().close()


class _Zstd(io.RawIOBase):
    """Frame after frame. zstandard's own reader takes a file that ends within a frame for a whole one."""

    def __init__(self, below: io.BufferedReader) -> None:
        self._below = below
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ready = b""
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            fed = self._rest or self._below.read1(_FED_BYTES)
            self._rest = b""
            if not fed:
                if self._frame is not None:
                    raise EOFError("the frame does not end")
                return 0
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._ready = self._frame.decompress(fed)
            if self._frame.eof:
                self._rest = self._frame.unused_data
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._below.close()
        super().close()


class _Live(io.RawIOBase):
    """A pipe or terminal whose reads can be given up."""

    def __init__(self, raw: IO[bytes], stop: Stop) -> None:
        self._raw = cast("io.FileIO", raw)
        self._stop = stop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._stop():
            ready, _, _ = select.select([self._raw], [], [], _POLL_S)
            if ready:
                return self._raw.readinto(buffer) or 0
        return 0

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Tee(io.RawIOBase):
    """Copies what passes. Lines reach the copy whole, so that a kill leaves no half one behind."""

    def __init__(self, stream: io.BufferedReader, target: Path) -> None:
        self._stream = stream
        self._pending = b""
        try:
            self._copy: BinaryIO = target.open("wb", buffering=0)
        except OSError as error:
            stream.close()
            raise InputError(f"{target}: cannot keep a copy of standard input: {error.strerror}") from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read1(len(buffer))
        buffer[: len(data)] = data
        whole, newline, rest = data.rpartition(b"\n")
        if newline or not data:
            _write(self._copy, self._pending + whole + newline)
            self._pending = rest
        else:
            self._pending += data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._copy.close()
            self._stream.close()
        super().close()


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
