"""Soaks a workflow: runs its rows against a simulated provider that fails, and reports what became of them.

Everything happens in this process and on this machine: the provider is the simulator in a thread, keys are dummies,
and the batch lies in a temporary folder that is gone afterwards.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, aclosing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from plait.app import App, open_workflow
from plait.batches.entrances import NewBatch
from plait.batches.openings import open_new
from plait.batches.options import BatchOptions
from plait.batches.sessions import Session
from plait.batches.soak_grounds import FencedGate, made_inputs, soaked, soaked_environment
from plait.batches.soak_leaks import Footing, footing, leaks
from plait.datasets import Selection, open_dataset
from plait.errors import BatchPaused, InputError
from plait.flow.gate import Gate
from plait.inputs import input_fields
from plait.process import own_process
from plait.runs import Graph
from plait.settings import Settings
from plait.simulator import Profile, Simulator, running
from plait.store.rows import RowRecord

ROWS = 100
_ROUNDS = 3
_COUNTED = ("calls", "attempts", "failed_calls", "replayed_calls", "input_tokens", "cached_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """What is to be soaked, and in what."""

    workflow: str
    app: App
    profile: Profile
    settings: Settings
    """Bounds, attempts and timeouts are the soak's too; endpoints and keys are not."""
    data: str | None = None
    """Rows; None: inputs made from the graph's input schema."""
    selection: Selection = field(default_factory=Selection)
    rows: int = ROWS
    """At most so many."""
    context: Mapping[str, object] = field(default_factory=dict)
    timeout_s: float = 60.0
    """For one row: without it a stalled answer would take as long as clients wait."""
    row_attempts: int = 1


@dataclass(slots=True, kw_only=True)
class SoakReport:
    """What became of the rows, what that took, and what is left behind."""

    workflow: str
    rows: int
    """Begun, or to be begun where it paused."""
    statuses: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    """Failed rows by kind."""
    last_errors: dict[str, str] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)
    """Rows without a result, or with an error that says nothing, by id."""
    paused: str = ""
    """The cause that stopped it, where one did."""
    usage: dict[str, int] = field(default_factory=dict)
    """As plait counted: calls, attempts (requests sent), failed_calls, replayed_calls, and tokens."""
    server: dict[str, Any] = field(default_factory=dict)
    """As the simulator counted (`plait.simulator.Counters`)."""
    duration_s: float = 0.0
    before: Footing | None = None
    """After the first third of the rows, when all is warm."""
    after: Footing | None = None
    leaks: list[str] = field(default_factory=list)

    @property
    def requests_per_answer(self) -> float | None:
        """Requests that the server received for each answer that a row got."""
        answers = self.usage.get("calls", 0) - self.usage.get("failed_calls", 0)
        return self.server.get("received", 0) / answers if answers > 0 else None

    @property
    def sound(self) -> bool:
        """Whether nothing leaked and every row ended with a result or a named error."""
        return not (self.leaks or self.unnamed or self.paused)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        found = asdict(self)
        return found | {"requests_per_answer": self.requests_per_answer, "sound": self.sound}


async def soak(wanted: Soak, *, note: Callable[[int], None] | None = None) -> SoakReport:
    """Run the rows in three rounds and compare what is held after the first and the last.

    For processes of one's own: it replaces the environment's endpoints and keys while it runs, and puts every HTTP
    client of the process behind one gate. `note` is told how many rows have ended. Raises PlaitError where it cannot
    begin. Cancelled, it cancels the rows in flight and leaves nothing behind.
    """
    async with AsyncExitStack() as stack:
        grounds = ExitStack()
        stack.push_async_callback(asyncio.to_thread, grounds.close)
        simulator, home = await asyncio.to_thread(_prepare, wanted, grounds)
        settings = soaked(wanted.settings, simulator, home)
        gate = FencedGate(settings, simulator.origin)
        stack.enter_context(own_process(settings, gate=gate))
        graph = await stack.enter_async_context(open_workflow(wanted.app, wanted.workflow))
        return await _Soaking(wanted, settings, gate, simulator, graph, note).run()


