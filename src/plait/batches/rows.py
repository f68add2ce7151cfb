"""Runs one row of a batch: its graph, its journal, its calls counted; what goes wrong becomes its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from plait.batches.judgements import open_scopes
from plait.batches.scorings import Course, Scorer
from plait.batches.spending import Spending
from plait.batches.throttles import Foot
from plait.batches.watches import RowWatch
from plait.branches import BranchPaths, NodeWatch, current_node
from plait.datasets.examples import Example
from plait.errors import PlaitError, RunFailed, RunTimeout
from plait.events import Result
from plait.failures import explain, failing_task, is_fatal, is_outage
from plait.flow.gate import Gate
from plait.flow.scopes import Scope
from plait.flow.usage import Tokens, Usage
from plait.inputs import check_inputs
from plait.journal import Journal
from plait.json_values import to_json
from plait.masking import masked, redacted
from plait.process import is_ours
from plait.runs import Graph, OpenRun, complete
from plait.settings import Settings
from plait.store.rows import RowError, RowRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """What every row of a batch runs."""

    name: str
    graph: Graph
    context: Any
    config: RunnableConfig
    settings: Settings
    gate: Gate


@dataclass(frozen=True, slots=True)
class _Try:
    """An execution of a row, the `attempts`-th; `began` is when the first one did."""

    example: Example
    usage: Usage
    began: float
    attempts: int


class Halt(Exception):
    """Every further row would fail like this one, which stays pending; `cause` says why."""

    def __init__(self, cause: PlaitError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class RowRunner:
    """Runs rows one by one, any number at a time; what they have in common."""

    def __init__(
        self,
        workflow: Workflow,
        *,
        group: str,
        spending: Spending,
        journal: Journal | None = None,
        timeout_s: float | None = None,
        row_attempts: int = 1,
        scorer: Scorer | None = None,
    ) -> None:
        self._workflow = workflow
        self._group = group
        self._spending = spending
        self._journal = journal
        self._timeout_s = timeout_s
        self._attempts = row_attempts
        self._scorer = scorer
        self._keys = known_keys(workflow.settings)

    def binding(self) -> str | None:
        """What most waiting calls wait for, in words."""
        return self._workflow.gate.binding()

    async def run(self, example: Example, foot: Foot) -> RowRecord:
        """The row's end. Raises Halt where it must stay pending, and what cancels it."""
        began = time.monotonic()
        usage = Usage()
        for attempt in range(1, self._attempts + 1):
            if self._journal is not None:
                usage = Usage()  # what earlier attempts were paid is replayed, and counted again
            paths = BranchPaths()
            course = self._scorer.begin(example, paths, self._spending.cost_of) if self._scorer else None
            try:
                result = await self._try(example, foot, usage, paths, course)
            except PlaitError as error:
                if is_fatal(error) or is_outage(error):
                    raise Halt(error) from error
                branch = paths.of_task(failing_task(error)) if isinstance(error, RunFailed) else ""
                if attempt < self._attempts:
                    await self._clear(example.id, branch)
                    continue
                status = "timeout" if isinstance(error, RunTimeout) else "error"
                record = self._record(_Try(example, usage, began, attempt), status, error=error, branch=branch)
                return await self._scored(record, None, course, foot)
            record = self._record(_Try(example, usage, began, attempt), result.status, result=result)
            return await self._scored(record, result.outputs, course, foot)
        raise AssertionError("a row has at least one attempt")

    async def _scored(self, record: RowRecord, outputs: object, course: Course | None, foot: Foot) -> RowRecord:
        if course is None:
            return record
        workflow, watch = self._workflow, RowWatch(foot, self._spending)
        scopes = partial(open_scopes, record.id, self._group, workflow.settings, workflow.gate, self._journal, watch)
        try:
            evaluation = await course.score(record, outputs, scopes)
        except Exception as error:
            # Evaluators' own errors are kept with the row: what comes out would meet every row.
            raise Halt(explain(error, workflow.settings)) from error
        if watch.refused is not None:
            raise Halt(watch.refused)
        return replace(record, evaluation=evaluation)

    async def _try(
        self, example: Example, foot: Foot, usage: Usage, paths: BranchPaths, course: Course | None
    ) -> Result:
        workflow = self._workflow
        scope = Scope(
            example.id,
            gate=workflow.gate,
            settings=workflow.settings,
            watched=False,
            group=self._group,
            node=current_node,
        )
        scope.usage = usage
        scope.watcher = watch = RowWatch(foot, self._spending)
        config = workflow.config
        if course is not None:
            scope.observer = course.observer
            config = merge_configs(config, {"callbacks": list(course.callbacks)})
        if self._journal is not None or course is not None:
            if is_ours():
                scope.note_graph = paths.note
            else:
                config = merge_configs(config, {"callbacks": [NodeWatch(paths)]})
        if self._journal is not None:
            scope.recorder = await self._journal.open_row(example.id, paths.current)
        inputs = check_inputs(workflow.graph, example.inputs, workflow=workflow.name)
        before = workflow.gate.unscoped_calls
        now = time.monotonic()
        watch.run = OpenRun(workflow.name, workflow.graph, inputs, workflow.context, config, scope, now, before)
        result = await complete(watch.run, timeout_s=self._timeout_s)
        if watch.refused is not None:
            raise watch.refused  # a node made do without the answer
        return result

    async def _clear(self, row: str, branch: str) -> None:
        """Before another attempt: answers that a node could make nothing of would fail it again."""
        if self._journal is None:
            return
        self._journal.expect_again(row)
        if branch:
            await self._journal.void(row, branch)

    def _record(
        self,
        tried: _Try,
        status: str,
        *,
        result: Result | None = None,
        error: PlaitError | None = None,
        branch: str = "",
    ) -> RowRecord:
        outputs, timings, words = to_json(None), to_json({}), ""
        try:
            if result is not None:
                outputs, timings, words = to_json(result.outputs), to_json(result.timings), _interrupt_of(result)
        except Exception as failure:  # noqa: BLE001 - whatever the text of a workflow's own value raises
            status, error = (
                "error",
                RunFailed(f"its outputs cannot be written as JSON: {type(failure).__name__}: {failure}"),
            )
            error.__cause__ = failure
        failed = None
        if error is not None:
            failed = RowError(_kind(error), self._shown(str(error)), branch)
        elif words:
            failed = RowError("Interrupted", self._shown(words))
        return RowRecord(
            tried.example.position,
            tried.example.id,
            status,
            outputs,
            failed,
            usage_of(tried.usage, self._spending.cost_of),
            timings if isinstance(timings, dict) else {},
            time.monotonic() - tried.began,
            tried.attempts,
            time.time(),
        )

    def _shown(self, text: str) -> str:
        """Servers quote the keys they refuse, and what is stored is read by others."""
        return redacted(masked(text), self._keys)


