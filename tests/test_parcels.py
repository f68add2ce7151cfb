"""Apps that travel: what is packed, what stays at home, and where it is unpacked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from plait.app import find_app
from plait.batches import parcels
from plait.batches.parcels import pack, unpack
from plait.errors import AppError
from tests.batch_apps import app_with


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("name", [".env", "prod.env", "./keys"])
def test_an_app_arrives_as_it_was_without_its_keys_and_what_is_installed(tmp_path: Path, name: str) -> None:
    app = app_with(tmp_path / "app", ["a"])
    description = json.loads((app / "langgraph.json").read_text())
    (app / "langgraph.json").write_text(json.dumps(description | {"env": name}))
    (app / name).write_text("KEY=sk-secret")
    for folder in (".git", ".venv", "node_modules", "__pycache__"):
        (app / folder).mkdir()
        (app / folder / "x.py").write_text("")
    parcel = pack(app)
    there = unpack(parcel)
    assert sorted(each.name for each in there.iterdir()) == ["ask.py", "count.py", "langgraph.json", "texts.jsonl"]
    assert find_app(there).workflows == find_app(app).workflows
    assert find_app(there).env == {}
    assert b"sk-secret" not in parcel.content


def test_the_same_files_are_one_parcel_which_is_unpacked_once(tmp_path: Path) -> None:
    app = app_with(tmp_path / "app", ["a"])
    first, second = pack(app), pack(app)
    assert first == second
    assert unpack(first) == unpack(second)
    (app / "ask.py").touch()
    assert pack(app) == first
    (app / "ask.py").write_text("graph = None")
    assert pack(app).digest != first.digest


def test_a_large_file_stays_and_is_named_and_a_large_app_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_with(tmp_path / "app", ["a"])
    (app / "data").mkdir()
    (app / "data" / "corpus.bin").write_bytes(b"x" * 3_000)
    monkeypatch.setattr(parcels, "_LARGE_BYTES", 2_000)
    assert pack(app).large == ("data/corpus.bin",)
    monkeypatch.setattr(parcels, "_LARGE_BYTES", 10_000)
    monkeypatch.setattr(parcels, "_MOST_BYTES", 2_500)
    with pytest.raises(AppError, match=r"at most to send to the cluster's machines, found more: .*data \(0 MB\)"):
        pack(app)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that nobody can read")
def test_a_file_that_cannot_be_read_is_named_with_a_cure(tmp_path: Path) -> None:
    app = app_with(tmp_path / "app", ["a"])
    (app / "odd").symlink_to("/proc/self/mem")
    with pytest.raises(
        AppError, match=r"/app: expected files .*, found 'odd' \(Input/output error\): .*begin with a dot"
    ):
        pack(app)


def test_a_file_whose_name_is_no_text_is_named_with_a_cure(tmp_path: Path) -> None:
    app = app_with(tmp_path / "app", ["a"])
    try:
        Path(os.fsdecode(os.fsencode(app) + b"/caf\xe9.txt")).write_text("")
    except OSError:
        pytest.skip("this file system holds no such name")
    with pytest.raises(
        AppError, match=r"/app: expected files .*, found 'caf\\udce9.txt' \(its name is not UTF-8\)"
    ) as raised:
        pack(app)
    assert str(raised.value).encode()


def test_a_folder_of_somebody_else_is_not_unpacked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = pack(app_with(tmp_path / "app", ["a"]))
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with pytest.raises(AppError, match="found somebody else's"):
        unpack(parcel)
