"""Opens a dataset of any kind and reads it as examples, streamed: what the rest of plait uses."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from plait.datasets.conditions import parse_condition
from plait.datasets.examples import BadRows, Example, InputName, Selection
from plait.datasets.fingerprints import Fingerprint
from plait.datasets.intakes import Draw, Intake
from plait.datasets.langsmith_datasets import LangSmithSource
from plait.datasets.pumps import in_thread, pumped
from plait.datasets.sources import Objects, PathSource, Source, StandardInput, record_of
from plait.datasets.streams import BUFFER_BYTES, open_stdin
from plait.errors import InputError

__all__ = ["Dataset", "open_dataset", "spool"]

_EVERYTHING = Selection()


class Dataset:
    """Rows to be read, of which `selection` takes some. Made by `open_dataset`; nothing is opened before it is read."""

    def __init__(
        self, source: Source | AsyncIterable[object], selection: Selection, inputs: Sequence[InputName]
    ) -> None:
        self.name: str = "rows" if isinstance(source, AsyncIterable) else source.name
        """The path as given, `standard input`, `langsmith:NAME`, or `rows` for objects."""
        self.replayable: bool = (
            not hasattr(source, "__anext__") if isinstance(source, AsyncIterable) else source.replayable
        )
        """Whether `examples` may be called again."""
        self.columns: tuple[str, ...] | None = None
        """Of the source, once `check` or `examples` saw them."""
        self.format: str | None = None
        """How the source is read, once known; of standard input it says what a copy is."""
        self.bad_rows = BadRows()
        """Of the last or running call of `examples`."""
        self._source = source
        self._selection = selection
        self._inputs = tuple(inputs)
        self._wanted = _wanted(selection, inputs)

    def examples(self) -> AsyncGenerator[Example]:
        """The chosen examples in the order of the source, read in a thread (an async iterable: on the loop).

        At most 256 rows are read ahead. Close the generator (`aclose`) to end the reading early; cancelling
        whoever waits for a row does so too. Raises InputError for a source that cannot be read, a missing column,
        an empty source, and a bad row unless bad rows are skipped.
        """
        self.bad_rows = BadRows()
        source = self._source
        if isinstance(source, AsyncIterable):
            return self._iterate(source)
        return pumped(lambda stop: self._chosen(source, stop))

    async def check(self) -> None:
        """Open the source and read its first row, so that mistakes show before anything runs.

        Raises InputError as `examples` does. What can be read only once is left alone.
        """
        source = self._source
        if isinstance(source, AsyncIterable) or not source.replayable:
            return

        def first(stop: Callable[[], bool]) -> None:
            reading = source.read(stop, self._wanted)
            try:
                intake = self._intake(source.name, BadRows(), reading.unit)
                if reading.columns is not None:
                    intake.begin(reading.columns)
                for place, record in reading.rows:
                    if intake.counts(place, record) or intake.columns is not None:
                        break
                else:
                    intake.finish()
                self.columns, self.format = intake.columns, reading.format
            finally:
                reading.close()

        await in_thread(first)

    async def count(self) -> int | None:
        """About how many examples there are; None where only reading them all can tell (`where`, a pipe).

        Bad rows and lines within quoted fields may make it too high.
        """
        source, selection = self._source, self._selection
        if isinstance(source, AsyncIterable) or selection.where is not None:
            return None
        rows = await in_thread(lambda _: source.count(selection.format))
        bounds = [bound for bound in (selection.limit, selection.sample, rows) if bound is not None]
        return min(bounds) if rows is not None else None

    async def fingerprint(self, known: Fingerprint | None = None) -> Fingerprint | None:
        """Of the source's content, whatever is selected of it; None for what is no file or folder.

        A file whose size and time are those of `known` is not read again. Raises InputError if it cannot be read.
        """
        source = self._source
        return None if isinstance(source, AsyncIterable) else await in_thread(lambda _: source.fingerprint(known))

    def _intake(self, name: str, bad_rows: BadRows, unit: str, drawn: array[int] | None = None) -> Intake:
        return Intake(name, self._selection, self._inputs, bad_rows, unit=unit, drawn=drawn)

    def _chosen(self, source: Source, stop: Callable[[], bool]) -> Iterator[Example]:
        size = self._selection.sample
        drawn = self._draw(source, stop) if size is not None and source.replayable else None
        if drawn is not None and not drawn:
            return
        kept = _Kept(self._selection) if size is not None and drawn is None else None
        reading = source.read(stop, self._wanted)
        try:
            intake = self._intake(source.name, self.bad_rows, reading.unit, drawn)
            self.columns, self.format = reading.columns, reading.format
            if reading.columns is not None:
                intake.begin(reading.columns)
            for place, record in reading.rows:
                if stop():
                    return
                example = intake.take(place, record)
                if example is None:
                    pass
                elif kept is None:
                    yield example
                else:
                    kept.offer(example)
                if intake.full:
                    return
            if not stop():
                intake.finish()
            self.columns = self.columns or intake.columns
            yield from kept.examples() if kept is not None else ()
        finally:
            reading.close()

    def _draw(self, source: Source, stop: Callable[[], bool]) -> array[int]:
        """The ordinals of a sample among the rows that can be chosen, found in a pass that keeps nothing else."""
        size = self._selection.sample or 0
        draw = Draw(size, self._selection.seed)
        places = array("Q")
        ordinal = 0
        reading = source.read(stop, self._wanted)
        try:
            intake = self._intake(source.name, BadRows(), reading.unit)
            if reading.columns is not None:
                intake.begin(reading.columns)
            for row, record in reading.rows:
                if stop():
                    break
                if not intake.counts(row, record):
                    continue
                draw.offer(places, ordinal)
                ordinal += 1
            else:
                intake.finish()
        finally:
            reading.close()
        return array("Q", sorted(places))

    async def _iterate(self, source: AsyncIterable[object]) -> AsyncGenerator[Example]:
        intake = self._intake(self.name, self.bad_rows, "row")
        kept = _Kept(self._selection) if self._selection.sample is not None else None
        self.format = "objects"
        rows = aiter(source)
        place = 0
        try:
            async for value in rows:
                place += 1
                example = intake.take(place, record_of(value))
                self.columns = intake.columns
                if example is not None and kept is not None:
                    kept.offer(example)
                elif example is not None:
                    yield example
                if intake.full:
                    return
            intake.finish()
            for example in kept.examples() if kept is not None else ():
                yield example
        finally:
            close = getattr(rows, "aclose", None)
            if close is not None:
                await close()


class _Kept:
    """The sample of a source that can be read only once."""

    def __init__(self, selection: Selection) -> None:
        self._draw = Draw(selection.sample or 0, selection.seed)
        self._places: list[Example] = []

    def offer(self, example: Example) -> None:
        self._draw.offer(self._places, example)

    def examples(self) -> list[Example]:
        return sorted(self._places, key=lambda example: example.position)


def _wanted(selection: Selection, inputs: Sequence[InputName]) -> frozenset[str] | None:
    """The columns that are needed for more than metadata; None: all."""
    if not inputs and not selection.mapping:
        return None
    where = parse_condition(selection.where).columns if selection.where else frozenset[str]()
    ids = [selection.id_column] if selection.id_column else []
    return frozenset([*(entry.name for entry in inputs), *selection.mapping.values(), *where, *ids])


def open_dataset(
    source: str | Path | Iterable[object] | AsyncIterable[object],
    selection: Selection = _EVERYTHING,
    *,
    inputs: Sequence[InputName] = (),
    tee: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Dataset:
    """The dataset that `source` names; it is opened when it is read.

    `source` is a path (a text: a path, `-` for standard input, `langsmith:NAME`) or an iterable of mappings,
    Examples and texts. `inputs` are those of the workflow; without them every column is an input. `tee` is where
    standard input is copied to, decompressed, while it is read. `env` holds LangSmith's variables. Raises
    InputError for a condition that cannot be read and for `langsmith:` without a key.
    """
    if selection.where is not None:
        parse_condition(selection.where)
    if source == "-":
        return Dataset(StandardInput(selection.format, tee), selection, inputs)
    if isinstance(source, str) and source.startswith("langsmith:"):
        return Dataset(LangSmithSource(source, env or {}), selection, inputs)
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise InputError("expected a dataset, found an empty name: give a file, a folder, or - for standard input")
        return Dataset(PathSource(Path(source), selection.format), selection, inputs)
    if isinstance(source, AsyncIterable):
        return Dataset(source, selection, inputs)
    if hasattr(source, "columns") and hasattr(source, "shape"):
        # Iterating one gives its columns, which would pass for rows of text.
        raise InputError(
            "expected an iterable of rows, found a data frame: pass frame.to_dict('records') of pandas, "
            "frame.iter_rows(named=True) of polars"
        )
    if not isinstance(source, Iterable) or isinstance(source, Mapping | bytes):
        raise InputError(f"expected a path or an iterable of rows, found {type(source).__name__}")
    return Dataset(Objects(source), selection, inputs)


async def spool(target: Path) -> None:
    """Copy standard input, decompressed, into a file. Raises InputError; a cancelled copy keeps its whole lines."""

    def copy(stop: Callable[[], bool]) -> None:
        try:
            with open_stdin(stop, target) as stream:
                while stream.read1(BUFFER_BYTES):
                    pass
        except (OSError, EOFError) as error:
            raise InputError(f"standard input: cannot be copied to {target}: {error}") from error

    await in_thread(copy)
