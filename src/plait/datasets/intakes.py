"""Turns the rows of one reading into the chosen examples: layout, condition, id, limit, sample, bad rows."""

from __future__ import annotations

from array import array
from collections.abc import MutableSequence, Sequence
from random import Random
from typing import TypeVar

from plait.datasets.conditions import Condition, parse_condition
from plait.datasets.examples import BadRow, BadRows, Example, Fault, InputName, Record, Selection
from plait.datasets.identities import Identities
from plait.datasets.layouts import Layout, decide_layout, nearest
from plait.errors import InputError

__all__ = ["OR_SKIP", "Draw", "Intake"]

OR_SKIP = ", or go on without such rows: --on-bad-row skip"
"""How the message about a bad row ends, for commands that have this option."""

T = TypeVar("T")


class Draw:
    """Algorithm R (Vitter 1985): which of a stream's rows, whose number is unknown, stay in a sample of `size`."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = Random(seed)  # noqa: S311  (reproducible on purpose)
        self._offered = 0

    def offer(self, drawn: MutableSequence[T], row: T) -> None:
        """Put the next row into `drawn`, the sample so far, instead of another one once it is full, or leave it."""
        self._offered += 1
        if self._offered <= self._size:
            drawn.append(row)
            return
        place = int(self._random.random() * self._offered)
        if place < self._size:
            drawn[place] = row


class Intake:
    """The state of one reading: give it every row in order. `full` says that no later row will be chosen.

    `drawn` holds the ordinals, ascending, of a sample that an earlier pass with `counts` drew.
    """

    def __init__(
        self,
        source: str,
        selection: Selection,
        inputs: Sequence[InputName],
        bad_rows: BadRows,
        *,
        unit: str = "row",
        drawn: array[int] | None = None,
    ) -> None:
        self.source = source
        self.full = False
        self.columns: tuple[str, ...] | None = None
        self.passed = 0
        self._selection = selection
        self._inputs = inputs
        self._bad_rows = bad_rows
        self._unit = unit
        self._drawn = drawn
        self._layout: Layout | None = None
        self._condition: Condition | None = parse_condition(selection.where) if selection.where else None
        self._unseen = set(self._condition.columns) if self._condition else set[str]()
        self._identities = Identities()
        self._position = 0
        self._next_drawn = 0

    def begin(self, columns: Sequence[str]) -> None:
        """Check a source whose columns are known before its rows. Raises InputError naming what is missing."""
        if "inputs" in columns and "inputs" not in [entry.name for entry in self._inputs]:
            # Whether it holds objects, the first record shows.
            return
        self._decide(columns, None)
        self._end_of_columns()

    def counts(self, place: int, record: Record | Fault) -> bool:
        """Whether the row can be drawn: usable and let through by the condition. Gives no id."""
        position = self._position
        self._position += 1
        try:
            layout, passes = self._look(record)
            if passes:
                layout.read(record)  # type: ignore[arg-type]
        except Fault as fault:
            self._refuse(position, place, fault)
            return False
        return passes

    def take(self, place: int, record: Record | Fault) -> Example | None:
        """The row as an example if it is chosen.

        Raises InputError where it cannot be used and bad rows stop the reading.
        """
        position = self._position
        self._position += 1
        try:
            layout, passes = self._look(record)
            if not passes and layout.id_column is not None:
                return None
            return self._example(layout, position, place, record, passes)  # type: ignore[arg-type]
        except Fault as fault:
            self._refuse(position, place, fault)
            return None

    def finish(self) -> None:
        """Say what is only known at the end. Raises InputError for a source without rows or an unknown column."""
        if self._position == 0:
            raise InputError(f"{self.source}: expected rows, found none: the dataset is empty")
        self._end_of_columns()

    def _look(self, record: Record | Fault) -> tuple[Layout, bool]:
        if isinstance(record, Fault):
            raise record
        layout = self._layout or self._decide(tuple(record), record)
        if self._condition is None:
            return layout, True
        columns = layout.columns_of(record)
        if self._unseen:
            self._unseen.difference_update(columns)
        return layout, self._condition.holds(columns)

    def _example(self, layout: Layout, position: int, place: int, record: Record, passes: bool) -> Example | None:
        try:
            inputs, reference, metadata = layout.read(record)
        except Fault:
            if passes:
                raise
            return None
        if layout.id_column is None:
            # Rows that are left out count too: an id must not depend on what is selected.
            identity = self._identities.of_content(inputs)
        else:
            identity = self._identities.of_column(layout.identity(record), layout.id_column, place, self._unit)
        if not passes or not self._is_chosen():
            return None
        if layout.constants:
            inputs = {**inputs, **layout.constants}
        return Example(position, identity, inputs, reference, metadata)

    def _is_chosen(self) -> bool:
        ordinal = self.passed
        self.passed += 1
        if self._drawn is not None:
            chosen = self._next_drawn < len(self._drawn) and self._drawn[self._next_drawn] == ordinal
            self._next_drawn += chosen
            self.full = self._next_drawn >= len(self._drawn)
            return chosen
        limit = self._selection.limit
        self.full = limit is not None and self.passed >= limit
        return True

    def _decide(self, columns: Sequence[str], first: Record | None) -> Layout:
        layout = decide_layout(columns, first, selection=self._selection, inputs=self._inputs, source=self.source)
        self.columns = tuple(layout.columns_of(first)) if first is not None else tuple(columns)
        self._unseen.difference_update(self.columns)
        self._layout = layout
        return layout

    def _end_of_columns(self) -> None:
        for name in sorted(self._unseen):
            raise InputError(f"{self.source}: where: no column {name!r}{nearest(name, self.columns or ())}")

    def _refuse(self, position: int, place: int, fault: Fault) -> None:
        row = BadRow(position, place, self._unit, fault.column, fault.reason)
        self._bad_rows.add(row)
        if self._selection.on_bad_row == "stop":
            raise InputError(f"{self.source}, {row}\nmend the row{OR_SKIP}")
