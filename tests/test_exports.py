"""Exports: every format, in input order, whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from plait.errors import SettingsError
from plait.exports import SUFFIXES, check_target, export, json_line
from plait.store.folders import FolderPlace
from plait.store.rows import RowError, RowRecord

USAGE = {"calls": 1, "input_tokens": 10, "cached_tokens": 4, "output_tokens": 3}


def row(position: int, outputs: object) -> RowRecord:
    return RowRecord(position, f"r{position}", "success", outputs, usage=USAGE)


FAILED = RowRecord(9, "é9", "error", None, RowError("ValueError", 'no, "really"\nno'))
ROWS = [
    row(1, {"text": 'a,"b"\nc', "n": 1, "id": "own", "tags": ["x", 1], "ok": True, "score": 1}),
    row(0, {"text": "日本", "n": None, "score": 0.5, "odd": 7}),
    row(2, {"odd": "seven", "text": "=1+1", "nested": {"a": {"b": 1}}}),
    FAILED,
]


def stored(folder: Path, rows: Sequence[RowRecord]) -> Path:
    async def store() -> None:
        batch = await FolderPlace(folder).create({})
        for each in rows:
            batch.put(each)
        await batch.close()

    asyncio.run(store())
    return folder


def exported(folder: Path, target: Path, rows: Sequence[RowRecord]) -> Path:
    with FolderPlace(stored(folder, rows)).read() as reader:
        assert export(reader, check_target(target, force=False)) == len(rows)
    return target


def test_json_lines_hold_id_outputs_error_and_usage_in_input_order(tmp_path: Path) -> None:
    target = exported(tmp_path / "b", tmp_path / "out.jsonl", ROWS)
    text = target.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["id"] for line in lines] == ["r0", "r1", "r2", "é9"]
    assert lines[1] == {"id": "r1", "outputs": ROWS[0].outputs, "error": None, "usage": USAGE}
    error = {"type": "ValueError", "message": 'no, "really"\nno'}
    assert lines[3] == {"id": "é9", "outputs": None, "error": error, "usage": {}}
    assert text.splitlines() == [json_line(each) for each in sorted(ROWS, key=lambda each: each.position)]
    assert "日本" in text


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_table_of_text_has_a_column_for_every_field_of_any_row(tmp_path: Path, suffix: str, separator: str) -> None:
    target = exported(tmp_path / "b", tmp_path / f"out.{suffix}", ROWS)
    with target.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter=separator))
    assert list(table[0]) == [
        *("id", "text", "n", "score", "odd", "outputs.id", "tags", "ok", "nested"),
        *("error", "status", "input_tokens", "cached_tokens", "output_tokens"),
    ]
    assert table[1]["text"] == 'a,"b"\nc'
    assert (table[1]["outputs.id"], table[1]["tags"], table[1]["ok"]) == ("own", '["x",1]', "true")
    assert (table[2]["text"], table[2]["nested"]) == ("=1+1", '{"a":{"b":1}}')
    assert (table[0]["n"], table[0]["score"], table[0]["cached_tokens"]) == ("", "0.5", "4")
    assert (table[3]["id"], table[3]["status"], table[3]["error"]) == ("é9", "error", 'ValueError: no, "really"\nno')


def test_parquet_takes_its_types_from_all_rows(tmp_path: Path) -> None:
    table = pq.read_table(exported(tmp_path / "b", tmp_path / "out.parquet", ROWS))
    types = {field.name: field.type for field in table.schema}
    assert types == {
        "id": pa.string(),
        "text": pa.string(),
        "n": pa.int64(),
        "score": pa.float64(),
        "odd": pa.string(),
        "outputs.id": pa.string(),
        "tags": pa.string(),
        "ok": pa.bool_(),
        "nested": pa.string(),
        "error": pa.string(),
        "status": pa.string(),
        "input_tokens": pa.int64(),
        "cached_tokens": pa.int64(),
        "output_tokens": pa.int64(),
    }
    columns = table.to_pydict()
    assert columns["score"] == [0.5, 1.0, None, None]
    assert columns["odd"] == ["7", None, "seven", None]
    assert columns["ok"] == [None, True, None, None]
    assert columns["output_tokens"] == [3, 3, 3, None]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_awkward_values_are_written_and_not_lost(tmp_path: Path, suffix: str) -> None:
    rows = [row(0, {"big": 2**70, "half": "\ud83d", "none": None}), row(1, "just text"), row(2, [1, 2])]
    target = exported(tmp_path / "b", tmp_path / f"out.{suffix}", rows)
    if suffix == "jsonl":
        outputs = [json.loads(line)["outputs"] for line in target.read_text(encoding="utf-8").splitlines()]
        assert outputs == [each.outputs for each in rows]
        return
    if suffix == "csv":
        with target.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
    else:
        table = pq.read_table(target).to_pylist()
    assert (table[0]["big"], table[0]["half"]) == (str(2**70), "\\ud83d")
    assert [line["outputs"] for line in table[1:]] == ["just text", "[1,2]"]
    assert not table[0]["none"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_rows_than_a_chunk_and_none_at_all_are_written(tmp_path: Path, suffix: str) -> None:
    many = exported(tmp_path / "many", tmp_path / f"many{suffix}", [row(n, {"n": n}) for n in range(12_000)])
    none = exported(tmp_path / "none", tmp_path / f"none{suffix}", [])
    if suffix == ".parquet":
        assert pq.read_table(many)["n"].to_pylist() == list(range(12_000))
        assert pq.read_table(none).num_rows == 0
    else:
        heads = 0 if suffix in (".jsonl", ".ndjson") else 1
        assert len(many.read_text().splitlines()) == 12_000 + heads
        assert len(none.read_text().splitlines()) == heads
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", f"many{suffix}", "none", f"none{suffix}"]


def test_only_the_asked_for_statuses_are_written(tmp_path: Path) -> None:
    with FolderPlace(stored(tmp_path / "b", ROWS)).read() as reader:
        assert export(reader, tmp_path / "errors.jsonl", statuses=["error", "timeout"]) == 1
    assert json.loads((tmp_path / "errors.jsonl").read_text())["id"] == "é9"


def test_a_target_that_cannot_be_written_is_found_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("old")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("x")
    for name, message in (
        ("there.csv", "--force"),
        ("folder.csv", "no regular file"),
        ("out.xlsx", r"\.jsonl, \.ndjson, \.csv, \.tsv, \.parquet, found \.xlsx"),
        ("out", "found none"),
        ("missing/out.csv", "no folder"),
        ("file/out.csv", "no folder"),
    ):
        with pytest.raises(SettingsError, match=message):
            check_target(tmp_path / name, force=False)
    assert check_target(tmp_path / "there.csv", force=True) == tmp_path / "there.csv"
    assert check_target(tmp_path / "NEW.CSV", force=False) == tmp_path / "NEW.CSV"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.csv", "there.csv"]
    if os.geteuid():
        (tmp_path / "folder.csv").chmod(0o500)
        with pytest.raises(SettingsError, match="may write"):
            check_target(tmp_path / "folder.csv" / "out.csv", force=False)


def test_a_link_keeps_pointing_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    with FolderPlace(stored(tmp_path / "b", ROWS)).read() as reader:
        export(reader, check_target(tmp_path / "link.jsonl", force=True))
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len((tmp_path / "real.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_disk_that_fills_up_leaves_the_older_file_and_no_part(tmp_path: Path, suffix: str) -> None:
    stored(tmp_path / "b", [row(n, {"text": os.urandom(500).hex()}) for n in range(500)])
    target = tmp_path / f"out.{suffix}"
    target.write_text("older")
    source = """
    import resource, signal, sys
    from pathlib import Path
    from plait.errors import StoreError
    from plait.exports import export
    from plait.store.folders import FolderPlace
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with FolderPlace(Path(sys.argv[1])).read() as reader:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        try:
            export(reader, Path(sys.argv[2]))
        except StoreError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(source), str(tmp_path / "b"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert "plait export" in done.stdout, done.stderr
    assert target.read_text() == "older"
    assert sorted(os.listdir(tmp_path)) == ["b", target.name]