def known_keys(settings: Settings) -> frozenset[str]:
    """The secrets that the settings hold: keys of endpoints and of LangSmith."""
    found = {endpoint.api_key for endpoint in settings.endpoints.values()}
    found |= {value for name, value in settings.langsmith.items() if "KEY" in name}
    return frozenset(key for key in found if key)


def usage_of(usage: Usage, cost_of: Callable[[Mapping[str, Tokens]], float | None]) -> dict[str, object]:
    """A row's usage as it is stored and exported; `cost_usd` is None where a model has no price."""
    return {
        "calls": usage.calls,
        "attempts": usage.attempts,
        "failed_calls": usage.failed_calls,
        "replayed_calls": usage.replayed_calls,
        "reused_calls": usage.reused_calls,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "estimated": usage.estimated,
        "cost_usd": cost_of(usage.tokens),
        "models": {model: list(tokens) for model, tokens in usage.tokens.items()},
        "model_calls": dict(usage.models),
    }


def _interrupt_of(result: Result) -> str:
    interrupted = result.status == "interrupted"
    return f"stopped at an interrupt: {to_json(list(result.interrupts))}" if interrupted else ""


def _kind(error: PlaitError) -> str:
    """The name under which failures of one kind are counted: of a workflow's own exception, that one's."""
    cause = error.__cause__ if isinstance(error, RunFailed) else None
    return type(cause or error).__name__
