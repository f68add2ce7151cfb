"""Connections to Ray that cannot be had or do not end well: what is said, and that nothing else is raised.

Ray stands here for one that fails, which the installed one does on other machines only; tests.test_ray has clusters.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from plait.batches.ray_sessions import RaySession
from plait.errors import SettingsError


class RayError(Exception):
    """As Ray's own: no RuntimeError, no OSError."""


def nothing(*_: object, **__: object) -> None:
    return None


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def ray(**parts: object) -> SimpleNamespace:
    """A module that connects to a cluster of one node; `parts` replaces some of it."""
    node = {"NodeManagerAddress": "127.0.0.1", "Alive": True}
    usual: dict[str, object] = {
        "is_initialized": lambda: False,
        "init": nothing,
        "shutdown": nothing,
        "nodes": lambda: [node],
        "get_runtime_context": lambda: SimpleNamespace(gcs_address="127.0.0.1:6379"),
        "util": SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1"),
        "_private": SimpleNamespace(worker=SimpleNamespace()),
    }
    return SimpleNamespace(**usual | parts)


@pytest.mark.parametrize(
    ("address", "error", "expected"),
    [
        (
            "10.0.0.1:6379",
            RayError("Token authentication is enabled but no token was found. Ensure that it is there."),
            r"--ray 10.0.0.1:6379: Token authentication is enabled but no token was found: .*RAY_AUTH_TOKEN$",
        ),
        (
            "local",
            Exception("The current node timed out during startup. This could happen because of many things."),
            r"expected Ray to start on this machine, found: The current node timed out during startup: ",
        ),
        ("local", OSError(28, "No space left on device"), r"--ray local: .* No space left on device: make room .*/tmp"),
    ],
)
def test_whatever_ray_raises_as_it_begins_is_said_with_a_cure(
    monkeypatch: pytest.MonkeyPatch, address: str, error: Exception, expected: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray(init=failing(error)))
    with pytest.raises(SettingsError, match=expected):
        RaySession(address)


def test_a_cluster_that_is_lost_as_it_is_looked_at_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    found = ray(nodes=failing(RayError("the head does not answer")), shutdown=lambda: closed.append(True))
    monkeypatch.setitem(sys.modules, "ray", found)
    with pytest.raises(SettingsError, match="the head does not answer"):
        RaySession("10.0.0.1:6379")
    assert closed == [True]


def test_a_connection_that_does_not_end_well_takes_no_results_along(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray(shutdown=failing(RuntimeError("it hangs"))))
    session = RaySession("local")
    folder = Path(session._folder or "")
    assert folder.is_dir()
    with caplog.at_level(logging.WARNING, "plait"):
        session.close()
    assert "Ray did not end well, and may have left processes: it hangs" in caplog.text
    assert not folder.exists()


def test_a_ray_that_cannot_be_imported_is_named_with_its_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('libray.so: wrong ELF class')")
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=r"cannot be imported \(ImportError: libray.so: wrong ELF class\)"):
        RaySession("local")
