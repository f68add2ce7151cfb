"""Where the rows of a batch come from, and where a resume finds them again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence, Sized
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from plait.batches.spools import SPOOLED, continued, spool_all, spooled, spooled_before
from plait.datasets import Dataset, Example, InputName, Selection, open_dataset
from plait.datasets.intakes import Draw
from plait.errors import InputError
from plait.settings import Settings
from plait.store.batches import BatchStore

STDIN = "input.data"
"""The copy of standard input in a batch's folder."""

Rows = str | Path | Iterable[object] | AsyncIterable[object]


def open_rows(
    rows: Rows, selection: Selection, inputs: Sequence[InputName], files: Path | None, settings: Settings
) -> Dataset:
    """The rows of a new batch; standard input is copied into the folder `files`, if any, while it is read."""
    copy = files / STDIN if rows == "-" and files else None
    return open_dataset(rows, selection, inputs=inputs, tee=copy, env=settings.langsmith)


def kept_as(rows: Rows, files: Path | None) -> str | None:
    """How a resume finds the rows again; None for those that are stored: an iterable's, or a pipe's without a copy."""
    if rows == "-":
        return STDIN if files else None
    if isinstance(rows, str) and rows.startswith("langsmith:"):
        return rows
    return str(Path(rows).absolute()) if isinstance(rows, str | Path) else None


async def read_rows(rows: Rows, dataset: Dataset, store: BatchStore) -> AsyncGenerator[Example]:
    """The examples of a new batch; those of an iterable are stored: of a list all at once, of others as they come."""
    examples = dataset.examples()
    if kept_as(rows, store.place.files) is not None:
        return examples
    if isinstance(rows, Sized) and not isinstance(rows, str):
        await spool_all(examples, store)
        return spooled_before(store.place)
    return spooled(examples, store)


def reopen_rows(
    store: BatchStore, rows: Rows | None, inputs: Sequence[InputName], settings: Settings
) -> tuple[Dataset | None, AsyncGenerator[Example]]:
    """The rows of a batch to go on with; `rows` are an iterable's once more, for one that was not read to its end."""
    source, stored = store.meta.get("source"), store.meta.get("selection")
    selection = Selection.from_json(stored if isinstance(stored, Mapping) else {})
    if not isinstance(source, str):
        if rows is None or SPOOLED in store.meta:
            return None, spooled_before(store.place)
        dataset = open_dataset(rows, selection, inputs=inputs)
        return dataset, continued(dataset.examples(), store)
    if source == STDIN:
        selection = replace(selection, format=str(store.meta.get("format") or "") or selection.format)
    files = store.place.files
    found = str(files / STDIN) if source == STDIN and files else source
    dataset = open_dataset(found, selection, inputs=inputs, env=settings.langsmith)
    return dataset, dataset.examples()


async def repeated(examples: AsyncGenerator[Example], times: int) -> AsyncGenerator[Example]:
    """Every example so many times, as rows of their own: the second has `#2` behind its id."""
    async with aclosing(examples):
        async for example in examples:
            if times == 1:
                yield example
                continue
            for number in range(times):
                name = example.id if number == 0 else f"{example.id}#{number + 1}"
                yield replace(example, position=example.position * times + number, id=name)


async def draw_positions(dataset: Dataset, size: int, seed: int) -> frozenset[int]:
    """The positions of `size` rows, each row as likely as any other. Raises InputError for rows read only once."""
    if not dataset.replayable:
        raise InputError(
            f"expected rows that can be read twice, found {dataset.name}: write them to a file to plan them"
        )
    draw = Draw(size, seed)
    positions: list[int] = []
    async for example in dataset.examples():
        draw.offer(positions, example.position)
    return frozenset(positions)
