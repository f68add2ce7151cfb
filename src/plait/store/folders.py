"""The batches of a home: their ids, finding one, listing and removing them."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from plait.errors import BatchBusy, BatchNotFound, StoreError
from plait.store.batches import DATABASE, FolderLock, is_running
from plait.store.readers import BatchReader

__all__ = [
    "BatchInfo",
    "batches_folder",
    "find_batch",
    "list_batches",
    "naming",
    "new_batch_folder",
    "new_batch_id",
    "prune",
    "read_batch",
    "remove_batch",
]

# No 0, 1, i, l, o: an id is read aloud and typed.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_NAMES_LOCK = ".names.lock"
_LOOKS_AGAIN_AFTER_S = 0.02
_REMOVED = ".removed-"
_UNFINISHED = ("paused", "running", "planned")
_DRAWS = 20


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """What a list says of a batch. `counts` are its ended rows by status; `created_at` is in seconds since the epoch.

    `status` is planned, running, paused or finished, or "unreadable", with the `problem` in words.
    """

    id: str
    folder: Path
    workflow: str
    created_at: float
    status: str
    counts: Mapping[str, int] = field(default_factory=dict)
    total: int | None = None
    size_bytes: int = 0
    meta: Mapping[str, object] = field(default_factory=dict)
    problem: str | None = None

    @property
    def name(self) -> str | None:
        """What its user calls it."""
        name = self.meta.get("name")
        return name if isinstance(name, str) else None


def batches_folder(home: Path) -> Path:
    """Where the batches of `home` lie, a folder each."""
    return home / "batches"


def new_batch_id(workflow: str, at: datetime, draw: Callable[[str], str] = secrets.choice) -> str:
    """A readable id: the workflow, month and day, time, three random letters, as in greet-1121-1004-k3x."""
    name = re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-")[:24].strip("-") or "batch"
    return f"{name}-{at:%m%d-%H%M}-{''.join(draw(_LETTERS) for _ in range(3))}"


def new_batch_folder(home: Path, workflow: str, at: datetime, draw: Callable[[str], str] = secrets.choice) -> Path:
    """Where a new batch may lie: a folder that does not exist, named by an id. Blocks: files."""
    folder = batches_folder(home) / new_batch_id(workflow, at, draw)
    for _ in range(_DRAWS):
        if not folder.exists():
            break
        folder = folder.with_name(new_batch_id(workflow, at, draw))
    return folder


@contextlib.asynccontextmanager
async def naming(home: Path) -> AsyncIterator[None]:
    """Only one `async with` at a time, in all processes: a name that is free inside is free until it is left.

    For looking whether a name is free and creating the batch of that name, in one. Waits for whoever is inside; the
    kernel lets go of a process that ends inside, and a cancelled wait of what it waits for. Raises StoreError where the
    folder cannot be written.
    """
    try:
        file = await asyncio.to_thread(_open_names_lock, home)
    except OSError as error:
        raise StoreError(f"cannot write in {batches_folder(home)}: {error}; set PLAIT_HOME to a folder") from error
    try:
        while not _gets_lock(file):  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(_LOOKS_AGAIN_AFTER_S)
        yield
    finally:
        # Closing is not enough while a forked child has the descriptor, too.
        fcntl.flock(file, fcntl.LOCK_UN)
        file.close()


def list_batches(home: Path) -> list[BatchInfo]:
    """All batches of `home`, newest first; one that cannot be read is listed as unreadable. Blocks: files."""
    batches = []
    for folder in _folders(home):
        # One may be removed while the others are read.
        with contextlib.suppress(FileNotFoundError):
            batches.append(read_batch(folder))
    return sorted(batches, key=lambda batch: (batch.created_at, batch.id), reverse=True)


def read_batch(folder: Path) -> BatchInfo:
    """What a list says of the batch in `folder`. Blocks: files."""
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    running = is_running(folder)
    try:
        with BatchReader(folder) as reader:
            meta, counts = reader.meta, reader.counts()
    except StoreError as error:
        touched = _touched_at(folder)
        status = "running" if running else "unreadable"
        return BatchInfo(folder.name, folder, "", touched, status, size_bytes=size, problem=str(error))
    status = str(meta.get("status", "paused"))
    # A batch whose process was killed had no time to say so.
    status = "running" if running else "paused" if status == "running" else status
    created, total = meta.get("created_at"), meta.get("total")
    return BatchInfo(
        folder.name,
        folder,
        str(meta.get("workflow", "")),
        float(created) if isinstance(created, int | float) else _touched_at(folder),
        status,
        counts,
        total if isinstance(total, int) else None,
        size,
        meta,
    )


def find_batch(home: Path, id_or_prefix: str | None) -> Path:
    """The folder of the batch with this id, or whose id alone begins with it; None: the newest that is not finished.

    A name that was given finds the newest batch that has it; a workflow's its newest that is not finished, else its
    newest.

    Raises BatchNotFound, with those that come near. Blocks: files.
    """
    if id_or_prefix is None:
        left = [batch for batch in list_batches(home) if batch.status in _UNFINISHED]
        if not left:
            raise BatchNotFound("there is no unfinished batch; `plait batches` lists all there are")
        return left[0].folder
    folders = {folder.name: folder for folder in _folders(home)}
    if id_or_prefix in folders:
        return folders[id_or_prefix]
    batches = list_batches(home)
    called = [batch for batch in batches if batch.name == id_or_prefix]
    if called:
        return called[0].folder
    matches = sorted(name for name in folders if id_or_prefix and name.startswith(id_or_prefix))
    if len(matches) == 1:
        return folders[matches[0]]
    if matches and all(name[len(id_or_prefix)] == "-" for name in matches):
        # A workflow's name: the batch that is worth going on with, or looking at.
        named = [batch for batch in batches if batch.id in matches]
        left = [batch for batch in named if batch.status in _UNFINISHED]
        return (left or named)[0].folder
    if matches:
        raise BatchNotFound(
            f"several batches begin with {id_or_prefix!r}: {', '.join(matches[:8])}; write more of the id"
        )
    near = difflib.get_close_matches(id_or_prefix, list(folders), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`plait batches` lists those there are"
    raise BatchNotFound(f"there is no batch {id_or_prefix!r}; {hint}")


def remove_batch(folder: Path) -> None:
    """Delete a batch with all it holds. Raises BatchBusy while it is running, BatchNotFound. Blocks: files."""
    if not folder.is_dir():
        raise BatchNotFound(f"there is no batch in {folder}; `plait batches` lists those there are")
    lock = FolderLock(folder)
    try:
        # Out of sight in one step: a removal that is cut short leaves no half batch behind.
        hidden = folder.with_name(_REMOVED + folder.name)
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise StoreError(f"cannot remove {folder}: {error}; check who owns it, then remove the folder") from error
    finally:
        lock.release()


def prune(home: Path, older_than_s: float, now: float, *, dry_run: bool = False) -> list[BatchInfo]:
    """Remove the batches nothing was written to for `older_than_s` before `now` (epoch); returns what was removed.

    A running one stays; all do with `dry_run`. Blocks: files.
    """
    removed: list[BatchInfo] = []
    for folder in _folders(home):
        try:
            batch = read_batch(folder)
            if batch.status == "running" or now - _touched_at(folder) < older_than_s:
                continue
            if not dry_run:
                remove_batch(folder)
        except (BatchBusy, BatchNotFound, FileNotFoundError):
            continue  # begun, or removed by somebody else, since it was read
        removed.append(batch)
    for left in batches_folder(home).glob(f"{_REMOVED}*"):
        shutil.rmtree(left, ignore_errors=True)
    return removed


def _open_names_lock(home: Path) -> BinaryIO:
    folder = batches_folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (folder / _NAMES_LOCK).open("ab")


def _gets_lock(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folders(home: Path) -> list[Path]:
    try:
        with os.scandir(batches_folder(home)) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def _touched_at(folder: Path) -> float:
    # Readers make empty -wal files: looking at a batch does not make it younger.
    files = [*folder.glob("*.db"), *(file for file in folder.glob("*.db-wal") if file.stat().st_size)]
    files = files or [file for file in folder.iterdir() if file.name != DATABASE]
    return max((file.stat().st_mtime for file in files), default=folder.stat().st_mtime)
