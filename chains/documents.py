"""Reads documents from files, folders and JSON, and splits long texts where they can be split best."""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import anyio.to_thread

from chains.html_text import text_of_html
from plait.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".html", ".htm")
"""What is read of a folder; a file that is named is read whatever its suffix is."""

_TEXT_KEYS = ("text", "content", "body")
_NAME_KEYS = ("title", "name", "id")
_MARKS = (  # UTF-32's little-endian mark begins with UTF-16's: the longer ones come first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BOUNDARIES = (
    re.compile(r"\n[ \t\r]*\n"),  # paragraphs
    re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f]"),  # sentences, also of CJK texts
    re.compile(r"\n"),
    re.compile(r"\s"),
)


class Document(TypedDict):
    """A text and what it is called: its path below the folder, or the title that a JSON file gives."""

    name: str
    text: str


async def read_documents(source: str | Sequence[str]) -> list[Document]:
    """The documents of a file, a folder (with those below it, sorted) or a list of both; no two have the same name.

    A JSON or JSONL file holds strings, or objects with text, content or body (and title, name or id). Texts are UTF-8,
    or UTF-16 and UTF-32 with a byte order mark; else Windows-1252, which a warning says. Files of a folder that cannot
    be read, and empty documents, are left out with a warning.

    Raises InputError: a missing path, a named file that is binary or not what it should be, nothing to read at all.
    """
    sources = [source] if isinstance(source, str) else list(source)
    return await anyio.to_thread.run_sync(partial(_read_all, sources), abandon_on_cancel=True)


def split_text(text: str, *, most_chars: int) -> list[str]:
    """Pieces of at most `most_chars` without the white space around them; none of a blank text."""
    return [piece for raw in cut_text(text, most_chars=most_chars) if (piece := raw.strip())]


def cut_text(text: str, *, most_chars: int) -> Iterator[str]:
    """Pieces that joined are the text, each cut after a paragraph, else a sentence, a line, a word, else anywhere.

    A cut lies in the second half of what fits, so the work grows with the text's length and pieces are never crumbs.
    """
    start = 0
    while start < len(text):
        end = min(start + most_chars, len(text))
        if end < len(text):
            end = _cut(text, start + (most_chars + 1) // 2, end)
        yield text[start:end]
        start = end


def tell_apart(names: Iterable[str]) -> list[str]:
    """The same names, a repeated one with a number: a, b, a (2)."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    told: list[str] = []
    for name in names:
        found = name
        while found in taken:
            counts[name] = counts.get(name, 1) + 1
            found = f"{name} ({counts[name]})"
        taken.add(found)
        told.append(found)
    return told


def _cut(text: str, low: int, high: int) -> int:
    for boundary in _BOUNDARIES:
        last = 0
        for match in boundary.finditer(text, low, high):
            last = match.end()
        if last:
            return last
    return high


def _read_all(sources: Sequence[str]) -> list[Document]:
    read = [document for path, root in _files(sources) for document in _read_below(path, root)]
    full = []
    for document in read:
        if document["text"].strip():
            full.append(document)
        else:
            logger.warning("%s is empty; left out", document["name"])
    if not full:
        where = ", ".join(sources) or "an empty list of paths"
        found = "only empty or unreadable ones" if read else f"none ({', '.join(SUFFIXES)}) that can be read"
        raise InputError(f"path: expected documents in {where}, found {found}; name a file or folder that has some")
    names = tell_apart(document["name"] for document in full)
    return [Document(name=name, text=document["text"]) for name, document in zip(names, full, strict=True)]


def _files(sources: Sequence[str]) -> Iterator[tuple[Path, Path | None]]:
    """Each file once, with the folder that it was found in (None: it was named)."""
    seen: set[Path] = set()
    for source in sources:
        path = Path(os.path.expanduser(source))
        if not source.strip() or "\0" in source or not path.exists():
            raise InputError(f"path: expected a file or folder, found nothing at {source!r}; check the spelling")
        root = path if path.is_dir() else None
        for file in _below(path) if root else [path]:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, root


def _below(folder: Path) -> Iterator[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return iter(sorted(found))


def _read_below(path: Path, root: Path | None) -> list[Document]:
    name = path.relative_to(root).as_posix() if root else path.name
    try:
        return _read_file(path, name)
    except InputError as error:
        if root is None:
            raise
        logger.warning("%s; left out", error)
        return []


def _read_file(path: Path, name: str) -> list[Document]:
    if not path.is_file():
        raise InputError(f"path: expected a file, found something else at {path}; name a file or folder")
    try:
        text = _decode(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"path: cannot read {path}: {error.strerror or error}") from error
    suffix = path.suffix.lower()
    if suffix in {".html", ".htm"}:
        text = text_of_html(text)
    if suffix not in {".json", ".jsonl"} or not text.strip():
        return [Document(name=name, text=text)]
    return list(_documents_of(_load_json(text, path, lines=suffix == ".jsonl"), name, path))


def _decode(raw: bytes, path: Path) -> str:
    encoding = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), None)
    if encoding is None and (b"\0" in raw or raw.startswith(b"%PDF-")):
        raise InputError(f"path: expected text, found binary data in {path}; convert it to text first")
    try:
        return raw.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError as error:
        if encoding is None:
            try:
                text = raw.decode("cp1252")
            except UnicodeDecodeError:
                pass  # five bytes mean nothing there: the text is in neither encoding
            else:
                logger.warning("%s is not UTF-8 (byte %d); read as Windows-1252", path, error.start)
                return text
        raise InputError(
            f"path: expected UTF-8 text (or UTF-16 with its mark, or Windows-1252), found byte {error.start} of {path} "
            f"to be none of them; save it as UTF-8"
        ) from error


def _load_json(text: str, path: Path, *, lines: bool) -> object:
    number = 0
    try:
        if not lines:
            return json.loads(text)
        found = []
        for number, line in enumerate(text.split("\n"), start=1):  # noqa: B007 - the message names the line
            if line.strip():
                found.append(json.loads(line))
    except (json.JSONDecodeError, RecursionError) as error:
        line_number = number or getattr(error, "lineno", 1)
        raise InputError(f"path: expected JSON in {path}, found an error in line {line_number}: {error}") from error
    return found


def _documents_of(value: object, name: str, path: Path) -> Iterator[Document]:
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        text, title = item, None
        if isinstance(item, dict):
            text = next((item[key] for key in _TEXT_KEYS if isinstance(item.get(key), str)), None)
            title = next((str(item[key]) for key in _NAME_KEYS if isinstance(item.get(key), str | int)), None)
        if not isinstance(text, str):
            raise InputError(
                f"path: expected a list of strings, or of objects with {', '.join(_TEXT_KEYS[:-1])} or "
                f"{_TEXT_KEYS[-1]}, found something else in item {index} of {path}"
            )
        yield Document(name=(title or "").strip() or f"{name}[{index}]", text=text)