def _prepare(wanted: Soak, grounds: ExitStack) -> tuple[Simulator, Path]:
    home = grounds.enter_context(tempfile.TemporaryDirectory(prefix="plait-soak-", ignore_cleanup_errors=True))
    simulator = grounds.enter_context(running(wanted.profile, record=False))
    grounds.enter_context(soaked_environment(wanted.settings, simulator))
    return simulator, Path(home)


@dataclass(slots=True)
class _Soaking:
    wanted: Soak
    settings: Settings
    gate: Gate
    simulator: Simulator
    graph: Graph
    note: Callable[[int], None] | None
    ended: int = 0
    usage: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    async def run(self) -> SoakReport:
        inputs = await self._inputs()
        report = SoakReport(workflow=self.wanted.workflow, rows=len(inputs))
        began = time.monotonic()
        third = -(-len(inputs) // _ROUNDS)
        rounds = [inputs[at : at + third] for at in range(0, len(inputs), third)]
        for number, rows in enumerate(rounds):
            await self._round(rows, report)
            if report.paused:
                break
            if number == 0:
                report.before = await footing([self.gate])
        report.duration_s = time.monotonic() - began
        report.after = await footing([self.gate], like=report.before)
        if report.before is not None:
            later = len(inputs) - len(rounds[0])
            report.leaks = leaks(report.before, report.after, rows=later, peak=self.simulator.counters.peak)
        report.usage, report.server = dict(self.usage), self.simulator.counters.as_json()
        report.statuses = dict(self.statuses.most_common())
        report.errors = dict(self.errors.most_common())
        return report

    async def _inputs(self) -> Sequence[Mapping[str, object]]:
        wanted = self.wanted
        if wanted.rows < 1:
            raise InputError(f"--rows: expected 1 or more, found {wanted.rows}")
        if wanted.data is None:
            return made_inputs(self.graph, wanted.workflow, wanted.rows)
        dataset = open_dataset(wanted.data, wanted.selection, inputs=input_fields(self.graph))
        found: list[Mapping[str, object]] = []
        async with aclosing(dataset.examples()) as examples:
            async for example in examples:
                found.append(example.inputs)
                if len(found) == wanted.rows:
                    break
        if not found:
            raise InputError(f"{wanted.data}: expected rows to soak the workflow with, found none")
        return found

    async def _round(self, rows: Sequence[Mapping[str, object]], report: SoakReport) -> None:
        wanted = self.wanted
        new = NewBatch(
            workflow=self.graph,
            rows=rows,
            options=BatchOptions(timeout_s=wanted.timeout_s, row_attempts=wanted.row_attempts, durability="kill"),
            context=wanted.context or None,
            settings=self.settings,
        )
        ended: set[int] = set()
        async with AsyncExitStack() as stack:
            opened = await open_new(new, stack)
            opened.workflow = replace(opened.workflow, gate=self.gate)
            async with Session(opened) as session, aclosing(session.results()) as results:
                try:
                    async for record in results:
                        ended.add(record.position)
                        self._count(record, report)
                except BatchPaused as paused:
                    report.paused = str(paused.__cause__ or paused)
        if not report.paused:
            report.unnamed += [f"row {at} of a round has no result" for at in range(len(rows)) if at not in ended]

    def _count(self, record: RowRecord, report: SoakReport) -> None:
        self.ended += 1
        self.statuses[record.status] += 1
        for name in _COUNTED:
            value = record.usage.get(name)
            self.usage[name] += value if isinstance(value, int) else 0
        if record.error is not None:
            self.errors[record.error.type] += 1
            report.last_errors[record.error.type] = record.error.message
        if record.status != "success" and (record.error is None or not record.error.type or not record.error.message):
            report.unnamed.append(f"{record.id} ended as {record.status} without a word")
        if self.note is not None:
            self.note(self.ended)
