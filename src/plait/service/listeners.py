"""Who is told how runs go: metrics, logs, traces and the accounts of API keys hear the same few things."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from plait.flow.calls import Call, Meter
from plait.flow.recorders import Answer, Observer
from plait.flow.timings import Timing
from plait.flow.usage import Usage
from plait.prices import Prices
from plait.store.service.records import RunRecord

logger = logging.getLogger("plait.service")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run took, known when it is over."""

    usage: Usage = field(default_factory=Usage)
    timings: Mapping[str, Timing] = field(default_factory=dict)
    """By node."""
    duration_s: float = 0.0
    """From its beginning to its end; 0 for a run that never began."""
    waited_s: float = 0.0
    """From when it could have begun to when it did, or was given up."""
    costs_usd: Mapping[str, float] = field(default_factory=dict)
    """By model, of those whose price is known (`costs`)."""

    @property
    def cost_usd(self) -> float | None:
        """Of all models together; None where one that was used has no price."""
        used = [model for model, tokens in self.usage.tokens.items() if tokens.input or tokens.output]
        return sum(self.costs_usd.values()) if all(model in self.costs_usd for model in used) else None


class Listener(Protocol):
    """Is told of every run of one server. Methods return at once and await nothing."""

    def on_queued(self, run: RunRecord) -> None:
        """A run waits for its turn. Where a request asked for it: called within that request."""
        ...

    def on_started(self, run: RunRecord) -> Observer | None:
        """A run begins. To be called in the run's own asyncio task, before its graph.

        What is returned is to watch its calls (`Scope.observer`).
        """
        ...

    def on_first_token(self, run: RunRecord, seconds: float) -> None:
        """A streamed run said its first word, so many seconds after it was asked for."""
        ...

    def on_sent(self, run: RunRecord, events: int) -> None:
        """So many more events of a stream were handed to a client."""
        ...

    def on_reader_cut(self, run: RunRecord) -> None:
        """A client read its stream too slowly and lost events of it."""
        ...

    def on_moved(self, run: RunRecord) -> None:
        """Another server has it now, and will tell its listeners of it."""
        ...

    def on_ended(self, run: RunRecord, figures: Figures) -> None:
        """A run is over, or was given up before it began. Its status is stored and its streams are closed."""
        ...


def costs(usage: Usage, prices: Prices, endpoint: str | None = None) -> dict[str, float]:
    """What a run's tokens cost in USD, by model, for the models whose price is known."""
    found: dict[str, float] = {}
    for model, tokens in usage.tokens.items():
        price = prices.price(model, endpoint)
        if price is not None:
            found[model] = price.cost_usd(tokens)
    return found


class Listeners:
    """Several listeners as one. What one of them raises is logged: the runs and the others go on."""

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = tuple(listeners)

    def on_queued(self, run: RunRecord) -> None:
        for listener in self._listeners:
            with _logged():
                listener.on_queued(run)

    def on_started(self, run: RunRecord) -> Observer | None:
        observers: list[Observer] = []
        for listener in self._listeners:
            with _logged():
                observer = listener.on_started(run)
                if observer is not None:
                    observers.append(observer)
        return observers[0] if len(observers) == 1 else _Observers(observers) if observers else None

    def on_first_token(self, run: RunRecord, seconds: float) -> None:
        for listener in self._listeners:
            with _logged():
                listener.on_first_token(run, seconds)

    def on_sent(self, run: RunRecord, events: int) -> None:
        for listener in self._listeners:
            with _logged():
                listener.on_sent(run, events)

    def on_reader_cut(self, run: RunRecord) -> None:
        for listener in self._listeners:
            with _logged():
                listener.on_reader_cut(run)

    def on_moved(self, run: RunRecord) -> None:
        for listener in self._listeners:
            with _logged():
                listener.on_moved(run)

    def on_ended(self, run: RunRecord, figures: Figures) -> None:
        for listener in self._listeners:
            with _logged():
                listener.on_ended(run, figures)


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        logger.error("a listener of the service failed", exc_info=error)


class _Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def replays(self, call: Call, answer: Answer) -> None:
        for observer in self._observers:
            observer.replays(call, answer)

    def begins(self, call: Call) -> Callable[[Meter | None, Timing], None]:
        ends = [observer.begins(call) for observer in self._observers]

        def end(meter: Meter | None, timing: Timing) -> None:
            for each in ends:
                each(meter, timing)

        return end
