"""Makes a batch of an experiment: its name, its examples and what it is run with are settled before the first call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from plait.app import App, find_app, open_workflow, settings_of
from plait.batches import BatchOptions, NewBatch
from plait.batches.entrances import EXPERIMENT
from plait.batches.rows import known_keys
from plait.datasets import Example, Selection, open_dataset
from plait.datasets.intakes import OR_SKIP
from plait.errors import InputError
from plait.experiments.checks import check_clusters, check_ids, check_nodes
from plait.experiments.definitions import EVALUATOR_TIMEOUT_S, Definition, in_split
from plait.experiments.evaluators.specs import describe
from plait.experiments.origins import dataset_hash, find_origin
from plait.experiments.readings import find_experiment, list_experiments, notes_of
from plait.experiments.records import Origin
from plait.experiments.scoring import ExperimentScoring
from plait.inputs import input_fields
from plait.json_values import to_json
from plait.runs import Graph
from plait.settings import OPENAI_BASE_URL, Settings
from plait.store.places import BatchInfo, Shelf, shelf_of

__all__ = ["BASE_URL", "NewExperiment", "OpenedExperiment", "check_name", "open_experiment", "stored_scoring"]

BASE_URL = "openai_base_url"
"""The key of the note that says what `openai:` was: what is asked of OpenAI itself is worded differently."""
_FUNCTION = "function"
"""Marks an evaluator that was given as an object of Python, which no later process can load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExperiment:
    """What is to be evaluated, and how."""

    definition: Definition
    name: str | None = None
    reuse: str | None = None
    """The experiment whose answers are taken where the same is asked at the same place."""
    replay: bool = False
    """Take answers from `reuse` alone and send nothing."""
    replace_name: bool = False
    """Give it a name that another experiment has; the newest of a name is the one that is found."""
    options: BatchOptions = field(default_factory=BatchOptions)
    app: App | Path | str | None = None
    settings: Settings | None = None


@dataclass(frozen=True, slots=True)
class OpenedExperiment:
    """An experiment that is ready to run, as a batch."""

    batch: NewBatch
    examples: Sequence[Example]
    reused: str | None


async def open_experiment(new: NewExperiment) -> OpenedExperiment:
    """Read the examples, load the evaluators once, find what is reused. Raises PlaitError for what is wrong with it."""
    definition = new.definition
    app, settings = await asyncio.to_thread(_app_and_settings, new)
    shelf = await asyncio.to_thread(shelf_of, settings)
    await asyncio.to_thread(check_name, shelf, new.name, replaced=new.replace_name)
    reused = await asyncio.to_thread(find_experiment, shelf, new.reuse) if new.reuse else None
    scoring = ExperimentScoring(
        tuple(definition.evaluators), definition.node, definition.repetitions, definition.evaluator_timeout_s
    )
    async with AsyncExitStack() as stack:
        graph = await _graph(definition.workflow, app, stack)
        target = scoring.target(graph)
        scorer = await stack.enter_async_context(scoring.opened(app))
        check_nodes(target, [each.node for each in scorer.evaluators], alone=definition.node)
        examples = await _examples(definition, target, settings)
    name_of_reused = (reused.name or reused.id) if reused else None
    origin = await find_origin(
        app.root if app else None,
        dataset=definition.dataset_name,
        dataset_hash=await asyncio.to_thread(dataset_hash, examples),
        model=settings.model,
        context=definition.context,
        keys=known_keys(settings),
    )
    batch = NewBatch(
        workflow=definition.workflow,
        rows=examples,
        options=_options(new, reused),
        context=dict(definition.context) or None,
        app=app,
        settings=settings,
        repetitions=definition.repetitions,
        scoring=scoring,
        claim=partial(_claimed, shelf, new.name) if new.name and not new.replace_name else None,
        notes={
            "name": new.name,
            EXPERIMENT: _notes(definition, origin, name_of_reused),
            BASE_URL: _without_user(settings.endpoints["openai"].base_url),
        },
    )
    return OpenedExperiment(batch, examples, name_of_reused)


def _notes(definition: Definition, origin: Origin, reused: str | None) -> dict[str, object]:
    """What is stored of an experiment beside what every batch has; `readings` and `stored_scoring` read it."""
    return {
        "definition": definition.name,
        "repetitions": definition.repetitions,
        "evaluator_timeout_s": definition.evaluator_timeout_s,
        "evaluators": [_told(each) for each in definition.evaluators],
        "summary_evaluators": [_told(each) for each in definition.summary_evaluators],
        "node": definition.node,
        "cluster": definition.cluster,
        # Where nothing else is demanded, runs and evaluators must not fail.
        "thresholds": {key: str(value) for key, value in definition.thresholds.items()} or {"errors": "0"},
        "reused": reused,
        "origin": to_json(origin),
    }


