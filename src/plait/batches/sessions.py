"""One sitting of a batch: from its opening to its end, or to whatever pauses it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress

from plait.batches.accounts import FAILED, failed_rows, spent_as_noted, spent_before
from plait.batches.answers import Paid, open_journal, reused_answers
from plait.batches.channels import Orders
from plait.batches.entrances import OpenBatch
from plait.batches.executions import Execution, LocalExecution
from plait.batches.progress import Failures, Pace, Progress
from plait.batches.rows import RowRunner, known_keys
from plait.batches.sources import STDIN
from plait.batches.spending import Spending
from plait.batches.spools import SPOOLED
from plait.batches.throttles import Throttle
from plait.batches.workers import Keeping, WorkerExecution
from plait.batches.workplaces import open_workplace
from plait.datasets.examples import Example
from plait.errors import (
    BatchBusy,
    BatchChanged,
    BatchPaused,
    EndpointUnreachable,
    InputError,
    PlaitError,
    QuotaReached,
    StoreError,
)
from plait.flow.scopes import refusing_unscoped
from plait.flow.usage import Tokens
from plait.journal import void
from plait.masking import masked, redacted
from plait.process import is_ours
from plait.store.answers import Answers
from plait.store.batches import BatchStore
from plait.store.places import shelf_of
from plait.store.rows import RowRecord

logger = logging.getLogger("plait")

_DECLINED = "declined"
_OUTAGE = 20
"""Rows in a row that fail because the endpoint does not answer: it is down, and the others would fail alike."""


class Session:
    """One sitting of a batch, from its opening to its end or pause."""

    def __init__(self, opened: OpenBatch) -> None:
        self._opened = opened
        self._store: BatchStore = opened.store
        self._pace = Pace(time.monotonic)
        self._failures = Failures()
        self._replayed = 0
        self._calls = 0
        self._unreachable = 0
        self._total: int | None = None
        self._read_all = False
        self._drained = False
        self._only = opened.only
        """The positions of the rows that are run; None: all that have no result."""
        self._stack = AsyncExitStack()
        self._spending: Spending
        self._execution: Execution
        self._asides: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Session:
        opened, options = self._opened, self._opened.options
        if opened.errors_only:
            await self._forget_failures()
        settings = opened.workflow.settings
        paid, spent = await asyncio.to_thread(self._what_was_paid)
        endpoint = (settings.model or "").partition(":")[0]
        self._spending = Spending(
            opened.prices,
            endpoint=endpoint or None,
            budget_usd=options.budget_usd,
            budget_tokens=options.budget_tokens,
            spent=spent,
        )
        if options.recorded_only:
            self._stack.enter_context(refusing_unscoped())
        if options.workers > 1 or options.ray is not None:
            self._execution = self._in_workers(paid, spent)
        else:
            self._execution = await self._here(paid)
        self._store.on_lost(self._lose)
        return self

    def _lose(self, cause: BatchBusy) -> None:
        """Another process runs the batch: what is in flight here would be paid for twice."""
        self._execution.stop(cause)
        self._execution.cancel()

    def _what_was_paid(self) -> tuple[Paid, dict[str, Tokens]]:
        """Where the answers are that need not be paid for, and what this batch spent."""
        options, spent = self._opened.options, spent_before(self._store)
        if not options.journal:
            return Paid(), spent | spent_as_noted(self._store)
        reused: list[Answers] = []
        if options.reuse:
            shelf = shelf_of(self._opened.workflow.settings)
            reused = reused_answers(shelf, options.reuse, by=self._store.id)
        return Paid(
            earlier=tuple(self._store.place.answers()), reused=tuple(reused), declined=tuple(self._declined)
        ), spent

    async def _here(self, paid: Paid) -> LocalExecution:
        options = self._opened.options
        journal = await open_journal(self._store.writer, self._store.place.own_answers, paid, options, self._stack)
        runner = RowRunner(
            self._opened.workflow,
            group=self._store.id,
            spending=self._spending,
            journal=journal,
            timeout_s=options.timeout_s,
            row_attempts=options.row_attempts,
            scorer=self._opened.scorer,
        )
        return LocalExecution(runner, Throttle(time.monotonic), self._store.stored)

    @property
    def _declined(self) -> list[tuple[str, str]]:
        """Rows and their branches that take no answers of another batch, because they could not use them."""
        stored = self._store.meta.get(_DECLINED)
        return [(str(row), str(branch)) for row, branch in stored] if isinstance(stored, list) else []

    def _in_workers(self, paid: Paid, spent: Mapping[str, Tokens]) -> WorkerExecution:
        opened = self._opened
        assert opened.app is not None, "an opened batch that has workers was begun with a name"
        answers = self._store.place.new_answers()
        orders = Orders(
            workflow=opened.workflow.name,
            app=opened.app.root,
            settings=opened.workflow.settings,
            context=opened.context,
            options=opened.options,
            group=self._store.id,
            answers=answers if opened.options.journal else None,
            rows=answers if answers.is_shared else None,
            paid=paid,
            spent=spent,
            scoring=opened.scoring,
        )
        workplace = open_workplace(opened.options, opened.app)
        keeping = Keeping(self._store.stored)
        if answers.is_shared:
            keeping = Keeping(self._store.stored, self._store.note, self._read_back if opened.whole else None)
        return WorkerExecution(orders, workplace, self._spending, keeping)

    async def _read_back(self, records: Sequence[RowRecord]) -> Sequence[RowRecord]:
        return await self._store.records([record.position for record in records])

    async def __aexit__(self, *_: object) -> None:
        for aside in self._asides:
            aside.cancel()
        await asyncio.gather(*self._asides, return_exceptions=True)
        await self._stack.aclose()
        with suppress(PlaitError):
            await self._store.put_meta({"spent": {model: list(sums) for model, sums in self._spending.spent.items()}})
        # Whoever left early, or was cancelled, left a batch to go on with.
        if self._store.meta.get("status") == "running":
            with suppress(PlaitError):
                await self._store.put_meta({"status": "paused", "cause": "stopped"})

    def drain(self) -> None:
        self._drained = True
        self._execution.stop(None)

    async def results(self) -> AsyncGenerator[RowRecord]:
        self._asides.append(asyncio.create_task(self._look_aside(), name="plait batch: count"))
        if self._opened.options.deadline_s is not None:
            self._asides.append(asyncio.create_task(self._end_in(self._opened.options.deadline_s)))
        results = self._execution.results(self._pending())
        try:
            async for record in results:
                self._note(record)
                yield record
        finally:
            await results.aclose()
        await self._conclude()

    @property
    def has_paid(self) -> bool:
        """Whether a call of the batch was answered, which its rows need not ask again."""
        return bool(self._spending.spent)

    def progress(self) -> Progress:
        counts = self._store.counts()
        done = counts.get("success", 0)
        failed = sum(counts.get(status, 0) for status in FAILED)
        rows_per_s, tokens_per_s = self._pace.rates()
        spent, cost = self._spending.spent, self._spending.cost_usd
        left = None if self._total is None else max(0, self._total - done - failed)
        share = (done + failed) / self._total if self._total else None
        dataset, totals = self._opened.dataset, self._execution.totals
        return Progress(
            total=self._total,
            done=done,
            failed=failed,
            running=totals.rows,
            calls_in_flight=totals.calls,
            calls_waiting=totals.waiting,
            rows_per_s=rows_per_s,
            tokens_per_s=tokens_per_s,
            elapsed_s=self._pace.elapsed_s,
            eta_s=left / rows_per_s if left is not None and rows_per_s > 0 else None,
            tokens=sum(tokens.input + tokens.output for tokens in spent.values()),
            cost_usd=cost,
            expected_cost_usd=cost / share if cost is not None and share else None,
            replayed_calls=self._replayed,
            limit=totals.binding,
            errors=self._failures.kinds,
            last_errors=self._failures.latest,
            bad_rows=dataset.bad_rows.count if dataset else 0,
        )

    async def _pending(self) -> AsyncGenerator[Example]:
        """The rows that have no result yet, in the order of the dataset."""
        finished, read = self._store.finished, 0
        async for example in self._opened.examples:
            read += 1
            if read == 1 and self._store.meta.get("source") == STDIN and self._opened.dataset:
                # The copy of a pipe has no suffix that would tell it.
                await self._store.put_meta({"format": self._opened.dataset.format})
            known = finished.has(example.position, example.id)
            if known is False and not self._opened.changed:
                raise BatchChanged(
                    f"row {example.position} of the dataset is not the one that the batch ran (its id is {example.id} "
                    "now): put the dataset back, or go on all the same with --force"
                )
            if not known and (self._only is None or example.position in self._only):
                yield example
        self._total = read
        self._read_all = True

    def _note(self, record: RowRecord) -> None:
        usage = record.usage
        self._pace.note(_count(usage, "input_tokens") + _count(usage, "output_tokens"))
        self._replayed += _count(usage, "replayed_calls")
        self._calls += _count(usage, "calls")
        if record.status == "success":
            self._unreachable = 0
            return
        self._failures.note(record)
        most = self._opened.options.max_errors
        if most is not None and self._failures.count > most:
            self._execution.stop(PlaitError(f"{self._failures.count} rows failed, --max-errors allows {most}"))
        unreachable = record.error is not None and record.error.type == "EndpointUnreachable"
        self._unreachable = self._unreachable + 1 if unreachable else 0
        if self._unreachable >= _OUTAGE and record.error is not None:
            self._execution.stop(EndpointUnreachable(f"{_OUTAGE} rows in a row failed alike: {record.error.message}"))

    async def _conclude(self) -> None:
        cause = self._execution.halted
        self._warn_of_unseen_calls()
        ended = sum(self._store.counts().values())
        if (
            cause is None
            and self._read_all
            and self._store.meta.get("source") is None
            and SPOOLED not in self._store.meta
        ):
            cause = InputError(
                "the rows came from an iterable that was not read to its end, and only those that were are known: "
                "give it once more, plait.resume(id, rows=...)"
            )
        if self._read_all and self._total is not None and ended >= self._total and not isinstance(cause, InputError):
            await self._store.put_meta({"status": "finished", "finished_at": time.time(), "total": self._total})
            return
        if self._opened.probes and self._read_all and cause is None:
            await self._store.put_meta({"status": "planned", "total": self._total})
            return
        words = "drained" if self._drained else "stopped"
        if cause is not None:
            words = redacted(masked(str(cause)), known_keys(self._opened.workflow.settings))
        wake_at = cause.resets_at if isinstance(cause, QuotaReached) else None
        try:
            await self._store.put_meta({"status": "paused", "cause": words, "wake_at": wake_at})
        except (StoreError, BatchBusy) as failure:
            # A full disk has no room for its own story; a batch whose process is gone counts as paused.
            cause = cause or failure
        if cause is not None:
            pending = None if self._total is None else self._total - ended
            raise BatchPaused(self._store.id, pending, cause)

    def _warn_of_unseen_calls(self) -> None:
        options = self._opened.options
        seen = self._calls or self._replayed or self._spending.spent_here
        if not (seen or is_ours()) and (options.budget_usd or options.budget_tokens):
            logger.warning(
                "%s: no model call was seen, so its budget bounds nothing: clients that a graph makes itself are seen "
                "in plait's own processes only (plait batch)",
                self._store.id,
            )

    async def _forget_failures(self) -> None:
        """Make failed rows pending; what a node could make nothing of is asked for again, unless its code is new."""
        failed = await asyncio.to_thread(failed_rows, self._store, self._opened.scoring)
        self._only = frozenset(each.position for each in failed)
        if not self._opened.changed:
            branches = [(each.row, branch) for each in failed for branch in each.branches]
            await asyncio.to_thread(lambda: void(self._store.place.answers(), branches))
            await self._store.put_meta({_DECLINED: [*self._declined, *branches]})
        await self._store.drop(self._only)

    async def _look_aside(self) -> None:
        """What is worth knowing and takes its time: how many rows there are, what the dataset is like."""
        dataset = self._opened.dataset
        if dataset is None:
            return
        total = await dataset.count()
        total = None if total is None else total * self._opened.repetitions
        if total is not None and self._total is None:
            self._total = total
            await self._store.put_meta({"total": total})
        if dataset.replayable and not self._store.meta.get("fingerprint"):
            found = await dataset.fingerprint()
            if found is not None:
                await self._store.put_meta({"fingerprint": found.to_json()})

    async def _end_in(self, deadline_s: float) -> None:
        await asyncio.sleep(deadline_s)
        self._execution.stop(PlaitError(f"the batch's deadline of {deadline_s:g} s is over"))
        self._execution.cancel()


def _count(usage: Mapping[str, object], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
