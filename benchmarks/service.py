"""The service: streams at once, and runs that are waited for, beside other servers; each scenario by name."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import service_streams, service_wait

SCENARIOS: dict[str, Callable[[], None]] = {
    "streams": service_streams.main,
    "wait": service_wait.main,
    "fewer_streams": lambda: service_streams.main((20, 50), slow=100, over_s=5.0),
}


def main() -> None:
    """Streams up to a thousand, then runs."""
    service_streams.main()
    service_wait.main()
