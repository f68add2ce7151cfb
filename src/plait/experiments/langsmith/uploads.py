"""Sends a finished experiment to LangSmith: its examples, runs and scores, where its comparison page shows them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from plait.batches.rows import known_keys
from plait.errors import InputError, PlaitError, SettingsError
from plait.experiments.langsmith.calls import KEYS, client_for, explained, give, ingest, key_in, quiet
from plait.experiments.langsmith.examples import Examples, Placed
from plait.experiments.langsmith.runs import (
    Feedback,
    Payload,
    Project,
    described,
    feedback_of,
    identity,
    runs_of,
    summary_of,
)
from plait.experiments.records import Experiment
from plait.json_values import to_json
from plait.masking import masked, redacted
from plait.settings import Settings

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.schemas import TracerSession

__all__ = ["Upload", "upload_experiment"]

_RUNS_A_REQUEST = 100
"""What LangSmith's own client puts into one."""
_CHARACTERS_A_REQUEST = 5_000_000
"""LangSmith takes 20 MB."""
_SENDERS = 4
"""Requests with scores in flight: LangSmith takes 5,000 a minute (its table of rate limits) and one takes 50 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What was sent. `runs` and `feedback` count what an earlier upload had sent too."""

    project: str
    project_id: UUID
    dataset: str
    dataset_id: UUID
    dataset_created: bool
    examples_created: int
    examples_changed: int
    """Examples that LangSmith has with other inputs or reference outputs; they are left as they are there."""
    runs: int
    """With nodes, calls and tools."""
    feedback: int
    """Scores, with those of the whole experiment."""
    url: str | None
    """Of the page that shows the experiment against others over the same dataset."""


async def upload_experiment(experiment: Experiment, *, settings: Settings, dataset: str | None = None) -> Upload:
    """Send a finished experiment to LangSmith, with the key and endpoint of `settings.langsmith`.

    Examples read from LangSmith (`langsmith:NAME`) are referred to by their ids there; others are put into the
    dataset `dataset`, which is made where there is none (by default it is named after the experiment's own).
    Ids follow from the experiment, so sending it again changes nothing and completes what was cut off. Secrets are
    masked. LangSmith's client rounds scores to four decimals.

    Raises SettingsError without a key, InputError for an experiment that cannot be sent, CallRefused where LangSmith
    refuses, EndpointUnreachable where it does not answer. When cancelled, nothing more is sent once the requests in
    flight have ended, in threads of their own.
    """
    if key_in(settings.langsmith) is None:
        raise SettingsError(f"expected a key of LangSmith to send an experiment with, found none: set {KEYS[0]}")
    if experiment.status != "finished":
        raise InputError(
            f"{experiment.name}: expected a finished experiment, found one that is {experiment.status}; "
            f"`plait resume {experiment.id}` goes on with it"
        )
    stop = threading.Event()
    try:
        return await asyncio.to_thread(_Sending(experiment, settings, dataset, stop).send)
    finally:
        stop.set()


class _Stopped(Exception):
    """Nobody waits for the upload any more."""


