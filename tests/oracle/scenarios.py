"""Every scenario by its name: `await SCENARIOS[name](observer)` plays one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType

from tests.oracle import assistants, clients, controls, crons, runs, stores, streams, threads
from tests.oracle.observations import Observer

Scenario = Callable[[Observer], Awaitable[None]]


def _of(module: ModuleType) -> dict[str, Scenario]:
    found = vars(module).items()
    return {
        name: value
        for name, value in found
        if inspect.iscoroutinefunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


SCENARIOS: dict[str, Scenario] = {
    name: scenario
    for module in (assistants, threads, runs, streams, controls, stores, crons, clients)
    for name, scenario in _of(module).items()
}
