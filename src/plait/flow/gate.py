"""Which bounds hold for a call: its run's, its model's, its endpoint's and the process's, each never exceeded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any
from urllib.parse import urlsplit

from plait.flow.calls import Call
from plait.flow.clock import Clock, SystemClock
from plait.flow.limits import Limit
from plait.flow.retries import RetryPolicy
from plait.settings import Endpoint, Settings


class EndpointState:
    """What this process knows about one base URL."""

    def __init__(self, limit: Limit | None, models: dict[str, Limit]) -> None:
        self.limit = limit
        self.models = models
        self.reached = False
        """Whether it ever answered."""
        self.rejects_stream_options = False
        """Whether it refuses to report the usage of streams."""


class Gate:
    """The bounds and the retry policy that all calls of a process with the same settings share."""

    def __init__(
        self, settings: Settings, *, clock: Clock | None = None, limit: Callable[[str, int], Limit] = Limit
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._limit = limit
        self.retries = RetryPolicy(max_attempts=settings.max_attempts, deadline_s=settings.deadline_s)
        self.process = limit("process", settings.max_concurrency) if settings.max_concurrency else None
        self.unscoped_calls = 0
        """Calls that belong to no run: bounded like all others, counted here."""
        self.built: dict[Hashable, Any] = {}
        """Clients and models made for these settings; kept here so that they go when the gate goes."""
        self._named: dict[str, list[Endpoint]] = {}
        for endpoint in settings.endpoints.values():
            if endpoint.base_url:
                self._named.setdefault(_canonical(endpoint.base_url), []).append(endpoint)
        self._endpoints: dict[str, EndpointState] = {}
        self._lock = threading.Lock()

    def endpoint(self, base_url: str) -> EndpointState:
        """The state of an endpoint, made at its first call."""
        state = self._endpoints.get(base_url)
        if state is None:
            with self._lock:
                state = self._endpoints.setdefault(base_url, self._state(base_url))
        return state

    def declare(self, base_url: str, *, max_concurrency: int) -> None:
        """Bound an endpoint that settings do not name, such as the embedded model's few slots."""
        with self._lock:
            key = _canonical(base_url)
            self._endpoints.setdefault(key, EndpointState(self._limit(key, max_concurrency), {}))

    def bounds(self, call: Call, run_limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        """The limits to acquire, one after the other, in this order.

        Leaf to root: a slot held while waiting for the next bound is one that nobody else could have used, since
        they would wait for that next bound too. So nothing is wasted, nothing starves and no cycle can form.
        """
        state = self.endpoint(call.endpoint)
        shared = (state.models.get(call.model), state.limit, self.process)
        return (*run_limits, *(limit for limit in shared if limit is not None))

    def _state(self, base_url: str) -> EndpointState:
        """Of endpoints that have several names the strictest bounds hold."""
        named = self._named.get(base_url, [])
        bounds = [endpoint.max_concurrency for endpoint in named if endpoint.max_concurrency]
        models: dict[str, int] = {}
        for endpoint in named:
            for model, most in endpoint.models.items():
                models[model] = min(most, models.get(model, most))
        return EndpointState(
            self._limit(base_url, min(bounds)) if bounds else None,
            {model: self._limit(f"{base_url} {model}", most) for model, most in models.items()},
        )


def _canonical(base_url: str) -> str:
    """The form in which a request's URL is reported: host in lower case, no default port, no slash at the end."""
    parts = urlsplit(base_url)
    port = "" if parts.port in {None, {"http": 80, "https": 443}.get(parts.scheme)} else f":{parts.port}"
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
