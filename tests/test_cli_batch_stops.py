"""Stopping `plait batch`: Ctrl-C once and twice, SIGTERM, a reader that leaves; nothing is lost or paid for twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from plait.simulator import Clock, Profile, Simulator, running
from tests.batch_apps import app_with, lines_of, only_batch
from tests.command import PATIENCE_S, endpoint_env, on_terminal, plait, started

ROWS = 60
WORDS = ["batch", "ask", "texts.jsonl", "--id", "id", "--max-concurrency", "4"]


def app_of(folder: Path) -> Path:
    return app_with(folder, [f"text {number}" for number in range(ROWS)])


def resumed(provider: Simulator, *words: str) -> None:
    """Go on to the end, and check that no answer was asked for again but those in flight at the stop."""
    provider.open_gate()
    ended = plait("resume", *words, env=endpoint_env(provider))
    assert ended.code == 0, ended.err
    assert only_batch()["status"] == "finished"
    assert only_batch()["done"] == ROWS


def read_until(process: subprocess.Popen[bytes], word: str) -> str:
    """What the command says on stderr up to the line that has the word."""
    assert process.stderr is not None
    said = ""
    while word not in said:
        line = process.stderr.readline().decode()
        assert line, f"expected {word!r}, found {said!r}"
        said += line
    return said


def test_ctrl_c_lets_the_rows_in_flight_end_writes_out_and_names_the_way_on(tmp_path: Path) -> None:
    with running() as provider:
        provider.close_gate()
        with started(*WORDS, "--out", "o.jsonl", cwd=app_of(tmp_path), env=endpoint_env(provider)) as command:
            provider.wait_arrived(4)
            command.send_signal(signal.SIGINT)
            said = read_until(command, "Ctrl-C again stops at once")
            provider.open_gate()
            out, err = command.communicate(timeout=PATIENCE_S)
        said += err.decode()
        assert (command.returncode, out) == (130, b""), said
        batch = only_batch()
        done = lines_of((tmp_path / "o.jsonl").read_text())
        assert 4 <= len(done) < ROWS
        assert provider.counters.received == len(done)
        left = ROWS - len(done)
        assert f"plait: stopped by Ctrl-C; {left} rows pending and nothing is lost: plait resume {batch['id']}" in said
        assert batch["status"] == "paused"
        resumed(provider)
        assert provider.counters.received == ROWS
    assert [row["id"] for row in lines_of((tmp_path / "o.jsonl").read_text())] == [f"r{n}" for n in range(ROWS)]


@pytest.mark.real_time  # a stop has five seconds to end orderly
def test_ctrl_c_twice_stops_at_once_and_rows_in_flight_stay_pending(tmp_path: Path) -> None:
    with running() as provider:
        provider.close_gate()
        with started(*WORDS, "--out", "o.jsonl", cwd=app_of(tmp_path), env=endpoint_env(provider)) as command:
            provider.wait_arrived(4)
            command.send_signal(signal.SIGINT)
            read_until(command, "Ctrl-C again stops at once")
            command.send_signal(signal.SIGINT)
            _, err = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 130, err.decode()
        assert (
            f"stopped; o.jsonl was not written; {ROWS} rows pending and nothing is lost: plait resume" in err.decode()
        )
        assert not (tmp_path / "o.jsonl").exists()
        resumed(provider)
        assert provider.counters.received == ROWS + 4


@pytest.mark.real_time  # a stop has five seconds to end orderly
def test_sigterm_stops_at_once_and_orderly(tmp_path: Path) -> None:
    with running() as provider:
        provider.close_gate()
        with started(*WORDS, cwd=app_of(tmp_path), env=endpoint_env(provider)) as command:
            provider.wait_arrived(4)
            command.send_signal(signal.SIGTERM)
            out, err = command.communicate(timeout=PATIENCE_S)
        assert (command.returncode, out) == (143, b"")
        assert f"plait: stopped; {ROWS} rows pending and nothing is lost: plait resume" in err.decode()
        assert only_batch()["cause"] == "stopped"
        resumed(provider)


def test_a_reader_that_leaves_ends_the_batch_with_141_and_it_can_be_gone_on_with(tmp_path: Path) -> None:
    with running() as provider:
        with started(*WORDS, cwd=app_of(tmp_path), env=endpoint_env(provider)) as command:
            assert command.stdout is not None
            assert command.stderr is not None
            command.stdout.close()
            err = command.stderr.read().decode()
            assert command.wait(PATIENCE_S) == 141, err
        assert "nobody reads the output any more; " in err
        assert "Traceback" not in err
        batch = only_batch()
        assert str(batch["id"]) in err
        ended = plait("resume", str(batch["id"]), env=endpoint_env(provider))
        assert ended.code == 0
        assert only_batch()["done"] == ROWS


def at_eleven() -> Clock:
    """An hour before midnight: what resets within a minute would pass for a limit of requests a minute."""
    day = Clock(frozen=True)
    day.advance((82_800 - day.wall()) % 86_400)
    return day


@pytest.mark.real_time  # a stop has five seconds to end orderly
def test_wait_stays_for_a_days_quota_to_reset_and_ctrl_c_ends_the_waiting(tmp_path: Path) -> None:
    with running(Profile(rpd=20), clock=at_eleven()) as provider:
        words = [*WORDS, "--wait", "--out", "o.jsonl"]
        with started(*words, cwd=app_of(tmp_path), env=endpoint_env(provider)) as command:
            said = read_until(command, "waiting until then, and then going on by itself")
            assert "daily quota is used up; it resets at " in said
            assert only_batch()["status"] == "paused"
            command.send_signal(signal.SIGINT)
            _, err = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 130, err.decode()
        assert "plait: stopped; 40 rows pending and nothing is lost: plait resume " in err.decode()
        assert len(lines_of((tmp_path / "o.jsonl").read_text())) == 20
        assert "resets" in plait("show", str(only_batch()["id"])).out


def begun_again_until_the_quota(app: Path, provider: Simulator) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """`plait resume --errors-only --force --wait` over rows that fail no more, of which two are asked for a day."""
    (app / "ask.py").write_text((app / "ask.py").read_text().replace('"bad"', '"worse"'))
    provider.change(rpd=2)
    words = ["resume", "--errors-only", "--force", "--wait", "--max-wait", "0", "--max-concurrency", "2"]
    return started(*words, cwd=app, env=endpoint_env(provider))


def test_errors_only_does_not_wait_where_rows_it_leaves_out_are_pending(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["bad"] * 5 + ["good"] * ROWS)
    with running(Profile(latency_s=0.1), clock=at_eleven()) as provider:
        words = [*WORDS, "--max-errors", "4"]
        assert plait(*words, cwd=app, env=endpoint_env(provider)).code == 5
        before = provider.counters.accepted
        assert before < ROWS
        with begun_again_until_the_quota(app, provider) as command:
            _, err = command.communicate(timeout=PATIENCE_S)
        assert command.returncode == 4, err.decode()
        assert "--wait does not go on here: rows that --errors-only leaves out are pending, too" in err.decode()
        assert provider.counters.accepted <= before + 2


def test_a_batch_that_pauses_gives_every_result_to_a_reader_however_slow(tmp_path: Path) -> None:
    app = app_with(tmp_path, [f"{number} {'long ' * 1000}" for number in range(100)] + ["bad"] + ["more"] * 2000)
    words = ["batch", "count", "texts.jsonl", "--id", "id", "--max-errors", "0"]
    with started(*words, cwd=app) as command:
        while not list(Path(os.environ["PLAIT_HOME"]).glob("batches/*/batch.db")) or only_batch()["status"] != "paused":
            assert command.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            command.wait(3)  # it stays for the reader
        out, err = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 5, err.decode()
    assert len(out) > 300_000
    batch = only_batch()
    assert len(lines_of(out.decode())) == int(str(batch["done"])) + int(str(batch["failed"]))


def test_where_results_cannot_be_written_the_way_on_is_told(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one"])
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "plait.cli", "batch", "count", "texts.jsonl"]
        done = subprocess.run(words, cwd=app, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert f"plait export {only_batch()['id']} FILE" in done.stderr.decode()
    assert "cannot write to standard output: No space left on device" in done.stderr.decode()


def test_a_killed_batch_is_listed_as_paused_and_goes_on(tmp_path: Path) -> None:
    with running() as provider:
        provider.close_gate()
        with started(*WORDS, cwd=app_of(tmp_path), env=endpoint_env(provider)) as command:
            provider.wait_arrived(4)
            assert only_batch()["status"] == "running"
            busy = plait("resume", env=endpoint_env(provider))
            assert busy.code == 2
            assert f"is being run by process {command.pid}" in busy.err
            command.kill()
            command.wait(PATIENCE_S)
        assert only_batch()["status"] == "paused"
        assert "was interrupted; plait resume" in plait("batches").out
        resumed(provider)


def test_on_a_terminal_a_panel_shows_how_far_it_is_and_ctrl_c_drains(tmp_path: Path) -> None:
    with running() as provider:
        provider.close_gate()
        words = [*WORDS, "--out", "o.jsonl"]
        with on_terminal(*words, cwd=app_of(tmp_path), env=endpoint_env(provider)) as terminal:
            terminal.read_until(" in flight", f"of {ROWS} rows", "0 done")
            os.killpg(terminal.process.pid, signal.SIGINT)
            terminal.read_until(" rows in flight", "Ctrl-C again stops at once")
            provider.open_gate()
            text = terminal.read_to_end()
        assert terminal.process.returncode == 130
        end = text[text.rindex("\x1b[2K") :]
        assert " rows done, " in end
        assert "plait resume " in end
        assert "\x1b[?25h" in text  # the cursor is shown again


def test_on_a_terminal_results_stand_above_the_panel_and_move_no_cursor(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["a\x9b2Jb"])
    with on_terminal("batch", "count", "texts.jsonl", cwd=app) as terminal:
        text = terminal.read_to_end()
    assert terminal.process.returncode == 0
    assert '"length":5' in text
    assert "\\u009b2J" in text
    assert "\x9b" not in text
    assert "all 1 row done" in text
