"""Finds an experiment's examples in a LangSmith dataset, and puts there what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from plait.datasets.examples import Example
from plait.errors import InputError
from plait.experiments.langsmith.runs import example_id
from plait.experiments.records import Experiment

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith import schemas as theirs

__all__ = ["Examples", "Placed"]

_SCHEME = "langsmith:"
_EXAMPLES_A_REQUEST = 1_000
_MARK = "plait_dataset"
_NAMELESS = ("", "rows", "standard input")
_SPLIT_KEYS = ("split", "splits", "dataset_split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where the examples of an experiment are."""

    dataset: theirs.Dataset
    dataset_created: bool
    ids: Mapping[str, UUID]
    """By the examples' own ids."""
    versions: Mapping[UUID, str]
    """The times at which LangSmith last changed them, in ISO 8601."""
    created: int
    changed: int
    """Those that LangSmith has with other inputs or reference outputs; they are left as they are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The examples of an experiment, to be placed in the dataset `asked`, or one named after the experiment's own.

    Blocks, and raises what LangSmith's client raises besides InputError.
    """

    experiment: Experiment
    asked: str | None
    hide: Callable[[object], object]
    go_on: Callable[[], None]
    """Raises where nothing more is to be sent."""

    def place(self, client: Client) -> Placed:
        """Find or make the dataset, and make the examples that it does not have.

        Raises InputError where the examples were read from LangSmith and are no longer there, and where a dataset
        has the name by chance: somebody else's is not added to unless it was asked for.
        """
        found, made = self._dataset(client)
        examples = {run.example.id: run.example for run in self.experiment.runs}
        from_there = self._is_source(found.name)
        ids = {own: _as_uuid(own, found.name) if from_there else example_id(found.id, own) for own in examples}
        there = {example.id: example for example in client.list_examples(dataset_id=found.id)}
        missing = [example for own, example in examples.items() if ids[own] not in there]
        if from_there and missing:
            raise InputError(
                f"expected all {len(examples):,} examples in LangSmith's dataset {found.name!r}, found "
                f"{len(missing):,} that are no longer there, such as {missing[0].id}; name another dataset to make"
            )
        if there and len(missing) == len(examples) and not self.asked and _MARK not in (found.metadata or {}):
            raise InputError(
                f"expected a dataset {found.name!r} that plait made, found one in LangSmith that shares no example "
                f"with this experiment; name another dataset, or {found.name!r} to add the examples to it"
            )
        changed = sum(self._differs(example, there.get(ids[own])) for own, example in examples.items())
        stamps = {id_: there[id_].modified_at or there[id_].created_at for id_ in ids.values() if id_ in there}
        versions = {id_: stamp.isoformat() for id_, stamp in stamps.items() if stamp is not None}
        versions |= self._make(client, found.id, {ids[example.id]: example for example in missing})
        return Placed(
            dataset=found, dataset_created=made, ids=ids, versions=versions, created=len(missing), changed=changed
        )

    def _dataset(self, client: Client) -> tuple[theirs.Dataset, bool]:
        from langsmith.utils import LangSmithConflictError, LangSmithNotFoundError  # noqa: PLC0415

        origin = self.experiment.origin.dataset
        # Examples given in Python have no name of their own.
        named = PurePath(origin).name.partition(".")[0] if origin not in _NAMELESS else self.experiment.definition
        name = self.asked or (origin.removeprefix(_SCHEME) if origin.startswith(_SCHEME) else named or "dataset")
        try:
            return client.read_dataset(dataset_name=name), False
        except LangSmithNotFoundError:
            if self._is_source(name):
                raise InputError(
                    f"expected the dataset {name!r} in LangSmith, where the examples are from, found none; "
                    "name another one to make"
                ) from None
        self.go_on()
        try:
            return client.create_dataset(name, metadata={_MARK: self.hide(origin)}), True
        except LangSmithConflictError:
            # Another upload was faster.
            return client.read_dataset(dataset_name=name), False

    def _is_source(self, name: str) -> bool:
        return self.experiment.origin.dataset == f"{_SCHEME}{name}"

    def _differs(self, example: Example, there: theirs.Example | None) -> bool:
        if there is None:
            return False
        inputs, outputs = self.hide(example.inputs), self.hide(example.reference_outputs)
        return (there.inputs or {}, there.outputs or {}) != (inputs, outputs or {})

    def _make(self, client: Client, dataset_id: UUID, examples: Mapping[UUID, Example]) -> dict[UUID, str]:
        """The versions that they became, where LangSmith says it."""
        versions: dict[UUID, str] = {}
        bodies: list[theirs.ExampleCreate | dict[str, Any]] = [
            {
                "id": id_,
                "inputs": self.hide(example.inputs),
                "reference_outputs": self.hide(example.reference_outputs),
                "metadata": self.hide({**(example.metadata or {}), "plait_example": example.id}),
                "split": _splits_of(example),
            }
            for id_, example in examples.items()
        ]
        for first in range(0, len(bodies), _EXAMPLES_A_REQUEST):
            self.go_on()
            last = first + _EXAMPLES_A_REQUEST
            as_of = client.create_examples(dataset_id=dataset_id, examples=bodies[first:last]).get("as_of")
            if as_of is not None:
                versions |= dict.fromkeys(list(examples)[first:last], str(as_of))
        return versions


def _splits_of(example: Example) -> list[str] | None:
    """The splits that the example's metadata name."""
    named = [(example.metadata or {}).get(key) for key in _SPLIT_KEYS]
    found = [split for value in named for split in (value if isinstance(value, list | tuple) else [value])]
    return list(dict.fromkeys(split for split in found if isinstance(split, str) and split)) or None


def _as_uuid(own: str, dataset: str) -> UUID:
    try:
        return UUID(own)
    except ValueError:
        raise InputError(
            f"expected the ids that LangSmith's dataset {dataset!r} gives its examples, found {own!r}; leave out the "
            "id column, or name another dataset to make"
        ) from None
