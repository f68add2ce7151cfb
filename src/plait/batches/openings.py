"""Opens a batch, a new one or one to go on with: everything that can be wrong is found before the first call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from plait.app import App, bundled_file, find_app, open_workflow, settings_of
from plait.batches.changes import describe_workflow, workflow_changes
from plait.batches.entrances import EXPERIMENT, NewBatch, OldBatch, OpenBatch
from plait.batches.options import BatchOptions
from plait.batches.rows import Workflow
from plait.batches.scorings import Scorer, Scoring
from plait.batches.sources import draw_positions, kept_as, open_rows, read_rows, reopen_rows, repeated
from plait.batches.spending import Spending
from plait.datasets import Dataset
from plait.datasets.fingerprints import Fingerprint, difference
from plait.errors import BatchChanged, InputError, StoreError
from plait.flow.registry import gate_for
from plait.inputs import check_context, input_fields
from plait.json_values import to_json
from plait.prices import Prices, load_prices
from plait.runs import Graph, default_context
from plait.sections import BOUNDS
from plait.settings import Settings
from plait.store.batches import BatchStore
from plait.store.places import shelf_of


async def open_new(new: NewBatch, stack: AsyncExitStack) -> OpenBatch:
    """Begin a batch. Raises PlaitError for whatever is wrong with it; nothing is left behind then."""
    _check_workers(new.options, named=isinstance(new.workflow, str))
    app, settings = await asyncio.to_thread(_app_and_settings, new.app, new.settings, new.workflow)
    graph, name = await _graph(new.workflow, app, stack)
    graph, scorer = await _scored(graph, new.scoring, app, stack)
    prices = await asyncio.to_thread(load_prices, settings.prices, settings.prices_file)
    workflow = prepare(graph, name, new.context, new.config, settings)
    shelf = await asyncio.to_thread(shelf_of, settings)
    place = await asyncio.to_thread(shelf.new_place, name, datetime.now().astimezone())
    dataset = open_rows(new.rows, new.selection, input_fields(graph), place.files, settings)
    await dataset.check()
    _check_budget(new.options, prices, settings)
    new = replace(new, options=await _with_reused_id(new.options, settings))
    only = None if new.probe is None else await draw_positions(dataset, new.probe, new.selection.seed)
    digests = await asyncio.to_thread(describe_workflow, graph, app.root if app else None)
    meta = _described(new, name, app, settings, place.files) | {"workflow_digests": digests}
    async with new.claim() if new.claim else nullcontext():
        store = await place.create(meta, durability=new.options.durability)
    stack.push_async_callback(store.close)
    examples = repeated(await read_rows(new.rows, dataset, store), new.repetitions)
    stack.push_async_callback(examples.aclose)
    return OpenBatch(
        store=store,
        workflow=workflow,
        options=new.options,
        dataset=dataset,
        examples=examples,
        prices=prices,
        app=app,
        context=new.context or {},
        only=only,
        probes=only is not None,
        repetitions=new.repetitions,
        scoring=new.scoring,
        scorer=scorer,
        whole=new.whole,
    )


def _described(new: NewBatch, name: str, app: App | None, settings: Settings, files: Path | None) -> dict[str, object]:
    """What is stored of a batch as it begins."""
    return {
        **new.notes,
        "workflow": name,
        "named": isinstance(new.workflow, str),
        "app": str(app.root) if app else None,
        "bundled": app is not None and app.bundled,
        "created_at": time.time(),
        "status": "running",
        "total": None,
        "model": settings.model,
        "bounds": {key: getattr(settings, key) for key in BOUNDS},
        "context": to_json(dict(new.context or {})),
        "source": kept_as(new.rows, files),
        "selection": new.selection.to_json(),
        "options": new.options.to_json(),
        "streams": False,
        "repetitions": new.repetitions,
        "out": new.out,
    }


async def open_old(old: OldBatch, stack: AsyncExitStack) -> OpenBatch:
    """Go on with a batch.

    Raises BatchNotFound, BatchBusy, BatchChanged, StoreError, and as `open_new` does.
    """
    known = old.settings
    if known is None:
        known = await asyncio.to_thread(_settings_here, old.workflow)
    place = await asyncio.to_thread(shelf_of(known).find, old.id)
    store = await place.open(durability=(old.options or BatchOptions()).durability)
    stack.push_async_callback(store.close)
    meta = store.meta
    if "workflow" not in meta:
        raise StoreError(
            f"{place} does not say what the batch is: its process died as it began, or it was emptied; "
            "begin anew with `plait batch`"
        )
    named = bool(meta.get("named"))
    if not named and old.workflow is None:
        raise InputError(
            f"batch {store.id} was begun with a graph, not with a name: expected that graph again, found none; "
            "resume it from Python: plait.resume(id, workflow=graph)"
        )
    name = str(meta["workflow"])
    wanted = name if named or old.workflow is None else old.workflow
    app, settings = await asyncio.to_thread(lambda: _app_and_settings(app_folder(meta), old.settings, wanted))
    if old.settings is None:
        settings = settings.override(model=meta.get("model"), **_stored(meta, "bounds"))
        settings = replace(settings, home=known.home, store=known.store)  # where it was found
    graph, _ = await _graph(wanted, app, stack)
    if EXPERIMENT in meta and old.scoring is None:
        raise InputError(
            f"{store.id} is an experiment, whose rows are scored: go on with it by `plait resume {store.id}`, or in "
            "Python by plait.evaluate(..., resume=True)"
        )
    graph, scorer = await _scored(graph, old.scoring, app, stack)
    workflow = prepare(graph, name, _stored(meta, "context"), None, settings)
    dataset, examples = reopen_rows(store, old.rows, input_fields(graph), settings)
    repetitions = meta.get("repetitions")
    repetitions = repetitions if isinstance(repetitions, int) else 1
    examples = repeated(examples, repetitions)
    await _check_unchanged(store, graph, app, dataset, force=old.force)
    stack.push_async_callback(examples.aclose)
    before = BatchOptions.from_json(meta.get("options"))
    options = old.options or before
    _check_workers(options, named=named)
    if options.reuse != before.reuse:  # one that was found before may be gone by now
        options = await _with_reused_id(options, settings)
    prices = await asyncio.to_thread(load_prices, settings.prices, settings.prices_file)
    _check_budget(options, prices, settings)
    await store.put_meta({"status": "running", "cause": None, "wake_at": None, "options": options.to_json()})
    return OpenBatch(
        store=store,
        workflow=workflow,
        options=options,
        dataset=dataset,
        examples=examples,
        prices=prices,
        app=app,
        context=_stored(meta, "context"),
        changed=old.force,
        errors_only=old.errors_only,
        repetitions=repetitions,
        scoring=old.scoring,
        scorer=scorer,
        whole=old.whole,
    )


def _app_and_settings(
    app: App | Path | str | None, settings: Settings | None, workflow: str | Graph
) -> tuple[App | None, Settings]:
    found = app if isinstance(app, App) else None
    if found is None and (isinstance(workflow, str) or app is not None):
        found = find_app(Path(app) if isinstance(app, str | Path) else None)
    if settings is None:
        settings = settings_of(found)
    # A table of toy answers is nobody's wish: without a model's name a batch refuses.
    return found, replace(settings, embedded=False)


def app_folder(meta: Mapping[str, object]) -> Path | None:
    """Where the app is that a batch began with; plait's own is wherever plait is installed now."""
    own, noted = bundled_file() if meta.get("bundled") else None, meta.get("app")
    return own.parent if own else Path(noted) if isinstance(noted, str) else None


