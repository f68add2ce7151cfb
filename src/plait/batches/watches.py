"""Follows the calls of one row: for the throttle, for the budget, and for the row's own timeout."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from plait.batches.spending import Spending
from plait.batches.throttles import Foot
from plait.errors import BudgetReached
from plait.flow.calls import Call
from plait.flow.usage import Tokens
from plait.runs import OpenRun


class RowWatch:
    """The flow.Watcher of one row.

    The row's time does not run while all it does is wait for a permit: how long that takes says nothing of the row.
    Belongs to the loop that it is made on; calls may come from any thread.
    """

    def __init__(self, foot: Foot, spending: Spending) -> None:
        self.run: OpenRun | None = None
        self.refused: BudgetReached | None = None
        """That the budget was reached, however the code around the call took it."""
        self._foot = foot
        self._spending = spending
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting = 0
        self._calling = 0
        self._left_s: float | None = None
        """What is left of the row's time, while that stands still."""

    def admit(self, call: Call, expected: Tokens) -> bool:
        try:
            admitted = self._spending.admit(call.model, expected)
        except BudgetReached as error:
            self.refused = error
            raise
        if admitted:
            self._foot.calls(+1)
            self._note(calling=+1)
        return admitted

    def settle(self, call: Call, expected: Tokens, tokens: Tokens | None) -> None:
        self._foot.calls(-1)
        self._spending.settle(call.model, expected, tokens)
        self._note(calling=-1)

    def waits(self, change: int) -> None:
        self._foot.waits(change)
        self._note(waiting=change)

    def _note(self, *, waiting: int = 0, calling: int = 0) -> None:
        timer = self.run.timer if self.run else None
        if timer is None or (timer.when() is None and self._left_s is None):
            return  # the row may take as long as it likes
        if threading.get_ident() == self._thread:
            self._change(waiting, calling)
        else:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._change, waiting, calling)

    def _change(self, waiting: int, calling: int) -> None:
        self._waiting += waiting
        self._calling += calling
        timer = self.run.timer if self.run else None
        if timer is None or timer.expired():
            return
        stands_still = self._waiting > 0 and not self._calling
        now = self._loop.time()
        with suppress(RuntimeError):  # the row has just ended
            if stands_still and self._left_s is None and (when := timer.when()) is not None:
                self._left_s = when - now
                timer.reschedule(None)
            elif not stands_still and self._left_s is not None:
                timer.reschedule(now + self._left_s)
                self._left_s = None
