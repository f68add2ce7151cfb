"""`plait run`: one workflow, one input; events to a sink, the result at the end, a line of usage."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from langchain_core.runnables import RunnableConfig

from plait.app import App
from plait.cli import arguments, exits
from plait.cli.apps import open_app
from plait.cli.models import fetch_embedded
from plait.cli.screen import Screen
from plait.cli.signals import Stop, leave_soon
from plait.cli.sinks import JsonLines, PlainText, Sink, write_output
from plait.cli.tally import Tally
from plait.cli.timings import print_timings
from plait.errors import InputError
from plait.events import EndEvent, Result
from plait.json_values import dumps
from plait.process import own_process, run_loop
from plait.runs import stream
from plait.settings import Settings
from plait.weights import WEIGHTS


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says, as it says it."""

    workflow: str
    words: Sequence[str] = ()
    input_file: str | None = None
    context: Sequence[str] = ()
    model: str | None = None
    timeout_s: float | None = None
    as_json: bool = False
    output: str | None = None
    timings: bool = False
    app: Path | None = None
    bounds: Mapping[str, str | None] = field(default_factory=dict)
    """By the setting's name."""
    debug: bool = False


def run(options: Options) -> int:
    """Run the workflow; returns the exit code. Raises PlaitError for what is wrong before the first call."""
    if options.timeout_s is not None and not 0 < options.timeout_s < float("inf"):
        raise InputError(f"--timeout: expected seconds above 0, found {options.timeout_s:g}")
    inputs = arguments.read_object(options.input_file) if options.input_file else {}
    inputs |= arguments.parse(options.words)
    context = arguments.parse(options.context)
    target = arguments.writable_target(options.output) if options.output else None
    app, settings = open_app(options.app, model=options.model)
    settings = settings.override(**options.bounds)
    check_model(settings.model, "--model" if options.model is not None else "model")
    if options.workflow in app.workflows and "model" not in context:
        fetch_embedded(app, settings)
    out = sys.stdout
    # What nodes print must not mix with results.
    with contextlib.redirect_stdout(sys.stderr):
        return run_loop(_Run(options, app, settings, inputs, context, target, out).follow())


def check_model(name: str | None, what: str) -> None:
    """Raise InputError for empty parts only: whether endpoint and model exist is for those who know them to say."""
    if name is None:
        return
    endpoint, colon, model = (part.strip() for part in name.partition(":"))
    if endpoint and (model or not colon):
        return
    lacks = "" if not endpoint and not model else " with no model name" if endpoint else " with no endpoint"
    raise InputError(f"{what}: expected endpoint:model, found {name!r}{lacks}")


@dataclass(slots=True)
class _Run:
    options: Options
    app: App
    settings: Settings
    inputs: Mapping[str, object]
    context: Mapping[str, object]
    target: Path | None
    out: TextIO

    async def follow(self) -> int:
        tally = Tally()
        stop = Stop(lambda: _last_words(tally, self.target))
        sink = _sink(self.options, self.inputs, self.out)
        try:
            result = await self._result(sink, tally)
        except asyncio.CancelledError:
            if stop.code is None:
                raise
            sink.close()
            stop.say()
            return stop.code
        finally:
            sink.close()
        return self._conclude(result, sink)

    async def _result(self, sink: Sink, tally: Tally) -> Result:
        result: Result | None = None
        with own_process(self.settings):
            events = stream(
                self.options.workflow,
                self.inputs,
                context=self.context or None,
                config=RunnableConfig(callbacks=[tally]),
                app=self.app,
                settings=self.settings,
                timeout_s=self.options.timeout_s,
                tokens=not isinstance(sink, PlainText) or sys.stderr.isatty(),
            )
            async with aclosing(events):
                async for event in events:
                    sink.take(event)
                    if isinstance(event, EndEvent):
                        result = event.result
        assert result is not None, "a run that was not cancelled ends with an EndEvent"
        return result

    def _conclude(self, result: Result, sink: Sink) -> int:
        code = 0
        if result.status == "success":
            if self.target is not None:
                write_output(self.target, result, self.inputs)
            sink.finish(result)
            if self.target is not None:
                _tell(f"wrote {self.options.output}")
        else:
            sink.close()
            code = _failed(result, debug=self.options.debug)
        for note in _notes(result, self.options, self.settings):
            _tell(note)
        if self.options.timings:
            print_timings(result, sys.stderr)
        if code:
            leave_soon(code)
        return code


def _sink(options: Options, inputs: Mapping[str, object], out: TextIO) -> Sink:
    if options.as_json:
        return JsonLines(out)
    if out.isatty():
        return Screen(options.workflow, inputs, out, show_result=options.output is None)
    return PlainText(options.workflow, inputs, out, sys.stderr, show_result=options.output is None)


def _failed(result: Result, *, debug: bool) -> int:
    if result.status == "interrupted":
        asked = "; ".join(value if isinstance(value, str) else dumps(value) for value in result.interrupts)
        exits.say(f"{result.workflow} stopped at an interrupt, which plait run cannot answer: {asked}")
        return exits.FAILED
    error = result.error or RuntimeError(f"{result.workflow} ended with status {result.status}")
    return exits.report(error, debug=debug)


def _notes(result: Result, options: Options, settings: Settings) -> list[str]:
    usage, notes = result.usage, []
    asked = settings.model.partition(":")[2] if settings.model else None
    if asked is None and result.status == "success" and any(name in WEIGHTS for name in usage.models):
        name = next(name for name in usage.models if name in WEIGHTS)
        notes.append(f"no model was named, so the embedded {name} answered: name one with --model or PLAIT_MODEL")
    elif options.model and usage.models and asked not in usage.models:
        notes.append(f"--model {options.model} was not used: the workflow chose {', '.join(usage.models)} itself")
    if result.status != "success" and not (usage.calls or usage.attempts or usage.unscoped_calls):
        return notes
    parts = [_count(usage.calls, "call"), _count(usage.attempts, "attempt")]
    if usage.failed_calls:
        parts.append(f"{usage.failed_calls} failed")
    if usage.unscoped_calls:
        parts.append(f"{_count(usage.unscoped_calls, 'unscoped call')} beside")
    estimated = " (estimated)" if usage.estimated else ""
    parts.append(f"{usage.input_tokens} in + {usage.output_tokens} out tokens{estimated}")
    notes.append(f"{result.workflow}: {', '.join(parts)}, {result.duration_s:.1f} s")
    return notes


def _last_words(tally: Tally, target: Path | None) -> str:
    closed = f"{_count(tally.in_flight, 'call')} in flight closed, {tally.finished} finished"
    written = "nothing was written" if target is None else f"{target.name} was not written"
    return f"stopped: {closed}; {written}"


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
