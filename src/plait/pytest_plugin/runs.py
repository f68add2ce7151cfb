"""Runs the experiments of a test session: for real, recorded, or replayed without sending anything."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from langsmith.run_helpers import tracing_context

from plait.app import App, find_app, settings_of
from plait.batches import Batch, BatchOptions
from plait.errors import BatchNotFound, CallUnrecorded, PlaitError
from plait.experiments import Definition
from plait.experiments.definitions import find_definition
from plait.experiments.endings import conclude
from plait.experiments.openings import BASE_URL, NewExperiment, open_experiment
from plait.experiments.readings import read_experiment
from plait.experiments.records import ExampleRun, Experiment
from plait.process import own_process
from plait.pytest_plugin.misses import Misses, noted
from plait.pytest_plugin.modes import Mode
from plait.pytest_plugin.recordings import find_recording, keep_recording, take_recording
from plait.pytest_plugin.results import ExperimentResult, row_name
from plait.settings import Endpoint, Settings
from plait.store.folders import FolderShelf
from plait.store.places import BatchInfo

__all__ = ["Wanted", "app_of", "explained", "run_experiment"]

_T = TypeVar("_T")

_NO_KEY = "none-is-needed"
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
"""Clients that a graph makes by itself refuse to begin without."""
_UNRECORDED = ("CallUnrecorded", "APIConnectionError")
"""How it is named that an evaluator's call was not answered: SDKs wrap what a transport raises."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An experiment that a test asks for."""

    definition: Definition | str
    app: App | None
    """None where the definition needs none."""
    scratch: Path
    """A folder in which replays are kept."""
    replay: str | None = None
    name: str | None = None
    reuse: str | None = None
    settings: Settings | None = None
    options: BatchOptions = field(default_factory=BatchOptions)


def app_of(experiment: Definition | str, app: App | Path | str | None, start: Path) -> App | None:
    """The app of an experiment, at or above `start` where none is given; None where it needs none. Raises AppError."""
    if isinstance(app, App):
        return app
    if app is None and isinstance(experiment, Definition) and not isinstance(experiment.workflow, str):
        return None
    return find_app(Path(app) if app is not None else None, start=start)


def run_experiment(wanted: Wanted, mode: Mode) -> ExperimentResult:
    """Run it, or replay it, in a thread and an event loop of its own; needs no loop, and may be called inside one.

    Raises CallUnrecorded where a replay asks for what was not recorded, and PlaitError for whatever else is wrong.
    Interrupted, it stops the runs in flight and waits for that; a real run's answers stay, for `plait resume`.
    """
    app, definition = wanted.app, wanted.definition
    if isinstance(definition, str):
        assert app is not None
        definition = find_definition(app, definition)
    # A recording is a file, and a test no reason to write to a database that others share.
    settings = replace(wanted.settings or _settings(app, definition), store=None)
    if not mode.replays:
        return _run(wanted, mode, definition, app, settings)
    home = mode.recordings or settings.home
    recording = find_recording(home, definition.name, wanted.replay or mode.replay_name)
    recorded = read_experiment(recording)
    take_recording(recording, wanted.scratch)
    # A dataset of LangSmith is not at hand offline; the recording has its examples.
    if isinstance(definition.dataset, str) and definition.dataset.startswith("langsmith:"):
        examples = [run.example for run in recorded.runs if run.repetition == 0]
        definition = replace(definition, dataset=examples, split=None, limit=None)
    new = NewExperiment(
        definition=definition,
        name=wanted.name,
        reuse=recording.id,
        replay=True,
        replace_name=True,
        # Losing it costs nothing; and what a process of its own asks, nobody here would see.
        options=replace(wanted.options, durability="kill", workers=1),
        app=app,
        settings=_offline(settings, recording, recorded, wanted.scratch),
    )
    with _environment(app, keys=True):
        experiment = _apart(_replayed(new, app, misses := Misses()))
    _check_recorded(experiment, recorded, misses, _how_to_record(wanted.definition, recorded.name, mode))
    return ExperimentResult(experiment, recorded.name)


def _run(wanted: Wanted, mode: Mode, definition: Definition, app: App | None, settings: Settings) -> ExperimentResult:
    new = NewExperiment(
        definition=definition,
        name=wanted.name or wanted.replay or (mode.replay_name if mode.record else None),
        reuse=wanted.reuse,
        # A test is run again and again: its newest run has the name.
        replace_name=True,
        options=wanted.options,
        app=app,
        settings=settings,
    )
    with _environment(app, keys=False):
        experiment = _apart(_evaluated(new, app))
    if mode.record is not None:
        keep_recording(FolderShelf(settings.home).place(experiment.id).info(), mode.record)
    return ExperimentResult(experiment, None)