def _settings_here(workflow: str | Graph | None) -> Settings:
    """Where a batch is looked for: where `plait.batch` keeps one, of a graph or of a workflow of the nearest app."""
    return settings_of(find_app() if workflow is None or isinstance(workflow, str) else None)


async def _graph(workflow: str | Graph, app: App | None, stack: AsyncExitStack) -> tuple[Graph, str]:
    if not isinstance(workflow, str):
        return workflow, workflow.get_name()
    assert app is not None
    return await stack.enter_async_context(open_workflow(app, workflow)), workflow


async def _scored(
    graph: Graph, scoring: Scoring | None, app: App | None, stack: AsyncExitStack
) -> tuple[Graph, Scorer | None]:
    if scoring is None:
        return graph, None
    scorer = await stack.enter_async_context(scoring.opened(app))
    return scoring.target(graph), scorer


def prepare(
    graph: Graph,
    name: str,
    context: Mapping[str, object] | None,
    config: RunnableConfig | None,
    settings: Settings,
) -> Workflow:
    """What every row runs; raises InputError where the context does not fit."""
    checked = check_context(graph, context) if context else default_context(graph.context_schema)
    return Workflow(
        name=name, graph=graph, context=checked, config=config or {}, settings=settings, gate=gate_for(settings)
    )


async def _check_unchanged(
    store: BatchStore, graph: Graph, app: App | None, dataset: Dataset | None, *, force: bool
) -> None:
    now = await asyncio.to_thread(describe_workflow, graph, app.root if app else None)
    changes = [f"the workflow: {what}" for what in workflow_changes(_stored(store.meta, "workflow_digests"), now)]
    forced = {"forced": True} if changes else {}
    stored = store.meta.get("fingerprint")
    if dataset is not None and isinstance(stored, Mapping):
        before = Fingerprint.from_json(stored)
        after = await dataset.fingerprint(before)
        if after is not None and (words := difference(before, after)):
            changes.append(f"the dataset {dataset.name}: {words}")
    if changes and not force:
        raise BatchChanged(
            "expected what the batch began with, found changes in:\n"
            + "\n".join(changes)
            + f"\nfinished rows would not match new ones: put it back, or go on all the same with --force ({store.id})"
        )
    if changes:
        await store.put_meta({"workflow_digests": now, "fingerprint": None, **forced})


def _check_budget(options: BatchOptions, prices: Prices, settings: Settings) -> None:
    endpoint, _, model = (settings.model or "").partition(":")
    if model:
        Spending(prices, endpoint=endpoint, budget_usd=options.budget_usd).check_model(model)


def _check_workers(options: BatchOptions, *, named: bool) -> None:
    if (options.workers > 1 or options.ray is not None) and not named:
        raise InputError(
            "worker processes load the workflow by its name: expected a name in langgraph.json, found a graph; "
            "leave workers at 1"
        )


async def _with_reused_id(options: BatchOptions, settings: Settings) -> BatchOptions:
    """With the whole id of the batch to reuse: by a resume, its beginning may be that of others, too."""
    if options.reuse is None:
        return options
    wanted = options.reuse
    found = await asyncio.to_thread(lambda: shelf_of(settings).find(wanted))
    return replace(options, reuse=found.id)


def _stored(meta: Mapping[str, object], key: str) -> dict[str, object]:
    value = meta.get(key)
    return dict(value) if isinstance(value, Mapping) else {}
