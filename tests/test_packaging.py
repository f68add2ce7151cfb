"""What is installed: one import package, the bundled app as data, names that resolve."""

from __future__ import annotations

import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import plait
from plait import errors
from plait.errors import PlaitError
from tests.command import plait as run_plait

ROOT = Path(__file__).parents[1]


def test_every_public_name_resolves() -> None:
    assert plait.__all__ == sorted(plait.__all__)
    assert all(getattr(plait, name) is not None for name in plait.__all__)
    assert dir(plait) == plait.__all__


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    found = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PlaitError)]
    assert found == errors.__all__
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in found)


def test_a_wheel_holds_one_package_and_runs_its_app_anywhere(tmp_path: Path) -> None:
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    wheel = tmp_path / done.stdout.split()[-1]
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    packages = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert packages == {"plait"}
    assert (unpacked / "plait" / "py.typed").exists()
    assert not list(unpacked.rglob("__pycache__"))
    listed = run_plait("list", cwd=tmp_path, env={"PYTHONPATH": str(unpacked)})
    assert listed.code == 0, listed.err
    assert "story" in listed.out
    graph = run_plait("graph", "stories", cwd=tmp_path, env={"PYTHONPATH": str(unpacked)})
    assert "write" in graph.out, graph.err
