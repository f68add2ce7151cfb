"""Decides what format a source has: by its name's suffix, then by its first bytes."""

from __future__ import annotations

import codecs
from pathlib import Path

import orjson

from plait.datasets.examples import FORMATS
from plait.errors import InputError

__all__ = ["by_suffix", "check_text", "decide_format"]

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "lines",
    ".text": "lines",
    ".lst": "lines",
}
_COMPRESSED = {".gz", ".gzip", ".zst", ".zstd"}
_KNOWN = ".jsonl, .json, .csv, .tsv, .parquet, .txt, each also with .gz or .zst behind it, or a folder"


def by_suffix(path: Path) -> str | None:
    """The format that the name promises, compressed or not; None for an unknown suffix."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def check_text(head: bytes, name: str) -> None:
    """Raises InputError where a source that begins with `head` cannot be read as UTF-8 lines at all."""
    if not head:
        raise InputError(f"{name}: expected rows, found an empty file")
    begin = head[:1024]
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or begin.count(0) * 3 > len(begin) > 3:
        raise InputError(
            f"{name}: expected UTF-8, found byte 0x{head[0]:02x} at offset 0 as UTF-16 texts have it "
            "(iconv -f utf-16 -t utf-8 converts it)"
        )
    if 0 in begin:
        raise InputError(f"{name}: expected a dataset, found a binary file; known are {_KNOWN}")


def decide_format(head: bytes, name: str, form: str | None) -> str:
    """The format to read with; `form` is the one that was named or that the suffix promises. Raises InputError."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first = text[:1]
    if form in ("csv", "tsv", "lines"):
        return form
    if form is None and first not in (b"{", b"["):
        raise InputError(
            f"{name}: expected a dataset, found neither a known suffix nor JSON; known are {_KNOWN}; "
            f"or name its format: --format {'|'.join(FORMATS)}"
        )
    if first == b"[":
        line = text.split(b"\n", 1)[0]
        # An array within JSON lines is a bad row, not an array of rows.
        return "jsonl" if form == "jsonl" and _is_json(line) and b"\n" in text.strip() else "json"
    if form == "jsonl" or _is_json(text.split(b"\n", 1)[0]):
        return "jsonl"
    return "json"


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
