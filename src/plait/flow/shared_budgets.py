"""A budget that processes share, in whatever ledger: the thread that asks it, and what holds while it cannot be asked.

One atomic step of the ledger takes in a report and grants a lease on all parts of a budget. It happens on a thread of
its own: leases carry enough for about a tenth of a second, so calls seldom wait for it. While the ledger cannot be
used, the process keeps to its last known share (`budget_shares`), says so once, and tries again by itself.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue

from plait.errors import PlaitError
from plait.flow.budget_memories import BudgetMemory, granted, was_taken_in, without_sums
from plait.flow.budget_shares import ShareBudget
from plait.flow.budgets import Deliver, Part
from plait.flow.clock import Clock
from plait.flow.entries import Entry
from plait.flow.holders import placed
from plait.flow.leases import Lease, Report
from plait.flow.ledgers import PATIENCE_S, Ledger, Moment, from_ledger, storable, to_ledger

logger = logging.getLogger("plait.flow")

_CLOSE_S = 5.0
_FIRST_S = 10.0
"""What the first answer may take, with the driver's import on a busy machine: nothing is known to fall back on yet."""
_TOLD_AGAIN_S = 60.0


class _Wish:
    """A report that waits for its lease. Who takes it out of the budget's `pending` answers it."""

    __slots__ = ("asked_at", "deliver", "parts", "report")

    def __init__(self, parts: Sequence[Part], report: Report, deliver: Deliver, asked_at: float) -> None:
        self.parts = parts
        self.report = report
        self.deliver = deliver
        self.asked_at = asked_at


_TRY_AGAIN = object()


