"""What every test gets: an environment without keys or proxies, and a loop that refuses to be blocked."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncGenerator, Generator
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path

import hypothesis
import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from plait.simulator import Simulator
from tests.servers import Server, postgres_server, redis_server

# Shared machines are slow at times: that is no finding.
hypothesis.settings.register_profile("plait", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("plait")

_PREFIXES = ("OPENAI_", "ANTHROPIC_", "PLAIT_", "LANGSMITH", "LANGCHAIN", "LANGGRAPH")

# Found, not imported: most tests do without LangChain, whose import takes seconds.
_OURS = [module_from_spec(spec) for name in ("plait", "agents", "chains", "graphs") if (spec := find_spec(name))]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes race each other on the machine's own clock, a busy machine is no finding either."""
    for item in items:
        if item.get_closest_marker("real_time"):
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(autouse=True)
def clean_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, proxy or setting of this machine reaches a test; what plait keeps lies in its own folder.

    XDG_CACHE_HOME stays: the embedded model's weights lie there.
    """
    for name in list(os.environ):
        if name.upper().startswith(_PREFIXES) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    # Some libraries note the terminal's size there, and later tests would be as wide.
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "state" / "plait"))


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Generator[BlockBuster]:
    """A blocking call that plait or the bundled workflows make on a loop's thread raises BlockingError.

    A test about such a call asks for this fixture and deactivates it.
    """
    # plait loads its modules when they are first used; within a test that import would be the blocking call.
    for module in ("plait.models", "plait.runs"):
        import_module(module)
    with blockbuster_ctx(scanned_modules=_OURS) as blockbuster:
        yield blockbuster


@pytest.fixture(scope="session")
def postgres_instance() -> Generator[Server]:
    """A PostgreSQL server for the whole session; most tests want a `postgres` database of their own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_instance: Server) -> Generator[str]:
    """The DSN of an empty database, dropped after the test."""
    import psycopg  # loaded where it is needed: an extra

    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_instance.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield postgres_instance.url.rpartition("/")[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Path | str]:
    """Of a store that is not there yet, in each kind of database: a file, or the DSN of an empty schema."""
    if request.param == "sqlite":
        yield tmp_path / "store.db"
        return
    import psycopg  # loaded where it is needed: an extra

    server: Server = request.getfixturevalue("postgres_instance")
    name = f"s{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        yield f"{server.url}?options=-csearch_path%3D{name}"
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


@pytest.fixture(scope="session")
def redis_instance() -> Generator[Server]:
    """A Redis server for the whole session."""
    with redis_server() as server:
        yield server


@pytest.fixture
async def provider() -> AsyncGenerator[Simulator]:
    """A simulated provider in the test's own loop."""
    async with Simulator() as simulator:
        yield simulator
