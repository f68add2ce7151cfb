"""`plait speedup`: the same rows one after another, then concurrently, and by what factor that is faster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

from plait.app import App, open_workflow
from plait.cli import arguments, exits
from plait.cli.apps import open_app
from plait.cli.batch import selection_of
from plait.cli.batch_words import error_lines
from plait.cli.durations import rows
from plait.cli.models import fetch_embedded
from plait.cli.options import Limits, RowFlags
from plait.cli.run import check_model
from plait.cli.signals import Stop, leave_soon
from plait.datasets import Example, Selection, open_dataset
from plait.errors import PlaitError
from plait.failures import is_fatal
from plait.inputs import input_fields
from plait.process import own_process, run_loop
from plait.runs import Graph, run
from plait.settings import Settings

_ROWS = 10
_AT_ONCE = 1000
"""Rows in flight; the limits of the endpoint are the gate's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, as it says it."""

    workflow: str
    data: str
    rows: RowFlags
    limits: Limits
    model: str | None = None
    context: Sequence[str] = ()
    app: Path | None = None


def measure(options: Options) -> int:
    """Time both ways and print the factor; returns the exit code, 1 where rows failed."""
    selection = selection_of(options.rows)
    if selection.limit is None and selection.sample is None:
        selection = replace(selection, limit=_ROWS)
    context = arguments.parse(options.context)
    app, settings = open_app(options.app, model=options.model)
    settings = settings.override(**options.limits.given())
    check_model(settings.model, "--model" if options.model is not None else "model")
    if "model" not in context:
        fetch_embedded(app, settings)
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        both = _Both(options, app, settings, selection, context)
        code = run_loop(both.run())
    if both.words:
        out.write(f"{both.words}\n")
    return code


@dataclass(slots=True)
class _Both:
    options: Options
    app: App
    settings: Settings
    selection: Selection
    context: Mapping[str, object]
    words: str = ""
    _failed: dict[str, int] = field(default_factory=dict)
    _messages: dict[str, str] = field(default_factory=dict)

    async def run(self) -> int:
        stop = Stop(lambda: "stopped; nothing was kept")
        try:
            with own_process(self.settings):
                async with open_workflow(self.app, self.options.workflow) as graph:
                    code = await self._measure(graph)
        except asyncio.CancelledError:
            if stop.code is None:
                raise
            stop.say()
            return stop.code
        leave_soon(code)
        return code

    async def _measure(self, graph: Graph) -> int:
        examples = await self._examples(graph)
        sys.stderr.write(
            f"one row to warm up, then {rows(len(examples))} twice "
            "(a provider that caches prompts may favour the second time)\n"
        )
        await self._row(graph, examples[0], count=False)  # imports and connections are nobody's fault
        began = time.monotonic()
        for example in examples:
            await self._row(graph, example)
        alone_s = time.monotonic() - began
        sys.stderr.write(f"one after another: {alone_s:.2f} s; now concurrently\n")
        began = time.monotonic()
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(example: Example) -> None:
            async with slots:
                await self._row(graph, example)

        try:
            async with asyncio.TaskGroup() as group:
                for example in examples:
                    group.create_task(one(example))
        except* PlaitError as failures:
            raise failures.exceptions[0] from None
        together_s = time.monotonic() - began
        self.words = (
            f"{rows(len(examples))} of {self.options.workflow}: {alone_s:.2f} s one after another, "
            f"{together_s:.2f} s concurrently: {alone_s / together_s:.1f} times as fast"
        )
        if not self._failed:
            return 0
        lines = error_lines(self._failed, self._messages)
        exits.say("\n".join([f"{sum(self._failed.values())} of {2 * len(examples)} runs failed", *lines]))
        return exits.FAILED

    async def _examples(self, graph: Graph) -> list[Example]:
        dataset = open_dataset(self.options.data, self.selection, inputs=input_fields(graph), env=dict(os.environ))
        async with aclosing(dataset.examples()) as examples:
            return [example async for example in examples]

    async def _row(self, graph: Graph, example: Example, *, count: bool = True) -> None:
        try:
            await run(graph, example.inputs, context=self.context or None, settings=self.settings)
        except PlaitError as error:
            if is_fatal(error):
                raise
            if count:
                kind = type(error.__cause__ or error).__name__
                self._failed[kind] = self._failed.get(kind, 0) + 1
                self._messages[kind] = str(error)
