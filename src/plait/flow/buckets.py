"""A model of a provider's bucket: how fast it refills and how much it holds, learnt from refusals and headers.

Providers meter requests and tokens with a bucket that refills at a constant rate, or with something near it. A refusal
says one thing exactly: the bucket is empty now. Between two such moments as much was accepted as was refilled, so

    rate = accepted / elapsed

whatever the bucket holds. The law of this module, its states and its limits are in docs/design/flow-control.md. It is
pure: time comes in as an argument, in seconds on a clock that all holders of a budget share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

NEVER = -1e18
"""A time before all others; finite, so that it can be stored."""
UNBOUNDED = 1e18
OPEN_BURST = 10.0
"""Requests sent at once to an endpoint of which nothing is known."""
OPEN_PACE = 60.0
"""Requests per second after them; doubled every `_DOUBLING_S` while it binds and nothing is refused."""
_DOUBLING_S = 0.15
_MOST_PACE = 1e5
_HOLD_S = 3.0
"""Seconds at a confirmed rate before it is probed upward."""
_HOLD_UNITS = 20.0
_SPENDING_S = 1.0
"""A stock is spent over about this long, not at once."""
_REOPENED = 8.0
"""Growth over the learnt rate, unrefused, after which it counts as gone."""
_SLOWEST = 1 / 60
_LONG_PAUSE_S = 5.0
_MEMORY_S = 60.0
_STEPS = 32
_IDLE_S = 0.5
"""Without a known limit, a demand that stops for so long begins anew."""
_TRIALS = 3
_REPORTED_S = 0.05

_ENOUGH = 5.0
"""Calls accepted between two refusals from which on their rate is believed."""

Verdict = Literal["same episode", "first", "uncertain", "confirmed", "raised", "lowered"]


@dataclass(slots=True)
class Bucket:
    """What is believed of one limit. `unit` is what a typical call costs: 1 for requests, some hundred for tokens."""

    unit: float = 1.0
    ramps: bool = True
    """Whether an unknown limit is approached step by step; tokens leave that to the requests."""
    rate: float | None = None
    """Units refilled per second; None while nothing has told."""
    told: float | None = None
    """Units per second that headers name: never probed beyond."""
    burst: float = OPEN_BURST
    """Units that the bucket holds when full."""
    burst_learnt: bool = False
    level: float = OPEN_BURST
    """Units that may be sent now; negative where some are promised ahead of time."""
    at: float = 0.0
    """When the level was true."""
    pace: float = OPEN_PACE
    since: float = 0.0
    """The last moment the bucket was known to be empty, or, while no limit is known, when the present demand began."""
    spent: float = 0.0
    """Units accepted, or not yet refused, after `since`."""
    peak: float = 0.0
    """The highest level after `since`."""
    used_at: float = NEVER
    history: list[tuple[float, float]] = field(default_factory=list)
    """How `spent` grew: (time, units), thinned out as it gets longer."""
    calm_s: float = 0.0
    """Seconds for which the demand was bound by this bucket and nothing was refused."""
    decided_at: float = NEVER
    """Refusals of calls sent before this belong to the episode that was dealt with."""
    agreed_units: float = 0.0
    agreed_s: float = 0.0
    first_units: float = 0.0
    first_s: float = 0.0
    guessed: bool = False
    """The rate is a first guess: no second refusal has confirmed it."""
    quiet_until: float = NEVER
    """Until when all calls wait because of a refusal."""
    trials: int = 0
    """Measurements of the present guess that told no more than an upper bound."""
    fruitless: int = 0
    """Episodes in a row between which nothing was accepted."""

    # --- time ------------------------------------------------------------------------------------------

    def advance(self, now: float, *, binding: bool) -> None:
        """Refill up to `now`. `binding`: the demand since the last time was held up by this bucket."""
        elapsed = now - self.at
        self.at = now
        if elapsed <= 0:  # a clock that jumped back refills nothing
            return
        if self.rate is None:
            self._advance_open(now, elapsed, binding)
            return
        if binding:
            self.calm_s += min(1.0, max(0.0, now - max(now - elapsed, self.quiet_until)))
        grown = self._growth()
        if grown >= _REOPENED and self.told is None and not self.guessed:
            self.pace, self.rate, self.burst = self.rate * grown, None, max(self.burst, OPEN_BURST * self.unit)
            self.burst_learnt = False
            return
        self.level += self.accrual * elapsed
        if self.level >= self.burst:
            self.level = self.burst
        self.peak = max(self.peak, self.level)

    def _advance_open(self, now: float, elapsed: float, binding: bool) -> None:
        if binding:
            self.pace = min(_MOST_PACE, self.pace * 2.0 ** (min(elapsed, 0.5) / _DOUBLING_S))
        stock = max(OPEN_BURST, self.pace * 0.1)
        self.level = min(stock, self.level + self.pace * elapsed)

    @property
    def accrual(self) -> float:
        """Units per second that are sent in the long run."""
        if self.rate is None:
            return self.pace if self.ramps else math.inf
        sent = self.rate * self._growth()
        return sent if self.told is None else min(sent, self.told)

    def _growth(self) -> float:
        """Convex in time, like CUBIC's window (RFC 9438, section 4.2): slow near the known limit, fast beyond it."""
        if self.rate is None:
            return 1.0
        if self.guessed:
            return float(2.0 ** min(self.calm_s, 13.3))
        scale = max(1.0, 5 * self.unit / self.rate)
        beyond = (self.calm_s - self._hold_s) / scale
        return math.exp(min(3.0, 0.03 * beyond + 0.03 * beyond * beyond)) if beyond > 0 else 1.0

    @property
    def _hold_s(self) -> float:
        return _HOLD_S if self.rate is None else max(_HOLD_S, _HOLD_UNITS * self.unit / self.rate)

    # --- sending ---------------------------------------------------------------------------------------

    def promise(self, units: float, first: float, now: float) -> tuple[float, float]:
        """Reserve units; returns when the first call may be sent, and the seconds from one unit to the next."""
        accrual = self.accrual
        if math.isinf(accrual):
            return now, 0.0
        starts = now if self.level >= first else now + (first - self.level) / accrual
        spending_s = _SPENDING_S if self.rate is not None else 0.02
        interval = 1.0 / (accrual + max(0.0, self.level) / spending_s)
        self.level -= units
        return starts, interval

    def take_back(self, units: float) -> None:
        """Units promised and not sent."""
        self.level += units

    def note_sent(self, units: float, now: float) -> None:
        """Units that were sent since the last report."""
        if units <= 0:
            return
        if self.rate is None and now - self.used_at > _IDLE_S:
            self._anchor(now, 0.0)
        self.used_at = now
        self.spent += units
        self.history.append((now, self.spent))
        if len(self.history) > _STEPS:
            del self.history[1::2]

    def sent_since(self, at: float, own: float) -> float:
        """Units that all holders sent after a time, as far as they have reported; of which one's own are known.

        Reports come a little after what they tell of, so what was known a little later is taken for what was sent.
        """
        at += _REPORTED_S
        before, then = (self.since, 0.0), (self.at, self.spent)
        for step in reversed(self.history):
            if step[0] <= at:
                before = step
                break
            then = step
        if not before[0] <= at < then[0]:
            return own
        part = (at - before[0]) / (then[0] - before[0])
        return max(own, self.spent - before[1] - part * (then[1] - before[1]))

    def note_unanswered(self, units: float) -> None:
        """Calls among those sent that reached nobody, and so used nothing up."""
        self.spent = max(0.0, self.spent - units)

    def _anchor(self, at: float, spent: float) -> None:
        self.since, self.spent, self.peak = at, spent, 0.0
        self.history.clear()

    def correct(self, units: float) -> None:
        """A call turned out to cost this many units less than was reserved (more, if negative)."""
        self.level += units
        self.spent -= units

    # --- learning --------------------------------------------------------------------------------------

    def note_refusal(
        self, sent_at: float, sent_after: float, cost: float, retry_after_s: float | None, now: float, promised: float
    ) -> tuple[Verdict, float]:
        """A call was refused by this limit; returns what it means and until when nothing should be sent.

        `sent_after`: units sent after it, as far as known. `promised`: units that holders may still send.
        """
        self.spent -= cost
        if sent_at <= self.decided_at:
            return "same episode", now
        accepted = self.spent - sent_after
        self.fruitless = 0 if accepted >= self.unit else self.fruitless + 1
        verdict = self._run_dry(sent_at, sent_after, retry_after_s, now, promised)
        self.quiet_until = now + self._pause_s(verdict, retry_after_s)
        return verdict, self.quiet_until

    def _run_dry(
        self, sent_at: float, sent_after: float, retry_after_s: float | None, now: float, promised: float
    ) -> Verdict:
        """The bucket was empty at `sent_at`."""
        accepted = max(0.0, self.spent - sent_after)
        verdict = self._judge(accepted, max(1e-3, sent_at - self.since), sent_at, retry_after_s)
        self.level = -promised
        self.decided_at = self.at = now
        if verdict != "uncertain":  # else it goes on counting from where it was
            self._anchor(sent_at, sent_after)
            self.history.append((now, self.spent))
        return verdict

    def _judge(self, accepted: float, elapsed: float, sent_at: float, retry_after_s: float | None) -> Verdict:
        if self.rate is None:
            return self._guess(accepted, elapsed, retry_after_s)
        enough = accepted >= _ENOUGH * self.unit
        measured = self._explain(accepted, sent_at)
        expected = self.rate * elapsed
        off = (measured - self.rate) * elapsed
        self.calm_s = 0.0
        conclusive = measured < 0.99 * self.accrual  # else all that is known: the rate is not above this pace
        if self.guessed:
            if not enough:
                self._set(min(self.accrual, (accepted + 2 * self.unit) / elapsed), 0.0, 0.0)
                return "uncertain"
            self.guessed = not conclusive and self.trials < _TRIALS
            self.trials += 1
            self.burst = self._first_burst(measured)
            self._set(measured, accepted, accepted / measured)
            if self.guessed:
                return "uncertain"
            self.first_units = 0.0
            return "confirmed"
        if abs(off) <= max(2 * self.unit, 0.02 * expected):
            if not enough:
                return "uncertain"
            self._agree(accepted, accepted / measured)
            return "confirmed"
        if off > 0:
            self._set(measured, accepted, accepted / measured)
            # The limit is not where it was believed to be: go on climbing.
            self.calm_s = self._hold_s
            return "raised"
        if self.peak > max(3 * self.unit, 0.3 * self.burst):
            # A smaller bucket explains it as well; should it not, the next refusal comes with an empty one.
            self.burst, self.burst_learnt = max(self.unit, self.peak / 2), True
            return "confirmed"
        self._set(max(measured, self.rate / 2), 0.0, 0.0)
        self.guessed, self.trials = True, 0
        return "lowered"

    def _explain(self, accepted: float, sent_at: float) -> float:
        """The rate at which a bucket, empty at `since`, runs empty just now, given when its units were accepted.

        Without overflow that is accepted / elapsed; where calls were slow or paused, a small bucket ran over.
        """
        steps = [(at, units) for at, units in self.history if at < sent_at and units < accepted]
        steps.append((sent_at, accepted))

        def left(rate: float) -> float:
            burst = max(3 * self.unit, self._first_burst(rate) if self.guessed else self.burst)
            # Empty means less than a call's worth: half of one on average, then as now.
            level, last, taken = self.unit / 2, self.since, 0.0
            for at, units in steps:
                level = min(burst, level + rate * (at - last) - (units - taken))
                last, taken = at, units
            return level

        low = 0.0
        high = max(accepted / max(1e-3, sent_at - self.since), self.accrual)  # nothing refuses a pace below its rate
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (low, middle) if left(middle) > self.unit / 2 else (middle, high)
        return high

    def _first_burst(self, rate: float) -> float:
        """What the bucket held at the first refusal of all, if this is its rate."""
        return (
            self.burst
            if self.burst_learnt or not self.first_units
            else max(self.unit, self.first_units - rate * self.first_s)
        )

    def _guess(self, accepted: float, elapsed: float, retry_after_s: float | None) -> Verdict:
        asked = 1.0 if retry_after_s is None else max(retry_after_s, 0.05)
        self._set(max(accepted / (elapsed + asked), self.unit / max(asked, 1.0)), 0.0, 0.0)
        self.first_units, self.first_s = accepted, elapsed
        self.burst, self.burst_learnt = max(self.unit, accepted), False
        self.guessed, self.trials = True, 0
        self.calm_s = 0.0
        return "first"

    def _set(self, rate: float, units: float, seconds: float) -> None:
        self.rate = max(rate if self.told is None else min(rate, self.told), _SLOWEST * self.unit)
        self.agreed_units, self.agreed_s = units, seconds

    def _agree(self, accepted: float, elapsed: float) -> None:
        """The longer the evidence, the smaller its error of one call; old evidence fades."""
        if self.agreed_s > _MEMORY_S:
            self.agreed_units, self.agreed_s = self.agreed_units / 2, self.agreed_s / 2
        self._set(
            (self.agreed_units + accepted) / (self.agreed_s + elapsed),
            self.agreed_units + accepted,
            self.agreed_s + elapsed,
        )

    def _pause_s(self, verdict: Verdict, retry_after_s: float | None) -> float:
        """How long all calls wait, not just the refused one.

        While the model is right, the others follow the model: Retry-After comes in whole seconds, in which a fast
        bucket would run over.
        """
        if self.fruitless > 1:
            return max(retry_after_s or 0.0, min(60.0, 0.5 * 2.0 ** min(self.fruitless - 1, 10)))
        if retry_after_s is None:
            return 0.5 if verdict == "first" else 0.0
        if verdict == "first" or retry_after_s > _LONG_PAUSE_S:
            return retry_after_s
        return 0.0

    def advise(
        self,
        limit_per_s: float | None,
        remaining: float | None,
        sent_at: float,
        sent_after: float,
        promised: float,
        now: float,
    ) -> None:
        """Take in what an answer's headers say: the limit, and what remained when that call was admitted."""
        if limit_per_s is not None and limit_per_s != self.told:
            self.told = limit_per_s
            self.rate, self.guessed, self.calm_s = limit_per_s, False, 0.0
            self.agreed_units = self.agreed_s = 0.0
        if remaining is None:
            return
        if self.told is None and remaining < self.unit and sent_at > self.decided_at:
            # As good as a refusal, and nothing was refused.
            self._run_dry(sent_at, sent_after, None, now, promised)
            return
        if self.rate is None:
            return
        if not self.burst_learnt:
            self.burst = max(self.burst if self.told is None else self.unit, remaining, self.unit)
        # One call less than that: the count was rounded, and calls overtake each other.
        refilled = self.rate * max(0.0, now - sent_at)
        level = min(self.burst, remaining + refilled - sent_after - self.unit) - promised
        self.level = min(self.level, level) if sent_at <= self.decided_at else level
        self.at = now
