"""The service's figures for Prometheus, in a registry of its own: a host's own is never touched.

Each server process counts what it did itself: of several on one store every one is a target of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from plait.flow.gate import Gate
from plait.flow.recorders import Observer
from plait.flow.timings import WAITS, total
from plait.masking import masked
from plait.service.listeners import Figures
from plait.store.service.records import RunRecord

_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RUN_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
_MOST_MODELS = 100
"""Clients may name models: what comes after so many is counted as `other`."""


class Metrics:
    """A Listener that counts. `registry` is where the figures are; a new one by default."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._queued: dict[str, str] = {}
        self._running: dict[str, str] = {}
        """By run id, the workflows of what waits and runs now."""
        self._gates: list[Gate] = []
        self._models: set[str] = set()
        self._runs = self._counter("plait_runs", "Runs that are over.", ("workflow", "status"))
        self._durations = self._histogram("plait_run_duration_seconds", "From a run's beginning to its end.", _RUN_S)
        self._queue_waits = self._histogram("plait_run_wait_seconds", "That runs waited for their turn.", _RUN_S)
        self._first_tokens = self._histogram(
            "plait_first_token_seconds", "From the request to a streamed run's first token.", _TOKEN_S
        )
        self._calls = self._counter("plait_model_calls", "Model calls that were begun.", ("model",))
        self._tokens = self._counter(
            "plait_tokens", "Tokens of model calls; `cached` ones are among the `input`.", ("model", "kind")
        )
        self._costs = self._counter("plait_cost_usd", "What tokens cost, for models whose price is known.", ("model",))
        self._waits = self._counter("plait_call_wait_seconds", "That model calls waited, by cause.", ("cause",))
        self._sent = self._counter("plait_events_sent", "Events of streams handed to clients.", ())
        self._cut = self._counter("plait_slow_readers_cut", "Streams that ended as nobody read them fast enough.", ())
        for cause in WAITS:
            self._waits.labels(cause)
        self.registry.register(_Now(self._queued, self._running, self._gates))

    def watch(self, gate: Gate) -> None:
        """Show how many calls this gate has let through and how many wait."""
        if gate not in self._gates:
            self._gates.append(gate)

    def text(self) -> bytes:
        """All figures in Prometheus' text format, version 0.0.4."""
        return generate_latest(self.registry)

    def on_queued(self, run: RunRecord) -> None:
        self._queued[run.run_id] = run.graph_id

    def on_started(self, run: RunRecord) -> Observer | None:
        self._queued.pop(run.run_id, None)
        self._running[run.run_id] = run.graph_id
        return None

    def on_first_token(self, run: RunRecord, seconds: float) -> None:
        self._first_tokens.labels(run.graph_id).observe(seconds)

    def on_sent(self, run: RunRecord, events: int) -> None:
        self._sent.inc(events)

    def on_reader_cut(self, run: RunRecord) -> None:
        self._cut.inc()

    def on_moved(self, run: RunRecord) -> None:
        self._queued.pop(run.run_id, None)
        self._running.pop(run.run_id, None)

    def on_ended(self, run: RunRecord, figures: Figures) -> None:
        self._queued.pop(run.run_id, None)
        began = self._running.pop(run.run_id, None) is not None
        self._runs.labels(run.graph_id, run.status).inc()
        self._queue_waits.labels(run.graph_id).observe(figures.waited_s)
        if began:
            self._durations.labels(run.graph_id).observe(figures.duration_s)
        for model, calls in figures.usage.models.items():
            self._calls.labels(self._known(model)).inc(calls)
        for model, tokens in figures.usage.tokens.items():
            for kind, count in tokens._asdict().items():
                self._tokens.labels(self._known(model), kind).inc(count)
        for model, usd in figures.costs_usd.items():
            self._costs.labels(self._known(model)).inc(usd)
        for cause, seconds in total(figures.timings).waits.items():
            self._waits.labels(cause).inc(seconds)

    def _known(self, model: str) -> str:
        if model not in self._models and len(self._models) >= _MOST_MODELS:
            return "other"
        self._models.add(model)
        return model

    def _counter(self, name: str, what: str, labels: Sequence[str]) -> Counter:
        return Counter(name, what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, what, ("workflow",), buckets=buckets, registry=self.registry)


class _Now(Collector):
    """What is the case when somebody looks."""

    def __init__(self, queued: dict[str, str], running: dict[str, str], gates: list[Gate]) -> None:
        self._queued = queued
        self._running = running
        self._gates = gates

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, what, runs in (
            ("plait_runs_queued", "Runs that wait for their turn.", self._queued),
            ("plait_runs_running", "Runs that are running.", self._running),
        ):
            yield _gauge(name, what, ("workflow",), [((workflow,), 1.0) for workflow in runs.values()])
        lanes = [(model, lane) for gate in self._gates for model, lane in gate.used()]
        at = [((masked(lane.name), model or "unnamed"), lane) for model, lane in lanes]
        yield _gauge(
            "plait_permits_in_flight",
            "Model calls in flight.",
            ("endpoint", "model"),
            [(labels, lane.in_flight) for labels, lane in at],
        )
        yield _gauge(
            "plait_calls_waiting",
            "Model calls that wait for a permit.",
            ("endpoint", "model"),
            [(labels, lane.waiting) for labels, lane in at],
        )


def _gauge(
    name: str, what: str, labels: Sequence[str], found: Sequence[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=labels)
    sums: dict[tuple[str, ...], float] = {}
    for values, number in found:
        sums[values] = sums.get(values, 0.0) + number
    for values, number in sums.items():
        family.add_metric(values, number)
    return family
