"""Experiments: datasets run through workflows, scored, and compared honestly."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from plait.app import App, find_app, settings_of
from plait.batches import Batch, BatchOptions, OldBatch
from plait.errors import InputError
from plait.experiments.definitions import Definition, find_definition
from plait.experiments.endings import conclude
from plait.experiments.findings import Comparison
from plait.experiments.openings import NewExperiment, open_experiment, stored_scoring
from plait.experiments.readings import find_experiment, read_experiment
from plait.experiments.records import ExampleRun, Experiment, Failure, Score
from plait.settings import Settings, from_env
from plait.store.places import shelf_of

__all__ = ["Comparison", "Definition", "ExampleRun", "Experiment", "Failure", "Score", "compare", "evaluate", "read"]


async def evaluate(
    experiment: Definition | str,
    *,
    name: str | None = None,
    reuse: str | None = None,
    resume: bool = False,
    options: BatchOptions | None = None,
    app: App | Path | str | None = None,
    settings: Settings | None = None,
) -> Experiment:
    """Run an experiment (one of eval/experiments.toml, or a Definition), score it, and read it back.

    `reuse` names an experiment whose answers are taken where the same is asked at the same place: only what changed is
    paid for. With `resume` the unfinished experiment called `name` is gone on with instead. Runs that failed and
    evaluators that raised are told apart from scores.

    Raises PlaitError before the first call for whatever is wrong, and BatchPaused where a budget, a wrong key or the
    like ends it early. Cancelled, it stops the runs in flight; nothing that ended is lost.
    """
    found = await asyncio.to_thread(_app, experiment, app)
    definition = await asyncio.to_thread(_definition, experiment, found)
    wanted = NewExperiment(definition=definition, name=name, reuse=reuse, app=found, settings=settings)
    if resume:
        batch = Batch(await asyncio.to_thread(_unfinished, wanted, options))
    else:
        batch = Batch((await open_experiment(replace(wanted, options=options or wanted.options))).batch)
    async with aclosing(batch):
        async for _ in batch:
            pass
    return await conclude(batch.place, definition.summary_evaluators, app=found, settings=batch.settings)


def read(name: str, *, settings: Settings | None = None) -> Experiment:
    """An experiment by its name, its id or the beginning of that; also while it runs.

    Raises BatchNotFound, InputError and StoreError. Blocks: files.
    """
    return read_experiment(find_experiment(shelf_of(settings or from_env()), name))


def compare(
    before: str | Experiment, after: str | Experiment, *, intersect: bool = False, settings: Settings | None = None
) -> Comparison:
    """What changed from `before` to `after`, and whether it is more than chance; `intersect`: over what both share.

    Raises InputError where they are over different examples, and as `read` does. Blocks: files.
    """
    from plait.experiments.comparisons import compare as compared  # noqa: PLC0415 - numpy and scipy

    one, other = (each if isinstance(each, Experiment) else read(each, settings=settings) for each in (before, after))
    return compared(one, other, intersect=intersect)


def _app(experiment: Definition | str, app: App | Path | str | None) -> App | None:
    if isinstance(app, App):
        return app
    if app is None and isinstance(experiment, Definition) and not isinstance(experiment.workflow, str):
        return None
    return find_app(Path(app) if app is not None else None)


def _definition(experiment: Definition | str, app: App | None) -> Definition:
    if isinstance(experiment, Definition):
        return experiment
    assert app is not None
    return find_definition(app, experiment)


def _unfinished(wanted: NewExperiment, options: BatchOptions | None) -> OldBatch:
    if wanted.name is None:
        raise InputError("resume: expected the name of the experiment to go on with, found none")
    settings = wanted.settings or settings_of(wanted.app if isinstance(wanted.app, App) else None)
    found = find_experiment(shelf_of(settings), wanted.name)
    graph = wanted.definition.workflow
    stored = BatchOptions.from_json(found.meta.get("options"))
    if options is not None:
        # What it was begun with stays; what bounds it may be given anew.
        options = replace(
            stored,
            budget_usd=options.budget_usd,
            budget_tokens=options.budget_tokens,
            max_errors=options.max_errors,
            deadline_s=options.deadline_s,
            workers=options.workers,
            ray=options.ray,
            ray_timeout_s=options.ray_timeout_s,
        )
    return OldBatch(
        id=found.id,
        options=options,
        workflow=None if isinstance(graph, str) else graph,
        scoring=stored_scoring(found, wanted.definition.evaluators),
        settings=wanted.settings,
    )
