"""Scores the rows of an experiment: each run's trace, its evaluators, and what is kept of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from langchain_core.callbacks import BaseCallbackHandler

from plait.app import App
from plait.batches.judgements import branch_of
from plait.batches.rows import usage_of
from plait.batches.scorings import CostOf, Scopes
from plait.branches import BranchPaths
from plait.datasets.examples import Example
from plait.experiments.definitions import EVALUATOR_TIMEOUT_S
from plait.experiments.evaluators import Evaluator, Outcome, load_evaluators, score_all
from plait.experiments.evaluators.threads import EvaluatorThreads
from plait.experiments.nodes import node_graph
from plait.experiments.records import ExampleRun, Failure, Score
from plait.experiments.stored_runs import decode, encode
from plait.experiments.traces import RunTrace
from plait.flow.recorders import Observer
from plait.flow.scopes import Scope, entered
from plait.flow.usage import Usage
from plait.runs import Graph
from plait.store.rows import RowRecord

__all__ = ["ExperimentScorer", "ExperimentScoring"]


@dataclass(frozen=True, slots=True)
class ExperimentScoring:
    """A batches.Scoring: the evaluators by their names, or as objects where no worker process needs them."""

    evaluators: tuple[object, ...]
    node: str | None = None
    repetitions: int = 1
    evaluator_timeout_s: float | None = EVALUATOR_TIMEOUT_S
    """For one evaluator of one row; time in which its model calls wait for a permit counts."""

    def target(self, graph: Graph) -> Graph:
        """The workflow's graph, or the node of it that is run alone. Raises InputError."""
        return graph if self.node is None else node_graph(graph, self.node)

    def unscored(self, record: RowRecord) -> Sequence[str]:
        """The branches of evaluators that failed on a stored row."""
        run, _ = decode(record)
        return [branch_of(failure.evaluator) for failure in run.failures]

    @asynccontextmanager
    async def opened(self, app: App | None) -> AsyncIterator[ExperimentScorer]:
        """The scorer. Raises InputError where an evaluator cannot be loaded."""
        # Their modules may take seconds to import.
        loaded = await asyncio.to_thread(load_evaluators, self.evaluators, app)
        # Of its own: in a guest's process the loop's has as many threads as there are processors, and four.
        threads = EvaluatorThreads()
        try:
            yield ExperimentScorer(_Bench(tuple(loaded), threads, self.evaluator_timeout_s), self.repetitions)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every row is scored with."""

    evaluators: tuple[Evaluator, ...]
    threads: Executor
    timeout_s: float | None


class ExperimentScorer:
    """A batches.Scorer."""

    def __init__(self, bench: _Bench, repetitions: int) -> None:
        self._bench = bench
        self._repetitions = repetitions

    @property
    def evaluators(self) -> Sequence[Evaluator]:
        """What scores a row."""
        return self._bench.evaluators

    def begin(self, example: Example, paths: BranchPaths, cost_of: CostOf) -> ScoredRow:
        """The course of a row; rows are numbered as batches number repeated ones."""
        number, repetition = divmod(example.position, self._repetitions)
        name = example.id.removesuffix(f"#{repetition + 1}") if repetition else example.id
        return ScoredRow(self._bench, replace(example, position=number, id=name), repetition, paths, cost_of)


class ScoredRow:
    """A batches.Course."""

    def __init__(self, bench: _Bench, example: Example, repetition: int, paths: BranchPaths, cost_of: CostOf) -> None:
        self._bench = bench
        self._evaluators = bench.evaluators
        self._example = example
        self._repetition = repetition
        self._cost_of = cost_of
        self._trace = RunTrace(paths, cost_of)

    @property
    def observer(self) -> Observer:
        return self._trace

    @property
    def callbacks(self) -> Sequence[BaseCallbackHandler]:
        """What follows the nodes."""
        return (self._trace,)

    async def score(self, record: RowRecord, outputs: object, scopes: Scopes) -> Mapping[str, object]:
        """What is stored of the row. Evaluators see runs that succeeded alone: an error is no score."""
        run = ExampleRun(
            position=record.position,
            example=self._example,
            repetition=self._repetition,
            status=record.status,
            outputs=outputs,
            error=record.error,
            duration_s=record.duration_s,
            usage=record.usage,
            nodes=self._trace.nodes(),
            tools=self._trace.tools(),
        )
        if record.status != "success" or not self._evaluators:
            return encode(run)
        judging = _Judging(self._bench, await scopes())
        try:
            told = await self._outcomes(run, judging)
        finally:
            judging.end()
        run = replace(
            run,
            scores=tuple(score for _, each in told if not isinstance(each, Failure) for score in each),
            failures=tuple(each for _, each in told if isinstance(each, Failure)),
            judge_usage=judging.usage(self._cost_of),
        )
        lower = {
            score.key
            for evaluator, each in told
            if evaluator.lower_is_better and not isinstance(each, Failure)
            for score in each
        }
        return encode(run, lower_is_better=sorted(lower))

    async def _outcomes(self, run: ExampleRun, judging: _Judging) -> list[tuple[Evaluator, Outcome]]:
        """What every evaluator says, in the order in which they were named; a key belongs to one of them."""
        whole = [each for each in self._evaluators if each.node is None]
        by_node = [self._of_node(each, each.node, run, judging) for each in self._evaluators if each.node is not None]
        told, others = await asyncio.gather(judging.ask(whole, run), asyncio.gather(*by_node))
        found = {evaluator.name: outcome for evaluator, outcome in [*told, *others]}
        owners: dict[tuple[str, str | None], str] = {}
        return [(each, _distinct(each, found[each.name], owners)) for each in self._evaluators]

    async def _of_node(
        self, evaluator: Evaluator, node: str, run: ExampleRun, judging: _Judging
    ) -> tuple[Evaluator, Outcome]:
        """The scores of a node's outputs; where it ran several times, their means."""
        executions = self._trace.outputs_of(node)
        if not executions:
            ran = ", ".join(dict.fromkeys(trace.name for trace in run.nodes)) or "none"
            message = f"expected outputs of the node {node!r}, found none of it in this run; nodes that ran: {ran}"
            return evaluator, Failure(evaluator.name, "NodeNotRun", message)
        by_key: dict[str, list[Score]] = {}
        for outputs in executions:
            ((_, outcome),) = await judging.ask([evaluator], replace(run, outputs=outputs))
            if isinstance(outcome, Failure):
                return evaluator, outcome
            for score in outcome:
                by_key.setdefault(score.key, []).append(score)
        return evaluator, tuple(_mean(scores) for scores in by_key.values())


