"""Turns `key=value`, `key:=json`, `key=@file` and `--input FILE` into a dict, or says what it cannot read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from plait.errors import InputError

_ASSIGNMENT = re.compile(r"(?P<key>[^=:@\s][^=:@]*?)(?P<sign>:=|=@|=)(?P<value>.*)", re.DOTALL)


def parse(words: Iterable[str]) -> dict[str, object]:
    """What the command line gives; later values win. Raises InputError with one line per wrong word."""
    values: dict[str, object] = {}
    wrong: list[str] = []
    for word in words:
        try:
            key, value = _assignment(word)
        except InputError as error:
            wrong.append(str(error))
        else:
            values[key] = value
    if wrong:
        raise InputError("\n".join(wrong))
    return values


def _assignment(word: str) -> tuple[str, object]:
    match = _ASSIGNMENT.fullmatch(word)
    if match is None:
        raise InputError(f"expected key=value, key:=json or key=@file, found {word!r}")
    key, sign, value = match["key"], match["sign"], match["value"]
    if sign == ":=":
        try:
            return key, json.loads(value)
        except ValueError as error:
            found = _short(value)
            raise InputError(f"{key}: expected JSON after :=, found {found}: {_where(error)}") from None
    if sign == "=@":
        return key, read_text(value, what=key)
    return key, value


def read_object(file: str) -> dict[str, object]:
    """The JSON object in a file, or on stdin for `-`. Raises InputError."""
    name = "stdin" if file == "-" else file
    text = read_text(file, what="--input")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"--input: expected a JSON object in {name}: {_where(error)}") from None
    if not isinstance(value, dict):
        raise InputError(f"--input: expected a JSON object in {name}, found {_kind(value)}")
    return value


def read_text(file: str, *, what: str) -> str:
    """A file as UTF-8 text, or stdin for `-`. Raises InputError, naming `what` the text was for."""
    if file == "-" and sys.stdin is None:
        raise InputError(f"{what}: cannot read standard input: it is closed")
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).expanduser().read_bytes()
    except OSError as error:
        hint = f" (for a text that begins with @ write {what}:='\"@...\"')" if what != "--input" else ""
        raise InputError(f"{what}: cannot read {file!r}: {error.strerror or error}{hint}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at offset {error.start}"
        raise InputError(f"{what}: expected UTF-8 text in {file!r}, found {found}") from None


def writable_target(file: str, *, option: str = "--output") -> Path:
    """The file to write, checked before anything is paid for. Raises InputError, naming the option."""
    path = Path(file).expanduser().resolve()
    if path.is_dir():
        _unwritable(option, file, "it is a folder")
    if path.exists() and not path.is_file():
        _unwritable(option, file, "it is no regular file")
    folder = path.parent
    if not folder.is_dir():
        _unwritable(option, file, f"there is no folder {str(folder)!r}")
    # A file is replaced, not rewritten, so it is the folder that must be writable.
    try:
        probe = folder / f".{path.name}.{id(path):x}.probe"
        probe.touch(mode=0o600, exist_ok=False)
        probe.unlink()
    except OSError as error:
        _unwritable(option, file, error.strerror or str(error))
    return path


def _unwritable(option: str, file: str, why: str) -> NoReturn:
    raise InputError(f"{option}: cannot write {file!r}: {why}")


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at line {error.lineno}, column {error.colno}"
    return str(error)


def _short(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