class SharedBudget:
    """See `budgets.Budget`. `open_ledger` makes a ledger that connects when it is used; every process makes its own."""

    def __init__(self, open_ledger: Callable[[Clock], Ledger], clock: Clock) -> None:
        self._open_ledger = open_ledger
        self._clock = clock
        self._remote = open_ledger(clock).remote
        self._starting = threading.Lock()
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._told_at = -math.inf
        self.exchanges = 0
        """Steps of the ledger so far."""
        self._begin()

    def _begin(self) -> None:
        self._wishes: SimpleQueue[_Wish | object | None] = SimpleQueue()
        self._pending: dict[int, _Wish] = {}
        self._guarded = False
        self._trying = False
        self._instead: ShareBudget | None = None
        self._again_at = -math.inf
        self._failures = 0
        self._holding: dict[str, Sequence[Part]] = {}
        self._memory = BudgetMemory(restores=self._remote)
        self._outage = threading.Lock()

    def exchange(self, parts: Sequence[Part], report: Report, deliver: Deliver) -> None:
        # May come in the middle of itself, from a garbage collection: no locks but the one for the first call.
        if self._pid != os.getpid():  # the first call, or the first after a fork
            self._start()
        now = self._clock.now()
        instead = self._instead
        if instead is not None:
            due = now >= self._again_at
            if due and self._remote and not self._trying:
                self._trying = True
                self._wishes.put(_TRY_AGAIN)
            if self._remote or not due:
                instead.exchange(parts, report, deliver)
                return
        wish = _Wish(parts, report, deliver, now)
        self._pending[id(wish)] = wish
        self._wishes.put(wish)
        if self._remote and not self._guarded:
            self._guarded = True
            self._clock.call_at(now + self._patience_s, self._guard)

    def close(self) -> None:
        """End the thread once it has dealt with all that was asked, and give back what this process still holds."""
        thread = self._thread
        if thread is not None and self._pid == os.getpid() and thread.is_alive():
            self._wishes.put(None)
            thread.join(_CLOSE_S)
        self._pid = 0

    def _start(self) -> None:
        with self._starting:
            if self._pid == os.getpid():
                return
            self._begin()
            self._thread = threading.Thread(target=self._serve, args=(self._wishes,), name="plait budget", daemon=True)
            self._pid = os.getpid()
            self._thread.start()

    @property
    def _patience_s(self) -> float:
        return PATIENCE_S if self.exchanges or self._failures else _FIRST_S

    def _guard(self) -> None:
        """Calls never wait for a server that does not answer."""
        pending, patience_s = list(self._pending.values()), self._patience_s
        if pending and self._clock.now() - min(wish.asked_at for wish in pending) >= patience_s:
            late = TimeoutError(f"no answer within {patience_s:g} s")
            instead = self._do_without(late, self._open_ledger(self._clock))
            for wish in pending:
                self._answer(wish, None, instead)
        if self._pending:
            self._clock.call_at(self._clock.now() + PATIENCE_S / 4, self._guard)
        else:
            self._guarded = False

    # --- on the thread -----------------------------------------------------------------------------------

    def _serve(self, wishes: SimpleQueue[_Wish | object | None]) -> None:
        ledger = self._open_ledger(self._clock)
        while (wish := wishes.get()) is not None:
            if not isinstance(wish, _Wish):
                self._try_again(ledger)
                continue
            lease: Lease | None = None
            instead = self._instead
            if id(wish) in self._pending and (instead is None or self._clock.now() >= self._again_at):
                try:
                    lease = self._ask(ledger, wish)
                    self._come_back()
                except Exception as error:  # noqa: BLE001 - calls wait for this thread: whatever it is, they go on
                    instead = self._do_without(error, ledger)
            self._answer(wish, lease, instead)
        if self._instead is None:
            with suppress(Exception):
                for holder, parts in list(self._holding.items()):
                    self._transact(ledger, _Wish(parts, Report(holder, leaving=True), lambda _: None, 0.0), [])
        ledger.close()

    def _answer(self, wish: _Wish, lease: Lease | None, instead: ShareBudget | None) -> None:
        if self._pending.pop(id(wish), None) is None:
            return
        try:
            if lease is not None:
                wish.deliver(lease)
            elif instead is not None:
                instead.exchange(wish.parts, wish.report, wish.deliver)
        except Exception:
            logger.exception("a lease could not be delivered")

    def _try_again(self, ledger: Ledger) -> None:
        try:
            ledger.close()
            ledger.check()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not there yet
            self._do_without(error, ledger)
        else:
            self._come_back()
        finally:
            self._trying = False

    def _ask(self, ledger: Ledger, wish: _Wish) -> Lease:
        tried: list[float] = []
        try:
            return self._transact(ledger, wish, tried)
        except Exception:
            if not self._remote or self._instead is not None or id(wish) not in self._pending:
                raise
            if tried and wish.report.leaving:  # one that has left leaves nothing to tell it by
                raise
        # A connection that was idle may have been cut on its way, by a pooler or a firewall: that is no outage.
        ledger.close()
        return self._transact(ledger, wish, tried)

    def _transact(self, ledger: Ledger, wish: _Wish, tried: list[float]) -> Lease:
        """`tried`: when steps of this wish were made that may have been written, on the ledger's clock."""
        holder = placed(wish.report.holder)
        report = replace(wish.report, holder=holder)
        after: tuple[Lease, list[Entry], list[str], Moment] | None = None

        def step(states: Sequence[str | None], moment: Moment) -> Sequence[str]:
            nonlocal after, report
            if tried and was_taken_in(states, holder, tried):
                # It was, and only the answer was lost: what was used is not to be counted again.
                self._memory.settle(wish.parts)
                report = without_sums(report)
            tried.append(moment.now)
            found = [self._memory.entry(*each, moment) for each in zip(wish.parts, states, strict=True)]
            lease, entries, written = granted(wish.parts, found, to_ledger(report, moment), moment)
            after = lease, entries, written, moment
            return written

        ledger.change([storable(part.name) for part in wish.parts], step)
        assert after is not None
        lease, entries, written, moment = after
        self.exchanges += 1
        self._memory.note(wish.parts, written, entries, moment)
        self._memory.note_lease(wish.report, lease)
        if report.leaving:
            self._holding.pop(report.holder, None)
        else:
            self._holding[report.holder] = wish.parts
        return from_ledger(lease, moment)

    # --- outages -----------------------------------------------------------------------------------------

    def _do_without(self, error: Exception, ledger: Ledger) -> ShareBudget:
        with self._outage:
            begins = self._instead is None
            instead = self._instead = self._instead or self._memory.share(self._clock)
            now = self._clock.now()
            again_s = ledger.again_s(error, self._failures)
            self._failures += 1
            self._again_at = now + again_s
            if not begins or now - self._told_at < (_TOLD_AGAIN_S if self._remote else math.inf):
                return instead
            self._told_at = now
        why, cure = _line(error), ledger.cure(error)
        if self._remote:
            if not isinstance(error, PlaitError):  # ours say what to do
                why += f" ({cure})"
            logger.warning(
                "limits are not shared: cannot use the budget at %s: %s; until it can be, which is tried every few "
                "seconds, this process keeps to 1/%d of what is known of them",
                *(ledger.where, why, instead.processes),
            )
        else:
            while_s = "" if math.isinf(again_s) else f" for {again_s:.0f} s at a time"
            logger.warning(
                "limits are not shared with other processes%s: cannot use %s: %s (%s, or set PLAIT_SHARE=0 to have it "
                "so)",
                *(while_s, ledger.where, why, cure),
            )
        return instead

    def _come_back(self) -> None:
        self._failures = 0
        with self._outage:
            instead, self._instead = self._instead, None
            if instead is None:
                return
        self._memory.end_outage(instead.days(), spares=self._remote)
        if self._remote:
            logger.info("limits are shared again")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