class _Judging:
    """The evaluators of one run at work, each with its own scope for model calls."""

    def __init__(self, bench: _Bench, scope_of: Callable[[str], Scope]) -> None:
        self._bench = bench
        self._scope_of = scope_of
        self._scopes: dict[str, Scope] = {}

    async def ask(self, evaluators: Sequence[Evaluator], run: ExampleRun) -> list[tuple[Evaluator, Outcome]]:
        bench = self._bench
        return await score_all(evaluators, run, around=self._around, executor=bench.threads, timeout_s=bench.timeout_s)

    @contextmanager
    def _around(self, evaluator: Evaluator) -> Iterator[None]:
        name = evaluator.name
        scope = self._scopes.get(name) or self._scopes.setdefault(name, self._scope_of(name))
        with entered(scope):
            yield

    def end(self) -> None:
        """Let no further call begin: synchronous evaluators of a row that is gone run on in their threads."""
        for scope in self._scopes.values():
            scope.cancel()
            scope.close_calls()

    def usage(self, cost_of: CostOf) -> Mapping[str, object]:
        """Of all model calls of the evaluators; empty where there was none."""
        total = Usage()
        for scope in self._scopes.values():
            total.add(scope.usage)
        return usage_of(total, cost_of) if total.calls or total.replayed_calls else {}


def _distinct(evaluator: Evaluator, outcome: Outcome, owners: dict[tuple[str, str | None], str]) -> Outcome:
    """The outcome, unless another evaluator gave a score of the same key before."""
    if isinstance(outcome, Failure):
        return outcome
    for score in outcome:
        owner = owners.setdefault((score.key, score.node), evaluator.name)
        if owner != evaluator.name:
            message = f"expected a key of its own, found {score.key!r}, which {owner} gives too: give one of them a key"
            return Failure(evaluator.name, "DuplicateKey", message)
    return outcome


def _mean(scores: Sequence[Score]) -> Score:
    """The scores of one key as one; of categories the most frequent."""
    if len(scores) == 1:
        return scores[0]
    numbers = [float(score.score) for score in scores if score.score is not None]
    comments = "; ".join(dict.fromkeys(score.comment for score in scores if score.comment)) or None
    if numbers:
        return replace(scores[0], score=sum(numbers) / len(numbers), value=None, comment=comments)
    values = [score.value for score in scores]
    return replace(scores[0], value=max(values, key=values.count), comment=comments)
