"""What is done when all runs of an experiment have ended: summary evaluators, and reading it back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from plait.app import App
from plait.batches.answers import Paid, open_journal, reused_answers
from plait.batches.judgements import open_scopes
from plait.batches.options import BatchOptions
from plait.batches.rows import usage_of
from plait.batches.spending import Spending
from plait.experiments.evaluators import load_summary_evaluator
from plait.experiments.evaluators.summaries import SummaryEvaluator, summarize
from plait.experiments.readings import SUMMARY, read_experiment
from plait.experiments.records import Experiment
from plait.flow.registry import gate_for
from plait.flow.scopes import Scope, entered
from plait.json_values import to_json
from plait.prices import load_prices
from plait.settings import Settings
from plait.store.batches import BatchStore
from plait.store.places import Place, shelf_of

__all__ = ["conclude"]

_ROW = "#summary"
"""Under which the answers of summary evaluators are journalled: no example's."""


async def conclude(place: Place, evaluators: Sequence[object], *, app: App | None, settings: Settings) -> Experiment:
    """Score the experiment at `place` as a whole, once it has ended, and read it.

    Model calls of summary evaluators pass the same gate and journal as those of its runs.
    Raises InputError where a summary evaluator cannot be loaded, and StoreError.
    """
    experiment = await asyncio.to_thread(lambda: read_experiment(place.info()))
    if not evaluators or experiment.status != "finished":
        return experiment
    loaded = await asyncio.to_thread(lambda: [load_summary_evaluator(each, app) for each in evaluators])
    async with AsyncExitStack() as stack:
        store = await place.open()
        stack.push_async_callback(store.close)
        scope = await _scope(store, settings, stack)
        await store.put_meta({SUMMARY: await _summary(loaded, experiment, scope)})
    return await asyncio.to_thread(lambda: read_experiment(place.info()))


async def _scope(store: BatchStore, settings: Settings, stack: AsyncExitStack) -> Scope:
    options = BatchOptions.from_json(store.meta.get("options"))

    def paid() -> Paid:
        shelf = shelf_of(settings)
        reused = reused_answers(shelf, options.reuse, by=store.id) if options.reuse is not None else []
        return Paid(earlier=tuple(store.place.answers()), reused=tuple(reused))

    journal = await open_journal(store.writer, store.place.own_answers, await asyncio.to_thread(paid), options, stack)
    scope_of = await open_scopes(_ROW, store.id, settings, gate_for(settings), journal, None)
    return scope_of("summary")


async def _summary(
    evaluators: Sequence[SummaryEvaluator], experiment: Experiment, scope: Scope
) -> Mapping[str, object]:
    try:
        with entered(scope):
            scores, failures = await summarize(evaluators, experiment)
    finally:
        scope.cancel()  # a synchronous one may go on in its thread
    settings = scope.settings
    prices = await asyncio.to_thread(load_prices, settings.prices, settings.prices_file)
    cost_of = Spending(prices, endpoint=(settings.model or "").partition(":")[0] or None).cost_of
    called = scope.usage.calls or scope.usage.replayed_calls
    usage = usage_of(scope.usage, cost_of) if called else {}
    return {"scores": to_json(scores), "failures": to_json(failures), "usage": usage}
