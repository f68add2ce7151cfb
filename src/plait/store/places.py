"""Where batches are kept: shelves of them, and the place of one, whichever database it is in."""

from __future__ import annotations

import difflib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from plait.errors import BatchNotFound
from plait.settings import Settings
from plait.store.answers import Answers
from plait.store.files import Durability

if TYPE_CHECKING:
    from plait.store.batches import BatchStore
    from plait.store.readers import BatchReader

__all__ = ["BatchInfo", "Place", "Shelf", "new_batch_id", "shelf_of"]

# No 0, 1, i, l, o: an id is read aloud and typed.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_UNFINISHED = ("paused", "running", "planned")


class Place(Protocol):
    """Where one batch is, or may be, kept; its text says so to a user. What is not a coroutine blocks."""

    @property
    def id(self) -> str: ...

    @property
    def files(self) -> Path | None:
        """The folder for a copy of standard input; None where that is kept as rows."""
        ...

    @property
    def own_answers(self) -> Answers:
        """Where the process that runs it writes paid answers."""
        ...

    def answers(self) -> list[Answers]:
        """Where its paid answers lie, those of workers included."""
        ...

    def new_answers(self) -> Answers:
        """Where workers of a new session write theirs; each takes a number of it."""
        ...

    async def create(self, meta: Mapping[str, object], *, durability: Durability = "power") -> BatchStore:
        """A new batch here. Raises StoreError when there is one already.

        Lists show these of the (JSON) meta values: workflow, created_at (seconds since the epoch), status (planned,
        running, paused, finished), total (rows, None when unknown).
        """
        ...

    async def open(self, *, durability: Durability = "power") -> BatchStore:
        """The batch, to go on with. Raises BatchNotFound, BatchBusy, StoreError (newer, damaged)."""
        ...

    def read(self) -> BatchReader:
        """A view of the batch. Raises StoreError when it is damaged, of a newer version, or gone."""
        ...

    def info(self) -> BatchInfo:
        """What a list says of it."""
        ...

    def remove(self) -> None:
        """Delete it with all it holds. Raises BatchBusy while it is running, BatchNotFound."""
        ...


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """What a list says of a batch. `counts` are its ended rows by status; `created_at` is in seconds since the epoch.

    `status` is planned, running, paused or finished, or "unreadable", with the `problem` in words. `size_bytes` is
    None where that would take long to know.
    """

    id: str
    place: Place
    workflow: str
    created_at: float
    status: str
    counts: Mapping[str, int] = field(default_factory=dict)
    total: int | None = None
    size_bytes: int | None = None
    meta: Mapping[str, object] = field(default_factory=dict)
    problem: str | None = None

    @property
    def name(self) -> str | None:
        """What its user calls it."""
        name = self.meta.get("name")
        return name if isinstance(name, str) else None


class Shelf(Protocol):
    """The batches that are kept together; its text says where. What is not a coroutine blocks."""

    def place(self, batch_id: str) -> Place:
        """Where the batch of this id is, or would be."""
        ...

    def new_place(self, workflow: str, at: datetime) -> Place:
        """Where a new batch may be: under an id that is free."""
        ...

    def ids(self) -> Sequence[str]: ...

    def batches(self) -> list[BatchInfo]:
        """All batches, newest first; one that cannot be read is listed as unreadable."""
        ...

    def find(self, id_or_prefix: str | None) -> Place:
        """The batch with this id, or whose id alone begins with it; None: the newest that is not finished.

        A name that was given finds the newest batch that has it; a workflow's its newest that is not finished, else
        its newest. Raises BatchNotFound, with those that come near.
        """
        ...

    def prune(self, older_than_s: float, now: float, *, dry_run: bool = False) -> list[BatchInfo]:
        """Remove the batches nothing was written to for `older_than_s` before `now` (epoch); gives what was removed.

        A running one stays; all do with `dry_run`.
        """
        ...

    def naming(self) -> AbstractAsyncContextManager[None]:
        """Only one `async with` at a time, in all processes: a name that is free inside is free until it is left.

        For looking whether a name is free and creating the batch of that name, in one. A process that ends inside lets
        go. Raises StoreError where nothing can be written.
        """
        ...

    def check(self) -> None:
        """Raise SettingsError or StoreError where no batch can be kept."""
        ...


def shelf_of(settings: Settings) -> Shelf:
    """Where batches are kept under these settings. Raises SettingsError where a DSN needs a package that is missing."""
    if settings.store is not None:
        from plait.store.extras import need_postgres  # noqa: PLC0415

        need_postgres()
        from plait.store.postgres.shelves import PostgresShelf  # noqa: PLC0415 - an extra

        return PostgresShelf(settings.store)
    from plait.store.folders import FolderShelf  # noqa: PLC0415 - it knows of places

    return FolderShelf(settings.home)


def new_batch_id(workflow: str, at: datetime, draw: Callable[[str], str] = secrets.choice) -> str:
    """A readable id: the workflow, month and day, time, three random letters, as in greet-1121-1004-k3x."""
    name = re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-")[:24].strip("-") or "batch"
    return f"{name}-{at:%m%d-%H%M}-{''.join(draw(_LETTERS) for _ in range(3))}"


def find(shelf: Shelf, id_or_prefix: str | None) -> Place:
    """See Shelf.find."""
    if id_or_prefix is None:
        left = [batch for batch in shelf.batches() if batch.status in _UNFINISHED]
        if not left:
            raise BatchNotFound("there is no unfinished batch; `plait batches` lists all there are")
        return left[0].place
    ids = shelf.ids()
    if id_or_prefix in ids:
        return shelf.place(id_or_prefix)
    batches = shelf.batches()
    called = [batch for batch in batches if batch.name == id_or_prefix]
    if called:
        return called[0].place
    matches = sorted(name for name in ids if id_or_prefix and name.startswith(id_or_prefix))
    if len(matches) == 1:
        return shelf.place(matches[0])
    if matches and all(name[len(id_or_prefix)] == "-" for name in matches):
        # A workflow's name: the batch that is worth going on with, or looking at.
        named = [batch for batch in batches if batch.id in matches]
        left = [batch for batch in named if batch.status in _UNFINISHED]
        return (left or named)[0].place
    if matches:
        raise BatchNotFound(
            f"several batches begin with {id_or_prefix!r}: {', '.join(matches[:8])}; write more of the id"
        )
    near = difflib.get_close_matches(id_or_prefix, list(ids), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`plait batches` lists those there are"
    raise BatchNotFound(f"there is no batch {id_or_prefix!r}; {hint}")


def status_of(meta: Mapping[str, object], *, running: bool) -> str:
    """The status that a list shows."""
    status = str(meta.get("status", "paused"))
    # A batch whose process was killed had no time to say so.
    return "running" if running else "paused" if status == "running" else status
