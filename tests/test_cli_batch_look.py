"""Looking at batches: progress in words and as a panel, the list, one batch, exports, and making room."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from plait.batches import Progress
from plait.cli.batch_screen import View
from plait.cli.batch_words import one_line, progress_line, summary
from plait.cli.durations import money, roughly, size, spell
from plait.cli.exits import ENDPOINT, PAUSED, USAGE, code_of
from plait.cli.lines import Lines
from plait.cli.options import span
from plait.errors import (
    BatchPaused,
    BudgetReached,
    CallRefused,
    InputError,
    PlaitError,
    QuotaReached,
    SettingsError,
    StoreError,
)
from plait.simulator import running
from tests.batch_apps import app_with, lines_of, only_batch
from tests.command import endpoint_env, on_terminal, plait, started

NOW = Progress(
    total=2000,
    done=480,
    failed=12,
    running=32,
    calls_in_flight=30,
    calls_waiting=8,
    rows_per_s=12.34,
    tokens_per_s=2140.0,
    elapsed_s=65.0,
    eta_s=122.0,
    tokens=96000,
    cost_usd=1.2345,
    expected_cost_usd=5.02,
    replayed_calls=35,
    limit="requests per minute at https://llm.example.com/v1 gpt-5.4-mini",
    errors={"EndpointUnreachable": 9, "ValueError": 2, "KeyError": 1, "TypeError": 1},
    last_errors={"EndpointUnreachable": "https://user:secret@llm.example.com\nanswered \x1b[2J500"},
)


# --- words ---------------------------------------------------------------------------------------------


def test_a_line_of_progress_says_all_that_a_log_needs() -> None:
    assert progress_line("greet-1", NOW) == (
        "greet-1: 480 done, 12 failed, 32 in flight of 2,000; 12.3 rows/s, 2,140 tokens/s; $1.23 so far, "
        "about $5.02 in all; 2 min 2 s left; waits for requests per minute at https://llm.example.com/v1 gpt-5.4-mini"
    )
    unknown = replace(NOW, total=None, cost_usd=None, eta_s=None, limit=None)
    assert progress_line("b", unknown) == "b: 480 done, 12 failed, 32 in flight; 12.3 rows/s, 2,140 tokens/s"


def test_the_summary_says_what_was_replayed_skipped_and_is_left() -> None:
    assert summary("b", replace(NOW, bad_rows=1)) == (
        "b: 480 of 2,000 rows done, 12 failed, 1,508 pending in 1 min 5 s; 96,000 tokens; $1.23; "
        "35 calls replayed for free; 1 row could not be read and was skipped"
    )
    whole = replace(NOW, done=2000, failed=0, replayed_calls=0, cost_usd=None)
    assert summary("b", whole) == "b: all 2,000 rows done in 1 min 5 s; 96,000 tokens"


def test_messages_become_one_line_without_secrets_or_control_characters() -> None:
    assert one_line(NOW.last_errors["EndpointUnreachable"]) == "https://***@llm.example.com answered [2J500"
    assert len(one_line("x" * 1000)) == 200


@pytest.mark.parametrize("width", [40, 44, 60, 100])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_panel_fits_terminals_down_to_40_columns(width: int, encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(View("summarize-1121-1004-k3", NOW, draining=False))
    lines = capture.get().splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= 14
    shown = " ".join(lines)
    for part in ("480 done", "12 failed", "32 in flight", "12.3 rows/s", "2,140 tokens/s", "$1.23 so far", " 24 %"):
        assert part in shown
    for part in ("2 min 2 s left", "35 replayed", "waits for requests", "9 x EndpointUnreachable", "1 more kind"):
        assert part in shown
    assert "secret" not in shown
    if encoding == "ascii":
        assert shown.isascii() or "…" in shown
        assert "#" in shown


def test_the_panel_of_a_draining_batch_says_what_ctrl_c_does_now() -> None:
    console = Console(width=44, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(View("b", replace(NOW, total=None), draining=True))
    assert "ending 32 rows in flight" in capture.get()
    assert "Ctrl-C again stops at once" in capture.get()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("45s", 45.0), ("15m", 900.0), ("2h", 7200.0), ("1h30m", 5400.0), ("30d", 2.592e6)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert span(text, "--deadline") == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "soon", "2w", "h", "1e999"])
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"--deadline: expected a time above 0"):
        span(text, "--deadline")


def test_numbers_are_spelled_for_people() -> None:
    assert [spell(seconds) for seconds in (0.2, 59.6, 200, 3600, 7500, 100_000)] == [
        "0 s",
        "1 min",
        "3 min 20 s",
        "1 h 00 min",
        "2 h 05 min",
        "1 d 3 h",
    ]
    assert [roughly(seconds) for seconds in (5, 150, 8000, 1e6)] == ["5 s", "2 min", "2 h", "12 d"]
    assert [money(usd) for usd in (0, 0.00001, 0.004, 0.123456, 1234.5)] == [
        "$0.00",
        "under $0.0001",
        "$0.0040",
        "$0.123",
        "$1,234.50",
    ]
    assert [size(number) for number in (5, 1234, 56_789, 3.2e6, 4.56e9)] == [
        "5 B",
        "1.2 KB",
        "57 KB",
        "3.2 MB",
        "4.6 GB",
    ]


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (BudgetReached("spent"), PAUSED),
        (PlaitError("--max-errors"), PAUSED),
        (StoreError("full disk"), PAUSED),
        (CallRefused("key"), ENDPOINT),
        (QuotaReached("e", 0.0, 1.0), ENDPOINT),
        (SettingsError("no model"), USAGE),
    ],
)
def test_a_paused_batch_has_the_exit_code_of_its_cause(cause: PlaitError, code: int) -> None:
    assert code_of(BatchPaused("b", 3, cause)) == code


# --- lines ---------------------------------------------------------------------------------------------


async def test_a_reader_that_stands_still_holds_nothing_up_until_many_lines_wait() -> None:
    go_on, written = threading.Event(), []

    def write(text: str) -> None:
        go_on.wait(30)
        written.append(text)

    lines = Lines(write)
    for number in range(500):
        await lines.put(str(number))
    full = asyncio.ensure_future(asyncio.wait_for(_put_many(lines), 30))
    await asyncio.sleep(0)
    assert not full.done()
    go_on.set()
    await full
    await lines.close()
    assert "".join(written) == "".join(f"{number}\n" for number in (*range(500), *range(2000)))


async def _put_many(lines: Lines) -> None:
    for number in range(2000):
        await lines.put(str(number))


async def test_a_reader_that_left_is_noticed_at_the_end_at_the_latest() -> None:
    def write(text: str) -> None:
        raise BrokenPipeError

    lines = Lines(write)
    await lines.put("one")
    with pytest.raises(BrokenPipeError):
        await lines.close()


# --- commands ------------------------------------------------------------------------------------------


def test_list_show_export_doctor_and_prune_tell_of_the_same_batch(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one", "bad text", "three"])
    with running() as provider:
        env = endpoint_env(provider) | {"PLAIT_MODEL": "openai:gpt-5.4-mini"}
        plait("batch", "ask", "texts.jsonl", "--id", "id", "--quiet", "--out", "o.jsonl", cwd=app, env=env)
    batch = only_batch()
    name = str(batch["id"])
    assert (batch["done"], batch["failed"], batch["total"], batch["status"]) == (2, 1, 3, "finished")
    assert isinstance(batch["cost_usd"], float)
    table = plait("batches", env={"COLUMNS": "80"}).out.splitlines()
    assert table[0].split() == ["batch", "workflow", "status", "done", "failed", "rows", "cost", "age", "size"]
    assert table[1].split()[:7] == [name, "ask", "finished", "2", "1", "3", "under"]
    assert all(len(line) <= 40 for line in plait("batches", env={"COLUMNS": "40"}).out.splitlines())

    shown = plait("show", name[:6], "--errors", "1", env={"COLUMNS": "120"}).out
    for part in (
        f"{name}  finished",
        f"data      {app / 'texts.jsonl'}",
        "2 of 3 rows done, 1 failed, 0 pending",
        "gpt-5.4-mini",
        "1 x ValueError",
        "row 2 (r1): ValueError: node 'ask' raised ValueError: no such text",
        f"plait resume {name} --errors-only",
        f"plait export {name} FILE.csv",
    ):
        assert part in shown
    found = json.loads(plait("show", name, "--json").out)
    assert (found["kinds"], found["counts"]) == ({"ValueError": 1}, {"success": 2, "error": 1})
    assert found["models"][0]["totals"]["calls"] == 2

    exported = plait("export", name, str(tmp_path / "good.csv"), "--status", "success")
    assert exported.code == 0, exported.err
    with (tmp_path / "good.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["r0", "r2"]
    again = plait("export", name, str(tmp_path / "good.csv"))
    assert again.code == 2
    assert "replace it with --force" in again.err
    wrong = plait("export", name, "x.csv", "--status", "good")
    assert (wrong.code, wrong.err) == (
        2,
        "plait: --status: expected some of success,error,timeout,interrupted, found good\n",
    )

    assert "batches: 1 in " in plait("doctor").out
    assert plait("prune", "--older-than", "1h").err == "freed 0 B (0 batches)\n"
    folder = Path(str(batch["folder"]))
    for kept in folder.iterdir():
        os.utime(kept, (1.0, 1.0))
    dry = plait("prune", "--older-than", "30d", "--dry-run")
    assert dry.out.startswith(f"{name}  finished, 2 done, 1 failed, ")
    assert dry.err.startswith("would free ")
    assert folder.exists()
    assert plait("prune", "--older-than", "30d").out == dry.out
    assert not folder.exists()
    assert plait("show", name).code == 2


def test_show_watches_a_batch_that_another_process_runs_to_its_end(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one", "two", "three"])
    with running() as provider:
        provider.close_gate()
        words = ["batch", "ask", "texts.jsonl"]
        with started(*words, cwd=app, env=endpoint_env(provider)) as command:
            provider.wait_arrived(3)
            name = str(only_batch()["id"])
            with on_terminal("show", name, "--watch") as terminal:
                terminal.read_until(f"{name}  running", "0 of 3 rows done", "limits now")
                provider.open_gate()
                out, err = command.communicate(timeout=60)
                text = terminal.read_to_end()
            assert (command.returncode, len(lines_of(out.decode()))) == (0, 3), err.decode()
    assert terminal.process.returncode == 0
    assert f"{name}  finished" in text
    assert "3 of 3 rows done, 0 failed, 0 pending" in text


def test_a_batch_that_cannot_be_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one"])
    plait("batch", "count", "texts.jsonl", cwd=app)
    folder = Path(str(only_batch()["folder"]))
    for file in folder.glob("batch.db*"):
        file.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    listed = plait("batches")
    assert listed.code == 0
    assert "unreadable" in listed.out
    assert plait("show", folder.name).code == 1
    assert "cannot be read" in plait("doctor").out
