"""How many calls an endpoint takes at once, learnt from refusals and from latency. Pure; time is an argument.

A provider may refuse what is too much, or let it queue. Refusals that speak of concurrency, and overloads, lower a
ceiling, which rises again like a bucket's rate. A queue shows as latency: by Little's law the calls being served are
throughput x service time, and all others wait. So the cap is a little over throughput x the latency without a queue; as
latency has other causes too, the cut is kept only where throughput survives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from plait.flow.buckets import NEVER

UNTOLD = 128.0
"""Calls in flight before the first success, where the user set no higher bound; every success adds two, as in TCP's
slow start (RFC 5681, section 3.1)."""
_BELIEVED = 512.0
"""Of a user's higher bound: an endpoint that queues would be busy for long with what came before its first answer."""
FIXED_TOKENS = 32
"""What is the same for every call, in terms of the tokens of its answer."""
_HOLD_S = 3.0
_FEWEST = 8
_QUEUED = 1.6
"""Latency over the floor from which on calls are believed to queue."""
_ROOM = 1.4
"""Calls allowed over those being served, so that a slot never idles."""
_HARMED = 0.85
_TRIED = 40
"""Calls over which a cut is judged."""
_PATIENCE_S = 60.0
_MOST = 1e6


def per_token(duration_s: float, output_tokens: int) -> float:
    """A latency that can be compared: long answers take longer, which is no queue."""
    return duration_s / (max(0, output_tokens) + FIXED_TOKENS)


@dataclass(slots=True)
class Window:
    """The bound on calls in flight, of all processes together."""

    flood: float = UNTOLD
    ceiling: float | None = None
    """Calls in flight that were refused last, less one."""
    calm_s: float = 0.0
    at: float = 0.0
    decided_at: float = NEVER
    overloads: float = 0.0
    """How many of the last ten answers were overloads, fading."""
    floor: float | None = None
    """Latency without a queue, in seconds per token of the answer and `FIXED_TOKENS` more."""
    cap: float | None = None
    """Calls in flight beyond which they would only queue."""
    count: int = 0
    total: float = 0.0
    """Sum of latencies, in the unit of `floor`."""
    tokens: float = 0.0
    company: float = 0.0
    bound: bool = False
    """Whether calls waited for a slot in this period."""
    settle_until: float = NEVER
    trial: float | None = None
    """Throughput before the last cut, until it is known what the cut did."""
    trial_cap: float | None = None
    doubt_until: float = NEVER
    """Until when latency is not acted on, because acting on it did harm."""

    @property
    def limit(self) -> float:
        """Calls that may be in flight."""
        return self.limit_from(0.0)

    def limit_from(self, asked: float) -> float:
        """The same for a user who set a bound of `asked`: it is believed, if not too high, before anything is known."""
        bounds = [max(self.flood, min(asked, _BELIEVED))]
        if self.ceiling is not None:
            bounds.append(self.ceiling * self._growth())
        if self.cap is not None:
            bounds.append(self.cap)
        return max(1.0, min(bounds))

    def _growth(self) -> float:
        beyond = self.calm_s - _HOLD_S
        return math.exp(min(3.0, 0.03 * beyond + 0.03 * beyond * beyond)) if beyond > 0 else 1.0

    def advance(self, now: float, *, binding: bool) -> None:
        """`binding`: calls waited for a slot since the last time."""
        elapsed, self.at = now - self.at, now
        self.bound |= binding
        if binding and elapsed > 0:
            self.calm_s += min(elapsed, 1.0)

    def note_refusal(self, sent_at: float, in_flight: int, now: float) -> None:
        """A call that was the `in_flight`-th was refused for being one too many."""
        most = max(1.0, in_flight - 1.0)
        if sent_at <= self.decided_at and self.ceiling is not None:
            self.ceiling = min(self.ceiling, most)
            return
        self.ceiling, self.calm_s, self.decided_at = most, 0.0, now

    def note_overload(self, sent_at: float, in_flight: int, now: float) -> None:
        """The endpoint failed in a way that means too much work; a single such answer means nothing."""
        self.overloads = self.overloads * 0.9 + 1
        if self.overloads > 2 and sent_at > self.decided_at:
            self.ceiling, self.calm_s, self.decided_at = max(1.0, 0.7 * in_flight), 0.0, now

    def note_successes(
        self, count: int, total: float, tokens: float, company: float, in_flight: int, now: float
    ) -> None:
        """Calls that ended well, with the sums of their latencies, of their output tokens and of their company.

        A call's company are the calls in flight when it was sent, itself included.
        """
        if count <= 0:
            return
        self.overloads *= 0.9**count
        if self.floor is None or total / count < _QUEUED * self.floor:
            self.flood = min(_MOST, self.flood + 2 * count)
        if now < self.settle_until:
            return
        self.count += count
        self.total += total
        self.tokens += tokens
        self.company += company
        mean = self.total / self.count
        if self.floor is None:
            if self.count >= _FEWEST:
                # The first to end were sent while few others were in flight.
                self.floor = mean
                self._begin_period()
            return
        suspicious = self.trial is not None or mean >= _QUEUED * self.floor
        if self.count < (_TRIED if suspicious else max(_FEWEST, in_flight / 8)):
            return
        typical = self.tokens / self.count + FIXED_TOKENS
        # Little's law, call by call: what was in flight when it was sent is what was served while it waited.
        self._judge(mean, typical, self.company / self.count / (mean * typical), in_flight, now)
        self._begin_period()

    def _begin_period(self) -> None:
        self.count, self.total, self.tokens, self.company = 0, 0.0, 0.0, 0.0

    def _judge(self, mean: float, typical: float, throughput: float, in_flight: int, now: float) -> None:
        if self.trial is not None:
            harmed = throughput < _HARMED * self.trial
            self.trial = None
            if harmed:
                # Fewer in flight were no faster, so it was not a queue: take the latency as it is.
                self.cap, self.floor, self.doubt_until = self.trial_cap, mean, now + _PATIENCE_S
                return
        assert self.floor is not None
        bound, self.bound = self.bound, False
        self.floor = min(self.floor, mean)
        if mean < _QUEUED * self.floor:
            if self.cap is not None and bound:
                self.cap = self.cap * 1.1 if self.cap < _MOST else None
            return
        if now < self.doubt_until:
            return
        served = throughput * self.floor * typical
        wanted = max(2.0, _ROOM * served)
        if wanted < 0.9 * in_flight:
            self.trial, self.trial_cap, self.cap = throughput, self.cap, wanted
            # Those in flight already have queued: what they say is of before the cut.
            self.settle_until = now + in_flight / throughput
