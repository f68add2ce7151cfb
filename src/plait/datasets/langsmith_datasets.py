"""Reads a LangSmith dataset by its name, with the key that the environment holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from plait.datasets.examples import Row
from plait.datasets.fingerprints import Fingerprint
from plait.datasets.sources import Reading
from plait.datasets.streams import Stop
from plait.errors import InputError

if TYPE_CHECKING:
    from langsmith import Client

__all__ = ["LangSmithSource"]

_KEYS = ("LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
_ENDPOINTS = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")


class LangSmithSource:
    """Raises InputError without a key or a name."""

    replayable = True

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.name = name
        self._dataset = name.removeprefix("langsmith:")
        self._key = next((env[variable] for variable in _KEYS if env.get(variable)), None)
        self._url = next((env[variable] for variable in _ENDPOINTS if env.get(variable)), None)
        self._workspace = env.get("LANGSMITH_WORKSPACE_ID") or None
        if not self._dataset:
            raise InputError("expected langsmith:NAME, found no name of a dataset")
        if self._key is None:
            raise InputError(f"{name}: expected a key of LangSmith, found none: set {_KEYS[0]}")

    def read(self, stop: Stop, wanted: frozenset[str] | None) -> Reading:
        client = self._client()
        return Reading(self._rows(client), "langsmith", "row", None, client.cleanup)

    def count(self, form: str | None) -> int | None:
        from langsmith.utils import LangSmithError  # noqa: PLC0415  (a second to import)

        client = self._client()
        try:
            size: int | None = client.read_dataset(dataset_name=self._dataset).example_count
            return size
        except LangSmithError as error:
            raise self._refused(error) from error
        finally:
            client.cleanup()

    def fingerprint(self, known: Fingerprint | None) -> Fingerprint | None:
        return None

    def _client(self) -> Client:
        from langsmith import Client  # noqa: PLC0415

        return Client(self._url, api_key=self._key, workspace_id=self._workspace, auto_batch_tracing=False)

    def _rows(self, client: Client) -> Iterator[Row]:
        from langsmith.utils import LangSmithError  # noqa: PLC0415  (a second to import)

        try:
            for place, example in enumerate(client.list_examples(dataset_name=self._dataset), 1):
                yield (
                    place,
                    {
                        "id": str(example.id),
                        "inputs": example.inputs or {},
                        "reference_outputs": example.outputs,
                        "metadata": example.metadata,
                    },
                )
        except LangSmithError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> InputError:
        return InputError(f"{self.name}: cannot be read from LangSmith: {error}")
