"""Decides which columns of a source become inputs, id, reference outputs and metadata, and reads records that way.

A record is flat, `{"topic": ..., "lang": ...}`, or of the shape that evaluations use, `{"id", "inputs",
"reference_outputs" or "outputs", "metadata"}`; the first record of a source decides which.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plait.datasets.examples import Fault, InputName, Record, Selection
from plait.errors import InputError

__all__ = ["Layout", "Parts", "decide_layout", "nearest"]

Parts = tuple[dict[str, object], dict[str, object] | None, dict[str, object] | None]
"""Inputs, reference outputs and metadata of an example; the inputs without constants."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of one source are read."""

    nested: bool
    taken: tuple[tuple[str, str, bool], ...] | None
    """Input, column, and whether it must be there; None: every column is an input."""
    consumed: frozenset[str]
    """Columns that are no metadata."""
    constants: Mapping[str, object]
    id_column: str | None

    def read(self, record: Record) -> Parts:
        """The parts of an example. Raises Fault where a required column is absent."""
        return self._nested(record) if self.nested else self._flat(record)

    def identity(self, record: Record) -> object:
        """What the id column says, None where it is absent."""
        return None if self.id_column is None else self.columns_of(record).get(self.id_column)

    def columns_of(self, record: Record) -> Record:
        """What `where` sees: inputs go before metadata and both before the outer names."""
        if not self.nested:
            return record
        inputs, metadata = record.get("inputs"), record.get("metadata")
        return {
            **record,
            **(metadata if isinstance(metadata, Mapping) else {}),
            **(inputs if isinstance(inputs, Mapping) else {}),
        }

    def _flat(self, record: Record) -> Parts:
        consumed = self.consumed
        if self.taken is None:
            return {name: value for name, value in record.items() if name not in consumed}, None, None
        inputs = self._take(record)
        metadata = {name: value for name, value in record.items() if name not in consumed}
        reference = metadata.get("reference_outputs")
        if isinstance(reference, str) and reference.lstrip().startswith("{"):
            reference = _parsed(reference)  # a column of a table
        if isinstance(reference, dict):
            del metadata["reference_outputs"]
            return inputs, reference, metadata or None
        return inputs, None, metadata or None

    def _take(self, record: Record) -> dict[str, object]:
        inputs: dict[str, object] = {}
        for name, column, required in self.taken or ():
            try:
                inputs[name] = record[column]
            except KeyError:
                if required:
                    raise Fault(f"missing; found {_listed(tuple(record))}", column) from None
        return inputs

    def _nested(self, record: Record) -> Parts:
        columns = record.get("inputs")
        if not isinstance(columns, dict):
            raise Fault(f"expected an object, found {type(columns).__name__}", "inputs")
        if self.taken is None:
            inputs = dict(columns)
        else:
            # Names that are no inputs go on: the workflow's own check says what it thinks of them.
            inputs = {name: value for name, value in columns.items() if name not in self.consumed}
            inputs.update(self._take(columns))
        reference = record.get("reference_outputs", record.get("outputs"))
        return inputs, _object(reference, "reference_outputs"), _object(record.get("metadata"), "metadata")


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Fault(f"expected a JSON object, found text that is none: {error}", "reference_outputs") from None


def _object(value: object, column: str) -> dict[str, object] | None:
    if value is None or isinstance(value, dict):
        return value
    raise Fault(f"expected an object or null, found {type(value).__name__}", column)


def decide_layout(
    columns: Sequence[str], first: Record | None, *, selection: Selection, inputs: Sequence[InputName], source: str
) -> Layout:
    """The layout for a source with these columns and this first record (None where only the columns are known).

    Raises InputError with one line for each column or input that is missing or unknown.
    """
    names = [entry.name for entry in inputs]
    wrapped = None if first is None or "inputs" in names else first.get("inputs")
    nested = isinstance(wrapped, Mapping) and "inputs" not in selection.mapping.values()
    inner = list(wrapped) if nested and isinstance(wrapped, Mapping) else list(columns)
    problems = _unknown_inputs(names, selection)
    taken = None
    if names or selection.mapping:
        taken, missing = _take(inner, inputs, selection)
        problems += missing
    id_column = selection.id_column
    known = [*inner, *columns] if nested else inner
    if id_column is not None and id_column not in known:
        problems.append(f"id: no column {id_column!r}{nearest(id_column, known)}")
    if id_column is None and "id" in columns and (nested or "id" not in names):
        id_column = "id"
    if problems:
        raise InputError("\n".join(f"{source}: {problem}" for problem in problems))
    consumed = {column for _, column, _ in taken or ()}
    if id_column is not None and not nested and (taken is None or id_column not in consumed):
        consumed.add(id_column)
    return Layout(nested, taken, frozenset(consumed), selection.constants, id_column)


def _unknown_inputs(names: list[str], selection: Selection) -> list[str]:
    given = [*selection.mapping, *selection.constants]
    return [
        f"{name}: no such input{nearest(name, names, what='inputs')}" for name in given if names and name not in names
    ]


def _take(
    columns: list[str], inputs: Sequence[InputName], selection: Selection
) -> tuple[tuple[tuple[str, str, bool], ...], list[str]]:
    """Which input takes which column, and what is wrong with it."""
    taken: list[tuple[str, str, bool]] = []
    missing: list[str] = []
    absent: list[str] = []
    for name, column in selection.mapping.items():
        if column not in columns:
            missing.append(f"{name}: no column {column!r}{nearest(column, columns)}")
        taken.append((name, column, True))
    mapped = {*selection.mapping, *selection.constants}
    named = [(entry.name, entry.required) for entry in inputs] or [(column, False) for column in columns]
    for name, required in named:
        if name in mapped or (not inputs and name in selection.mapping.values()):
            continue
        if name in columns:
            taken.append((name, name, required))
        elif required:
            absent.append(name)
        elif inputs:
            # Other records of the source may have it.
            taken.append((name, name, False))
    required_names = [name for name, required in named if required and name not in selection.constants]
    if len(columns) == 1 and absent == required_names and len(absent) == 1 and not selection.mapping:
        return ((absent[0], columns[0], True), *(part for part in taken if part[1] != columns[0])), missing
    missing += [
        f"{name}: no such column{nearest(name, columns)}; name the column with --map {name}=COLUMN" for name in absent
    ]
    if inputs and not (absent or mapped or any(column in columns for _, column, _ in taken)):
        # Where a graph has only optional inputs, all rows would run without any.
        wanted, there = _listed([entry.name for entry in inputs]), _listed(columns)
        missing.append(f"no column is an input ({wanted}); columns: {there}; name one with --map INPUT=COLUMN")
    return tuple(taken), missing


def nearest(name: str, known: Sequence[str], *, what: str = "columns") -> str:
    """The end of a sentence that says what there is instead, the nearest first."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return f"{hint} ({what}: {_listed(known)})" if hint else f"; {what}: {_listed(known)}"


def _listed(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    return (", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")) or "none"