def _without_user(url: str | None) -> str:
    parts = urlsplit(url or OPENAI_BASE_URL)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def stored_scoring(batch: BatchInfo, evaluators: Sequence[object] | None = None) -> ExperimentScoring:
    """How a stored experiment is scored, so that it can be gone on with.

    `evaluators` are those that were given in Python, once more. Raises InputError where they are needed and not given.
    """
    notes = notes_of(batch.meta)
    stored: Sequence[object] = notes.get("evaluators") or ()
    named = [*stored, *(notes.get("summary_evaluators") or ())]
    lost = [str(each[_FUNCTION]) for each in named if isinstance(each, Mapping) and _FUNCTION in each]
    if evaluators is None and lost:
        raise InputError(
            f"{batch.name or batch.id} is scored by functions given in Python ({', '.join(lost)}): go on with it "
            "there, plait.evaluate(definition, name=..., resume=True)"
        )
    return ExperimentScoring(
        tuple(stored if evaluators is None else evaluators),
        notes.get("node"),
        int(notes.get("repetitions") or 1),
        float(notes.get("evaluator_timeout_s") or EVALUATOR_TIMEOUT_S),
    )


def check_name(shelf: Shelf, name: str | None, *, replaced: bool = False) -> None:
    """Raise InputError where an experiment has this name already, unless it is `replaced`. Blocks: files."""
    if name is None:
        return
    if not name.strip() or len(name) > 100 or any(letter in name for letter in "/\\\n"):
        raise InputError(f"--name: expected up to 100 characters without slashes, found {name!r}")
    if replaced:
        return
    found = next((each for each in list_experiments(shelf) if name in (each.name, each.id)), None)
    if found is None:
        return
    if found.status in ("paused", "planned"):
        raise InputError(f"{name} is there already, and not finished: go on with it, plait resume {name}")
    raise InputError(f"{name} is there already ({found.id}): choose another name, or take it over with --replace")


@asynccontextmanager
async def _claimed(shelf: Shelf, name: str) -> AsyncIterator[None]:
    """The name is looked for once more, and nobody else looks for one before the batch is there."""
    async with shelf.naming():
        await asyncio.to_thread(check_name, shelf, name)
        yield


def _app_and_settings(new: NewExperiment) -> tuple[App | None, Settings]:
    workflow, app = new.definition.workflow, new.app
    found = app if isinstance(app, App) else None
    if found is None and (isinstance(workflow, str) or app is not None):
        found = find_app(Path(app) if isinstance(app, str | Path) else None)
    settings = new.settings
    if settings is None:
        settings = settings_of(found)
        if new.definition.model is not None:
            settings = settings.override(model=new.definition.model)
    if new.definition.max_concurrency is not None and settings.max_concurrency is None:
        settings = settings.override(max_concurrency=new.definition.max_concurrency)
    # A score of a toy model is nobody's wish: without a model's name an experiment refuses.
    return found, replace(settings, embedded=False)


async def _graph(workflow: str | Graph, app: App | None, stack: AsyncExitStack) -> Graph:
    if not isinstance(workflow, str):
        return workflow
    assert app is not None
    return await stack.enter_async_context(open_workflow(app, workflow))


async def _examples(definition: Definition, target: Graph, settings: Settings) -> list[Example]:
    """All of them: their ids must differ and their number be known before anything is paid."""
    dataset = open_dataset(definition.dataset, Selection(), inputs=input_fields(target), env=settings.langsmith)
    try:
        found = [example async for example in dataset.examples()]
    except InputError as error:
        # An example that is left out unseen would be a score that nobody gave.
        raise InputError(str(error).removesuffix(OR_SKIP)) from error
    if definition.split is not None:
        found = [example for example in found if in_split(example, definition.split)]
        if not found:
            raise InputError(f"{dataset.name}: no example is in the split {definition.split!r}")
    if definition.limit is not None:
        found = found[: definition.limit]
    check_ids(found, definition.repetitions, dataset=dataset.name)
    check_clusters(found, definition.cluster, dataset=dataset.name)
    return [replace(example, position=position) for position, example in enumerate(found)]


def _options(new: NewExperiment, reused: BatchInfo | None) -> BatchOptions:
    definition, options = new.definition, new.options
    if options.reuse is not None:
        raise InputError(f"expected the experiment to reuse as reuse={options.reuse!r}, found it in the options")
    has_workers = options.workers > 1 or options.ray is not None
    if has_workers and not all(isinstance(each, str | Mapping) for each in definition.evaluators):
        raise InputError(
            "worker processes load evaluators by their names: expected `pkg.mod:function`, found functions; "
            "leave workers at 1"
        )
    return replace(
        options,
        timeout_s=options.timeout_s or definition.timeout_s,
        row_attempts=max(options.row_attempts, definition.row_attempts),
        reuse=reused.id if reused else None,
        same_draws=True,
        recorded_only=new.replay or options.recorded_only,
    )


def _told(evaluator: object) -> object:
    """As JSON: what it was named by, or the mark of a function."""
    told = to_json(describe(evaluator))
    return told if isinstance(evaluator, str | Mapping) else {_FUNCTION: told}
