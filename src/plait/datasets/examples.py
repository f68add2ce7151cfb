"""What a dataset gives, one example a row, and what is taken of it: the types that the other modules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol

from plait.errors import InputError

__all__ = ["BadRow", "BadRows", "Example", "Fault", "InputName", "Record", "Row", "Selection"]

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "lines")
"""What a file's format may be called."""

KEPT_BAD_ROWS = 20


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a dataset. `position` is its index in the source, from 0, whatever was selected of it."""

    position: int
    id: str
    inputs: dict[str, object]
    reference_outputs: dict[str, object] | None = None
    metadata: dict[str, object] | None = None


class InputName(Protocol):
    """What a dataset needs to know of a workflow's input; `plait.inputs.InputField` is one."""

    @property
    def name(self) -> str: ...

    @property
    def required(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """What is taken of a dataset and how. It is stored with a batch, so that a resume reads the same rows.

    Raises InputError where two parts contradict each other or a number is below 1.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    """By input, the column that it comes from."""
    constants: Mapping[str, object] = field(default_factory=dict)
    """By input, the value that every example gets; it goes before a column's."""
    limit: int | None = None
    """The first so many rows, of those that `where` lets through."""
    sample: int | None = None
    """So many rows drawn at random, each as likely, in their original order."""
    seed: int = 0
    """Of the draw: the same seed draws the same rows."""
    where: str | None = None
    """A condition over columns: `lang == "en" and len(text) > 20`."""
    id_column: str | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    format: str | None = None
    """One of FORMATS; None: by suffix, then by content."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.sample is not None:
            raise InputError("expected a limit or a sample, found both: leave one out")
        for name, number in (("limit", self.limit), ("sample", self.sample)):
            if number is not None and number < 1:
                raise InputError(f"{name}: expected 1 or more rows, found {number}")
        if twice := [name for name in self.mapping if name in self.constants]:
            raise InputError(f"{twice[0]}: expected a column or a constant, found both: leave one out")
        if self.on_bad_row not in ("stop", "skip"):
            raise InputError(f"on_bad_row: expected stop or skip, found {self.on_bad_row!r}")
        if self.format is not None and self.format not in FORMATS:
            raise InputError(f"format: expected one of {', '.join(FORMATS)}, found {self.format!r}")

    def to_json(self) -> dict[str, object]:
        """The parts as plain values; `from_json` takes them back."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return parts | {"mapping": dict(self.mapping), "constants": dict(self.constants)}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Selection:
        """The selection that `to_json` gave. Raises InputError where a newer version stored parts unknown here."""
        try:
            return cls(**stored)  # type: ignore[arg-type]
        except TypeError as error:
            raise InputError(f"the stored selection of rows is not of this version of plait: {error}") from error


Record = Mapping[str, object]


class Fault(Exception):
    """Why one row cannot be used, and in which column."""

    def __init__(self, reason: str, column: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column


Row = tuple[int, Record | Fault]
"""Where it is in its source (a line or a row, from 1), and what is there."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used. `place` counts the source's lines or rows from 1; `unit` says which."""

    position: int
    place: int
    unit: str
    column: str | None
    reason: str

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column is not None else ""
        return f"{self.unit} {self.place}{column}: {self.reason}"


@dataclass(slots=True)
class BadRows:
    """How many rows could not be used so far, and the first of them."""

    count: int = 0
    first: list[BadRow] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        self.count += 1
        if len(self.first) < KEPT_BAD_ROWS:
            self.first.append(row)