class _Sending:
    """One upload. Blocks: for threads."""

    def __init__(self, experiment: Experiment, settings: Settings, dataset: str | None, stop: threading.Event) -> None:
        self._experiment = experiment
        self._env = settings.langsmith
        self._keys = known_keys(settings)
        self._examples = Examples(experiment=experiment, asked=dataset, hide=self._hidden, go_on=self._go_on)
        self._stop = stop
        self._failures: list[Exception] = []
        self._threads: set[int | None] = set()

    def send(self) -> Upload:
        """Raises as `upload_experiment` does."""
        self._threads.add(threading.get_ident())
        with quiet(self._threads):
            client = client_for(self._env, self._failures)
            try:
                return self._sent(client)
            except (PlaitError, _Stopped):
                raise
            except Exception as error:  # noqa: BLE001  (the client raises what requests, urllib3 and pydantic do)
                # Its own text quotes parts of the key, so it is no cause here.
                raise explained(error, client.api_url, self._keys) from None
            finally:
                client.close(timeout=0)

    def _sent(self, client: Client) -> Upload:
        placed = self._examples.place(client)
        session = self._session(client, placed)
        project = Project(experiment=self._experiment, name=str(session.name), hide=self._hidden)
        runs = 0
        for entries in self._requests(project, placed):
            self._go_on()
            ingest(client, entries, self._failures)
            runs += len(entries)
        feedback = self._scores(client, session.id, project)
        base = session.url.split("/projects/p/")[0] if session.url else None
        return Upload(
            project=project.name,
            project_id=session.id,
            dataset=placed.dataset.name,
            dataset_id=placed.dataset.id,
            dataset_created=placed.dataset_created,
            examples_created=placed.created,
            examples_changed=placed.changed,
            runs=runs,
            feedback=feedback,
            url=f"{base}/datasets/{placed.dataset.id}/compare?selectedSessions={session.id}" if base else None,
        )

    def _session(self, client: Client, placed: Placed) -> TracerSession:
        from langsmith.utils import LangSmithConflictError, LangSmithNotFoundError  # noqa: PLC0415

        # As LangSmith's own experiments are called: the name, and what tells those with the same name apart.
        name = f"{self._experiment.name}-{identity(self._experiment).hex[:8]}"
        self._go_on()
        session: TracerSession
        try:
            session = client.read_project(project_name=name)
        except LangSmithNotFoundError:
            try:
                session = self._new_session(client, placed, name)
            except LangSmithConflictError:
                # Another upload was faster.
                session = client.read_project(project_name=name)
        if session.reference_dataset_id != placed.dataset.id:
            raise InputError(
                f"{self._experiment.name}: expected to send it for the dataset {placed.dataset.name!r}, found that it "
                f"was sent for another; name that one, or delete the project {name!r} in LangSmith"
            )
        return session

    def _new_session(self, client: Client, placed: Placed, name: str) -> TracerSession:
        version = max(placed.versions.values(), default=None)
        metadata = self._hidden({**described(self._experiment), "dataset_version": version})
        assert isinstance(metadata, dict)
        return client.create_project(
            name,
            reference_dataset_id=placed.dataset.id,
            metadata=metadata,
            num_examples=len(placed.ids),
            num_repetitions=self._experiment.repetitions,
            evaluator_keys=sorted({score.key for run in self._experiment.runs for score in run.scores}),
        )

    def _requests(self, project: Project, placed: Placed) -> Iterator[list[Payload]]:
        """Runs for a request each. Always the same ones: LangSmith refuses a request whose runs it has."""
        entries: list[Payload] = []
        size = 0
        for run in self._experiment.runs:
            reference = placed.ids[run.example.id]
            for entry in runs_of(project, run, reference, placed.versions.get(reference)):
                weight = len(repr(entry))
                if entries and (len(entries) >= _RUNS_A_REQUEST or size + weight > _CHARACTERS_A_REQUEST):
                    yield entries
                    entries, size = [], 0
                entries.append(entry)
                size += weight
        if entries:
            yield entries

    def _scores(self, client: Client, session_id: UUID, project: Project) -> int:
        """How many there are. They go out one a request: what the client sends in bulk it may drop in silence."""

        def note(feedback: Feedback) -> None:
            self._go_on()
            give(client, session_id, feedback)

        def each() -> Iterator[Feedback]:
            for run in self._experiment.runs:
                yield from feedback_of(project, run)
            yield from summary_of(project)

        with ThreadPoolExecutor(_SENDERS, "plait-upload", lambda: self._threads.add(threading.get_ident())) as senders:
            sent = [senders.submit(note, feedback) for feedback in each()]
            try:
                for future in sent:
                    future.result()
            except BaseException:
                senders.shutdown(wait=False, cancel_futures=True)
                raise
        return len(sent)

    def _hidden(self, value: object) -> object:
        """As JSON, without users and passwords of URLs and without keys."""
        return _without_secrets(to_json(value), self._keys)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped


def _without_secrets(value: object, keys: Collection[str]) -> object:
    if isinstance(value, str):
        return redacted(masked(value), keys)
    if isinstance(value, dict):
        return {redacted(masked(name), keys): _without_secrets(item, keys) for name, item in value.items()}
    return [_without_secrets(item, keys) for item in value] if isinstance(value, list) else value
