"""An app's folder as one parcel, for workers on machines that do not have it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plait.errors import AppError

__all__ = ["Parcel", "pack", "unpack"]

_LARGE_BYTES = 10 * 2**20
"""A file above it is data, not code: left out."""
_MOST_BYTES = 100 * 2**20
_LEFT_OUT = frozenset({"venv", "node_modules", "__pycache__", "site-packages"})
"""Folders, besides those whose names begin with a dot; so are files whose names do, which may hold keys."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A ZIP archive of an app's folder."""

    content: bytes
    digest: str
    large: tuple[str, ...] = ()
    """Files that were left out for their size."""


def pack(root: Path, file_name: str = "langgraph.json") -> Parcel:
    """The files below `root`, but for large, hidden and installed ones. Blocks: files.

    The app's `env` is taken out, from its langgraph.json and as a file: variables travel with the orders. Raises
    AppError where it is too much, or where a file cannot be read.
    """
    archive = io.BytesIO()
    found: list[tuple[str, int]] = []
    large: list[str] = []
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as packed:
        keys = _env_file(root / file_name)
        for path in _files(root):
            if path.suffix == ".env" or path == keys:
                continue
            name = path.relative_to(root).as_posix()
            try:
                size = path.stat().st_size
                if size > _LARGE_BYTES:
                    large.append(name)
                    continue
                found.append((name, size))
                if sum(each for _, each in found) > _MOST_BYTES:
                    raise AppError(_too_much(root, found))
                content = path.read_bytes()
                content = _without_env(content) if name == file_name else content
                packed.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
            except UnicodeEncodeError:
                raise AppError(_unfit(root, name, "its name is not UTF-8")) from None
            except OSError as error:
                raise AppError(_unfit(root, name, error.strerror or str(error))) from error
    content = archive.getvalue()
    return Parcel(content, hashlib.sha256(content).hexdigest(), tuple(large))


def unpack(parcel: Parcel) -> Path:
    """A folder with its files, shared by the workers of a machine; made where it is not there. Blocks: files."""
    own = Path(tempfile.gettempdir()) / f"plait-apps-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise AppError(f"{own}: expected a folder of this user for the apps of batches, found somebody else's")
    folder = own / parcel.digest
    if not folder.is_dir():
        fresh = Path(tempfile.mkdtemp(dir=own))
        with zipfile.ZipFile(io.BytesIO(parcel.content)) as packed:
            packed.extractall(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another worker was faster
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _files(root: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if name not in _LEFT_OUT and not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if not name.startswith(".") and path.suffix != ".pyc" and path.is_file():
                yield path


def _env_file(description: Path) -> Path | None:
    """The file whose variables the app asks for."""
    named = json.loads(description.read_text("utf-8-sig")).get("env") if description.is_file() else None
    return description.parent.joinpath(named) if isinstance(named, str) else None


def _without_env(content: bytes) -> bytes:
    described = json.loads(content.decode("utf-8-sig"))
    described.pop("env", None)
    return json.dumps(described).encode()


def _unfit(root: Path, name: str, reason: str) -> str:
    return (
        f"{root}: expected files that can be sent to the cluster's machines, found {name!a} ({reason}): move it out "
        "of the app's folder, correct it, or let its name begin with a dot, which leaves it out"
    )


def _too_much(root: Path, found: list[tuple[str, int]]) -> str:
    sums: dict[str, int] = {}
    for name, size in found:
        top = name.partition("/")[0]
        sums[top] = sums.get(top, 0) + size
    largest = ", ".join(
        f"{name} ({size / 2**20:.0f} MB)" for name, size in sorted(sums.items(), key=lambda each: -each[1])[:3]
    )
    return (
        f"{root}: expected an app of {_MOST_BYTES // 2**20} MB at most to send to the cluster's machines, found more: "
        f"{largest}, ...; move data out of the app's folder, or install the app as a package on every machine"
    )
