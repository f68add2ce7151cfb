"""The simulator with limits in a process of its own, watched and changed from here while it runs."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from plait.simulator import Profile, running

_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Look:
    """The provider's counters at a moment (time.monotonic)."""

    at: float
    received: int
    accepted: int
    refused: int
    in_flight: int


@dataclass(slots=True)
class Provider:
    """A running simulator; `looks` grow while it is watched."""

    base_url: str
    looks: list[Look] = field(default_factory=list)
    counters: dict[str, Any] = field(default_factory=dict)
    """The last ones, all of them."""

    def change(self, **changes: object) -> None:
        """Replace settings of its profile."""
        self._ask("POST", "/simulator/change", changes)

    def watch(self, stop: threading.Event) -> None:
        """Look every 20 ms until told to stop."""
        while not stop.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """Take down the counters."""
        found = self.counters = self._ask("GET", "/simulator/counters", None)
        self.looks.append(
            Look(
                time.monotonic(),
                found["received"],
                found["accepted"],
                sum(found["refused"].values()),
                found["in_flight"],
            )
        )

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.base_url).netloc, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer

    # --- what was seen -------------------------------------------------------------------------------

    @property
    def busy(self) -> list[Look]:
        """From the first request to the end of the last answer."""
        indices = [index for index, look in enumerate(self.looks) if look.in_flight]
        return self.looks[max(0, indices[0] - 1) : indices[-1] + 2] if indices else self.looks[-1:]

    @property
    def wall_s(self) -> float:
        """Seconds from the first request to the end of the last answer."""
        return self.busy[-1].at - self.busy[0].at

    def accepted_by(self, at: float) -> float:
        """Requests accepted until then, interpolated between two looks."""
        before = self.looks[0]
        for look in self.looks:
            if look.at >= at:
                part = (at - before.at) / (look.at - before.at) if look.at > before.at else 1.0
                return before.accepted + min(1.0, max(0.0, part)) * (look.accepted - before.accepted)
            before = look
        return before.accepted

    def rate(self, begin: float, end: float) -> float:
        """Requests accepted a second between two times."""
        return (self.accepted_by(end) - self.accepted_by(begin)) / (end - begin)

    def refusals(self, begin: float, end: float) -> int:
        """Requests refused between two times."""
        seen = [look.refused for look in self.looks if begin <= look.at <= end]
        return seen[-1] - seen[0] if seen else 0


@contextmanager
def provider(profile: Mapping[str, object]) -> Generator[Provider]:
    """Start it with the settings of a `Profile`, watch it, stop it."""
    command = [sys.executable, "-m", "benchmarks.limits_provider", json.dumps(dict(profile))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        found = Provider(process.stdout.readline().strip())
        stop = threading.Event()
        watcher = threading.Thread(target=found.watch, args=(stop,), daemon=True)
        try:
            found.look()
            watcher.start()
            yield found
            found.look()
        finally:
            stop.set()
            watcher.join(10)
            process.stdin.close()


if __name__ == "__main__":
    with running(Profile(**json.loads(sys.argv[1])), record=False) as simulator:
        print(simulator.base_url, flush=True)
        sys.stdin.read()
