"""A pytest fixture. It is never loaded by itself: write `pytest_plugins = ["plait.simulator.fixtures"]` in conftest.py.

def test_my_graph(plait_simulator, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", plait_simulator.base_url)
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from plait.simulator.provider import Simulator, running


@pytest.fixture
def plait_simulator() -> Generator[Simulator]:
    """A simulator without limits in a thread of its own; `change(rpm=60)`, `script(...)` and `answer` shape it."""
    with running() as simulator:
        yield simulator
