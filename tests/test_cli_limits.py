"""`plait limits`: shows what was learnt, live too, and forgets it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from plait.flow.budgets import Part
from plait.flow.clock import SystemClock
from plait.flow.entries import Entry, Holder
from plait.flow.file_ledgers import FileLedger
from plait.flow.forgetting import forget
from plait.flow.headers import Kind
from plait.flow.host_budget import HostBudget, read
from plait.flow.known_limits import known_limits
from plait.flow.leases import Bound, Lease, Refusal, Report
from plait.settings import from_env
from plait.simulator import Behaviour, Profile, Simulator, running
from tests.command import PATIENCE_S, endpoint_env, on_terminal, plait, started

OPENAI, PARADIGM = "https://api.openai.com/v1", "https://llm.example.com/v1"


def limits_file() -> Path:
    return Path(os.environ["PLAIT_HOME"]) / "limits.db"


def note(name: str, *kinds: Kind, sent: int = 10, bound: Bound | None = None) -> None:
    """Let a budget take in that so many were sent, some of them refused."""
    budget = HostBudget(limits_file(), SystemClock())
    now = time.monotonic()
    refusals = [Refusal(kind, now, 5, 0.0, 100.0, 0.0, None) for kind in kinds]
    got: list[Lease] = []
    report = Report("1-0", sent=sent, sent_tokens=100.0 * sent, successes=sent - len(kinds), refusals=refusals)
    budget.exchange([Part(name, bound or Bound(), learns=not name.endswith("*"))], report, got.append)
    budget.exchange([Part(name, bound or Bound())], Report("1-0", leaving=True), got.append)
    budget.close()
    assert len(got) == 2


# --- showing -------------------------------------------------------------------------------------------


def test_before_the_first_call_it_says_that_nothing_is_known() -> None:
    ended = plait("limits")
    assert ended.code == 0
    assert ended.out.startswith("nothing has been learnt yet: the first model call begins to (")
    assert plait("limits", "--json").out == "[]\n"
    assert "PLAIT_SHARE=0" in plait("limits", env={"PLAIT_SHARE": "0"}).out


@pytest.mark.real_time  # the run must be faster than the provider allows
def test_after_a_run_it_shows_what_the_run_found() -> None:
    with running(Profile(rpm=240, burst=3, headers="none", retry_after="none")) as server:
        topics = json.dumps([f"topic {index}" for index in range(14)])
        ended = plait("run", "stories", f"topics:={topics}", env=endpoint_env(server))
        assert ended.code == 0, ended.err
    shown = plait("limits")
    assert shown.code == 0, shown.err
    assert shown.out.startswith(f"{server.base_url}\n  test-model")
    assert "refused (requests " in shown.out
    assert "sk-test" not in shown.out
    (known,) = json.loads(plait("limits", "--json").out)
    assert known["model"] == "test-model"
    assert known["requests"]["source"] == "refusals"
    assert 24 < known["requests"]["per_minute"] < 480
    assert known["today"]["requests"] > 0


def test_it_fits_a_narrow_terminal() -> None:
    note(f"{OPENAI} - {'a-model-with-a-long-name' * 4}", "requests", "tokens", "concurrency")
    lines = plait("limits", env={"COLUMNS": "50"}).out.splitlines()
    assert max(map(len, lines)) <= 50
    assert any(line.strip().startswith("requests/min  about ") for line in lines)


def test_a_part_of_the_name_chooses_and_none_that_fits_is_refused_with_the_names() -> None:
    note(f"{OPENAI} - gpt")
    note(f"{PARADIGM} - alfred")
    assert "alfred" not in plait("limits", "OPENAI").out
    ended = plait("limits", "gemini")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "plait: expected a part of a known name, found 'gemini'; known:",
        f"  {OPENAI} gpt",
        f"  {PARADIGM} alfred",
    ]


def test_a_damaged_file_is_one_line() -> None:
    limits_file().parent.mkdir(parents=True)
    limits_file().write_bytes(b"no database, for all its length" * 100)
    ended = plait("limits")
    assert ended.code == 1
    cure = "the next model call sets it aside and learns anew"
    assert ended.err == f"plait: cannot read {limits_file()}: file is not a database; {cure}\n"


# --- forgetting ----------------------------------------------------------------------------------------


def test_forgetting_keeps_what_was_used_today() -> None:
    note(f"{OPENAI} - gpt", "requests", "day")
    note(f"{PARADIGM} - alfred", "requests")
    used = read(limits_file())[f"{OPENAI} - gpt"].day.requests
    ended = plait("limits", "--forget", "openai")
    assert ended.out == f"forgot what was learnt of {OPENAI} gpt\n"
    entries = read(limits_file())
    forgotten, kept = entries[f"{OPENAI} - gpt"], entries[f"{PARADIGM} - alfred"]
    assert (forgotten.requests.rate, forgotten.refused, forgotten.day.spent_until) == (None, {}, 0.0)
    assert forgotten.day.requests == used > 0
    assert kept.requests.rate is not None


def test_todays_counts_are_forgotten_by_an_option_of_their_own() -> None:
    note(f"{OPENAI} - gpt", "requests")
    ended = plait("limits", "--forget-today", "--json")
    assert json.loads(ended.out) == [f"{OPENAI} - gpt"]
    entry = read(limits_file())[f"{OPENAI} - gpt"]
    assert entry.requests.rate is not None
    assert entry.day.requests == 0
    plait("limits", "--forget", "--forget-today")
    assert read(limits_file()) == {}


def test_forgetting_leaves_the_users_bounds_and_the_calls_of_others() -> None:
    name = f"{OPENAI} - gpt"
    budget = HostBudget(limits_file(), SystemClock())
    got: list[Lease] = []
    report = Report(f"{os.getpid()}-0", in_flight=3, waiting=500, sent=60)
    budget.exchange([Part(name, Bound(rpm=60))], report, got.append)
    deadline = time.monotonic() + PATIENCE_S
    while not got and time.monotonic() < deadline:
        time.sleep(0.01)
    before = read(limits_file())[name]
    # Not by a command, in whose time to start a silent holder may be taken for dead.
    forget(FileLedger(limits_file(), SystemClock()), {name: "UTC"}, learnt=True, today=True)
    after = read(limits_file())[name]
    budget.close()
    assert after.day.requests < before.day.requests == 60
    assert after.rpm == before.rpm
    assert after.holders == before.holders


def test_nothing_to_forget_is_no_failure_and_watching_does_not_forget() -> None:
    assert plait("limits", "--forget").out == "nothing to forget\n"
    ended = plait("limits", "--forget", "--watch")
    assert ended.code == 2
    assert ended.err == "plait: --watch only looks: expected it without --forget and --forget-today\n"


# --- watching ------------------------------------------------------------------------------------------


def hold_everything(server: Simulator) -> None:
    server.behave = lambda body, index: Behaviour(delay_s=PATIENCE_S)


def test_watching_shows_the_calls_of_another_process_and_ends_with_ctrl_c() -> None:
    with running() as server, on_terminal("limits", "--watch", size=(80, 24)) as terminal:
        terminal.read_until("nothing has been learnt yet")
        hold_everything(server)
        with started("run", "stories", 'topics:=["a", "b"]', env=endpoint_env(server)):
            terminal.read_until(server.base_url, "in flight  2")
        terminal.read_until("in flight  0")
        os.kill(terminal.process.pid, signal.SIGINT)
        text = terminal.read_to_end()
    assert terminal.process.returncode == 130
    assert "Traceback" not in text


def test_watching_through_a_pipe_prints_lines_of_what_changed() -> None:
    name = f"{OPENAI} - gpt"
    with started("limits", "--watch", "--json") as watching:
        assert watching.stdout is not None
        note(name)
        assert json.loads(watching.stdout.readline())["today"]["requests"] == 10
        note(name)
        assert json.loads(watching.stdout.readline())["today"]["requests"] == 20
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 130


# --- what an entry says --------------------------------------------------------------------------------


def test_accounts_are_told_apart_only_where_there_are_several() -> None:
    entries = {f"{OPENAI} 0a0b0c0d gpt": Entry(), f"{OPENAI} - gpt": Entry(), f"{PARADIGM} 0a0b0c0d *": Entry()}
    titles = [known.title for known in known_limits(entries, from_env({}), 0.0, 1e9)]
    assert titles == ["gpt (key 0a0b0c0d)", "gpt (without a key)", "all models"]


def test_what_is_in_flight_is_that_of_living_processes_of_this_boot() -> None:
    entry = Entry()
    entry.holders = {"7-0": Holder(99.0, in_flight=2), "7-1": Holder(99.5, in_flight=3), "8-0": Holder(50.0, 0, 9)}
    (known,) = known_limits({f"{OPENAI} - gpt": entry}, from_env({}), 100.0, 1e9)
    assert (known.in_flight, known.processes) == (5, 1)
    entry.requests.at, entry.requests.quiet_until = 5000.0, 5100.0
    (known,) = known_limits({f"{OPENAI} - gpt": entry}, from_env({}), 100.0, 1e9)
    assert (known.in_flight, known.paused_until) == (0, None)


def test_rates_say_who_told_them_and_pauses_are_wall_time() -> None:
    entry = Entry()
    entry.requests.rate = entry.requests.told = 10.0
    entry.tokens.rate, entry.tokens.guessed, entry.requests.quiet_until = 1000.0, True, 130.0
    (known,) = known_limits({f"{OPENAI} - gpt": entry}, from_env({}), 100.0, 1e9)
    assert (known.requests.per_minute, known.requests.source, known.requests.certainty) == (600, "headers", "confirmed")
    assert (known.tokens.per_minute, known.tokens.source, known.tokens.certainty) == (60_000, "refusals", "guess")
    assert known.paused_until is not None
    assert known.paused_until.timestamp() == pytest.approx(1e9 + 30)


def test_bounds_on_calls_in_flight_come_from_refusals_latency_or_the_settings() -> None:
    section = {"endpoints": {"p": {"base_url": f"{PARADIGM}/", "models": {"alfred": {"max_concurrency": 4}}}}}
    settings = from_env({}, section=section)
    entry = Entry()
    names = [f"{PARADIGM} - alfred", f"{PARADIGM} - other"]
    bounds = [known.concurrency for known in known_limits(dict.fromkeys(names, entry), settings, 0.0, 1e9)]
    assert [(bound.limit, bound.source) for bound in bounds] == [(4, "set"), (None, None)]
    entry.window.ceiling = 3.0
    (known,) = known_limits({names[0]: entry}, settings, 0.0, 1e9)
    assert (known.concurrency.limit, known.concurrency.source) == (3, "refusals")
    entry.window.cap = 2.0
    (known,) = known_limits({names[0]: entry}, settings, 0.0, 1e9)
    assert (known.concurrency.limit, known.concurrency.source) == (2, "latency")


def test_todays_counts_begin_anew_in_the_endpoints_time_zone_beside_what_is_allowed() -> None:
    section = {"endpoints": {"p": {"base_url": PARADIGM, "rpd": 100, "quota_timezone": "Asia/Tokyo"}}, "tpd": 5000}
    wall = 1_000_000_000.0  # 2001-09-09 01:46 UTC, 10:46 in Tokyo
    entry = Entry()
    entry.day.date, entry.day.requests = "2001-09-09", 7.0
    name = f"{PARADIGM} - *"
    (known,) = known_limits({name: entry}, from_env({}, section=section), 0.0, wall)
    assert (known.today.requests, known.today.most_requests, known.today.most_tokens) == (7, 100, 5000)
    (known,) = known_limits({name: entry}, from_env({}, section=section), 0.0, wall + 14 * 3600)
    assert (known.today.date, known.today.requests) == ("2001-09-10", 0)


def test_an_entry_of_an_unknown_shape_is_left_out() -> None:
    note(f"{OPENAI} - gpt")
    with closing(sqlite3.connect(limits_file())) as connection, connection:
        connection.execute("INSERT INTO entries VALUES (?, '{\"learns\": 7}', 0)", (f"{OPENAI} - old",))
    assert "old" not in plait("limits").out