async def _replayed(new: NewExperiment, app: App | None, misses: Misses) -> Experiment:
    # LangChain would send traces to LangSmith where the environment says so.
    with tracing_context(enabled=False), noted(misses):
        return await _evaluated(new, app)


async def _evaluated(new: NewExperiment, app: App | None) -> Experiment:
    settings = new.settings
    assert settings is not None
    limits = gc.get_threshold()
    try:
        with own_process(settings):
            running = Batch((await open_experiment(new)).batch)
            async with aclosing(running):
                async for _ in running:
                    pass
            return await conclude(running.place, new.definition.summary_evaluators, app=app, settings=running.settings)
    finally:
        # The tests' own process goes on.
        gc.unfreeze()
        gc.set_threshold(*limits)


def _settings(app: App | None, definition: Definition) -> Settings:
    settings = settings_of(app)
    settings = settings.override(model=definition.model)
    if settings.max_concurrency is None:
        settings = settings.override(max_concurrency=definition.max_concurrency)
    return replace(settings, embedded=False)


def _offline(settings: Settings, recording: BatchInfo, recorded: Experiment, home: Path) -> Settings:
    """As it was recorded, without a key, and with nothing shared with other processes."""
    endpoints: dict[str, Endpoint] = dict(settings.endpoints)
    if isinstance(base_url := recording.meta.get(BASE_URL), str):
        endpoints["openai"] = replace(endpoints["openai"], base_url=base_url)
    endpoints = {name: replace(each, api_key=each.api_key or _NO_KEY) for name, each in endpoints.items()}
    model = recorded.origin.model or settings.model
    return replace(settings, model=model, home=home, share=False, endpoints=endpoints, langsmith={})


@contextmanager
def _environment(app: App | None, *, keys: bool) -> Iterator[None]:
    """The app's own variables, as in plait's own processes, and with `keys` ones that nothing is sent with."""
    wanted: Mapping[str, str] = {**(app.env if app else {}), **(dict.fromkeys(_KEYS, _NO_KEY) if keys else {})}
    added = {name: value for name, value in wanted.items() if not os.environ.get(name)}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _apart(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, out of a loop in a thread: the test may be running in a loop already."""
    begun: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = SimpleQueue()

    async def noted() -> _T:
        begun.put((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="plait-experiment") as thread:
        running = thread.submit(asyncio.run, noted())
        try:
            return running.result()
        except BaseException:
            if not running.done():
                loop, task = begun.get()
                assert task is not None
                loop.call_soon_threadsafe(task.cancel)
            raise


def _check_recorded(experiment: Experiment, recorded: Experiment, misses: Misses, cure: str) -> None:
    """Raise CallUnrecorded where a run, or an evaluator of it, asked a model what the recording does not answer."""
    known = {row_name(run): run for run in recorded.runs}
    unseen = dict(misses.by_run)
    found: list[str] = []
    for run in experiment.runs:
        missed = unseen.pop(row_name(run), "")
        if why := _unanswered(run) or missed:
            found.append(f"  example {row_name(run)!r}: {_because(why, known.get(row_name(run)))}")
    failed = {each.evaluator for run in experiment.runs for each in run.failures}
    # An evaluator that made do without an answer: its calls are not told apart by rows.
    quiet = {asked.partition(":")[2].partition("@")[0] or asked: why for asked, why in unseen.items()}
    others = [f"  evaluator {evaluator}: {why}" for evaluator, why in quiet.items() if evaluator not in failed]
    if found or others:
        more = [f"  and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
        begin = f"{experiment.definition}: the recording {recorded.name} does not answer all that was asked"
        raise CallUnrecorded("\n".join((f"{begin}; nothing was sent", *found[:_SHOWN], *more, *others, cure)))


def _because(why: str, before: ExampleRun | None) -> str:
    if before is None:
        return "it is not in the recording"
    if before.status != "success":
        why += f" (it failed when it was recorded, too: {before.error.type if before.error else before.status})"
    return why


def _unanswered(run: ExampleRun) -> str:
    if run.error is not None and run.error.type in _UNRECORDED:
        return run.error.message
    failed = next((each for each in run.failures if each.type in _UNRECORDED), None)
    return f"evaluator {failed.evaluator}: {failed.message}" if failed else ""


def explained(error: PlaitError, mode: Mode, definition: Definition | str) -> str:
    """The error in words; for a recording that is not there with the way to one."""
    if mode.replays and isinstance(error, BatchNotFound):
        return f"{error}\n{_how_to_record(definition, 'NAME', mode)}"
    return str(error)


def _how_to_record(definition: Definition | str, name: str, mode: Mode) -> str:
    if mode.recordings is not None:
        return f"record it anew: pytest -p plait.pytest_plugin --plait-record {mode.recordings}"
    if isinstance(definition, str):
        return f"record it anew: plait eval {definition} --name {name} --replace"
    return "record it anew: run the test without --plait-replay"
