"""`plait batch` and `plait resume` from a dataset to results: rows, files, refusals before anything is spent."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from plait import resume as python_resume
from plait.cli.batch import pause_values
from plait.cli.options import PauseFlags
from plait.simulator import Profile, running
from tests.batch_apps import app_with, lines_of, only_batch
from tests.command import endpoint_env, plait

TEXTS = ["one", "three", "bad text", "four", ""]


def test_results_are_json_lines_on_stdout_and_all_else_is_on_stderr(tmp_path: Path) -> None:
    app = app_with(tmp_path, TEXTS)
    ended = plait("batch", "count", "texts.jsonl", "--id", "id", cwd=app)
    results = {str(row["id"]): row for row in lines_of(ended.out)}
    assert ended.code == 1
    assert all(list(row) == ["id", "outputs", "error", "usage"] for row in results.values())
    assert {name: row["outputs"] for name, row in results.items()} == {
        "r0": {"text": "one", "length": 3},
        "r1": {"text": "three", "length": 5},
        "r2": None,
        "r3": {"text": "four", "length": 4},
        "r4": {"text": "", "length": 0},
    }
    assert results["r2"]["error"] == {
        "type": "ValueError",
        "message": "node 'count' raised ValueError: no such text",
    }
    batch = only_batch()
    assert "counting\n" in ended.err
    assert f"{batch['id']}: 4 of 5 rows done, 1 failed in " in ended.err
    assert "plait: 1 row failed" in ended.err
    assert "1 x ValueError: node 'count' raised ValueError: no such text" in ended.err
    assert f"plait resume {batch['id']} --errors-only" in ended.err


def test_out_holds_the_rows_in_their_order_and_takes_the_place_of_stdout(tmp_path: Path) -> None:
    app = app_with(tmp_path, [f"text {number}" for number in range(30)])
    with running() as provider:
        env = endpoint_env(provider)
        ended = plait("batch", "ask", "texts.jsonl", "--id", "id", "--out", "o.csv", cwd=app, env=env)
    assert (ended.code, ended.out) == (0, ""), ended.err
    with (app / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(30)]
    assert all(row["status"] == "success" and row["answer"] for row in rows)
    assert "wrote o.csv (30 rows)" in ended.err
    assert only_batch()["status"] == "finished"


def test_quiet_says_nothing_where_all_went_well_and_what_failed_where_not(tmp_path: Path) -> None:
    app = app_with(tmp_path, TEXTS)
    env = {"PYTHONWARNINGS": "ignore"}
    words = ["batch", "count", "texts.jsonl", "--quiet", "--out", "o.jsonl", "--force", "--where", 'text == "one"']
    well = plait(*words, cwd=app, env=env)
    assert (well.code, well.out, well.err) == (0, "", "counting\n")
    ill = plait(*words[:-1], 'text != "one"', cwd=app, env=env)
    assert ill.code == 1
    assert "plait: 1 row failed" in ill.err
    assert "rows done" not in ill.err
    assert "wrote" not in ill.err


def test_columns_constants_conditions_and_stdin_choose_what_runs(tmp_path: Path) -> None:
    app = app_with(tmp_path, [])
    table = "name,lang\nAda,en\nBob,de\nCy,en\nDi,en\n"
    words = ["--map", "text=name", "--where", 'lang == "en"', "--limit", "2", "--format", "csv", "--id", "name"]
    mapped = plait("batch", "count", "-", *words, cwd=app, stdin=table)
    assert mapped.code == 0, mapped.err
    assert sorted((row["id"], row["outputs"]["length"]) for row in lines_of(mapped.out)) == [("Ada", 3), ("Cy", 2)]  # type: ignore[index]
    constant = plait("batch", "count", "-", "--set", "text=abcde", "--format", "csv", cwd=app, stdin=table)
    assert [row["outputs"]["length"] for row in lines_of(constant.out)] == [5, 5, 5, 5]  # type: ignore[index]


def test_without_a_models_name_nothing_begins_where_the_workflow_needs_one(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one"])
    ended = plait("batch", "ask", "texts.jsonl", cwd=app)
    assert ended.code == 2
    assert ended.err == (
        "plait: expected a model, found none: name one with --model or PLAIT_MODEL, or ask for the embedded model "
        "with --model local:smollm2-135m\n"
    )
    assert plait("batches").out.startswith("there are no batches in ")
    assert plait("batch", "count", "texts.jsonl", cwd=app).code == 0  # it calls none


def test_a_file_in_the_way_is_found_before_anything_is_spent(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one", "two"])
    (app / "o.jsonl").write_text("mine\n")
    with running() as provider:
        env = endpoint_env(provider)
        for file, words in (
            ("o.jsonl", "o.jsonl exists: choose another name, or replace it with --force"),
            ("none/o.jsonl", "there is no folder"),
            ("o.xlsx", "expected a name ending in one of .jsonl"),
        ):
            ended = plait("batch", "ask", "texts.jsonl", "--out", file, cwd=app, env=env)
            assert ended.code == 2
            assert words in ended.err
        assert provider.counters.received == 0
        assert (app / "o.jsonl").read_text() == "mine\n"
        assert plait("batches").out.startswith("there are no batches in ")
        assert plait("batch", "ask", "texts.jsonl", "--out", "o.jsonl", "--force", cwd=app, env=env).code == 0
    assert len(lines_of((app / "o.jsonl").read_text())) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "0"], "--limit: expected 1 or more rows, found 0"),
        (["--map", "text"], "--map: expected INPUT=COLUMN, found 'text'"),
        (["--deadline", "soon"], "--deadline: expected a time above 0 such as 90, 15m, 2h or 30d, found 'soon'"),
        (["--budget-tokens", "-1"], "--budget-tokens: expected a number above 0, found -1"),
        (["--workers", "many"], "--workers: expected a number of processes or auto, found 'many'"),
        (["--model", "openai:"], "--model: expected endpoint:model, found 'openai:' with no model name"),
        (["--map", "text=txet"], "text"),
    ],
)
def test_a_wrong_option_is_named_and_leaves_no_batch(words: list[str], message: str, tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one"])
    ended = plait("batch", "count", "texts.jsonl", *words, cwd=app)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert not list(Path(os.environ["PLAIT_HOME"]).glob("batches/*"))


def test_a_home_that_cannot_be_written_is_told_with_its_cure(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one"])
    (tmp_path / "file").write_text("")
    ended = plait("batch", "count", "texts.jsonl", cwd=app, env={"PLAIT_HOME": str(tmp_path / "file")})
    assert ended.code == 2
    assert ended.err.startswith(f"plait: batches are kept in {tmp_path}/file/batches, which cannot be written: ")
    assert "set PLAIT_HOME" in ended.err


# --- pauses and going on -------------------------------------------------------------------------------


def test_a_reached_budget_pauses_with_5_and_a_resume_pays_only_for_the_rest(tmp_path: Path) -> None:
    app = app_with(tmp_path, [f"text {number}" for number in range(20)])
    with running() as provider:
        env = endpoint_env(provider)
        words = ["--id", "id", "--budget-tokens", "300", "--max-concurrency", "2", "--out", "o.jsonl"]
        paused = plait("batch", "ask", "texts.jsonl", *words, cwd=app, env=env)
        assert paused.code == 5
        assert "the budget of 300 tokens" in paused.err
        assert "raise it with --budget-tokens" in paused.err
        first = lines_of((app / "o.jsonl").read_text())
        assert 0 < len(first) < 20
        assert f"plait resume {only_batch()['id']}" in paused.err
        ended = plait("resume", "--budget-tokens", "100000", cwd=tmp_path.parent, env=env)
        assert ended.code == 0, ended.err
        assert provider.counters.accepted == 20
    whole = lines_of((app / "o.jsonl").read_text())
    assert [row["id"] for row in whole] == [f"r{number}" for number in range(20)]
    assert [row for row in whole if row in first] == first


def test_too_many_errors_pause_with_5(tmp_path: Path) -> None:
    app = app_with(tmp_path, [f"bad {number}" for number in range(50)])
    ended = plait("batch", "count", "texts.jsonl", "--max-errors", "3", "--quiet", cwd=app)
    assert ended.code == 5
    assert "--max-errors allows 3" in ended.err
    assert only_batch()["status"] == "paused"


def test_a_reached_deadline_pauses_with_5_and_leaves_rows_in_flight_pending(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one", "two"])
    with running() as provider:
        provider.close_gate()
        ended = plait("batch", "ask", "texts.jsonl", "--deadline", "2s", cwd=app, env=endpoint_env(provider))
        assert (ended.code, ended.out) == (5, ""), ended.err
        assert "the batch's deadline of 2 s is over" in ended.err
        assert "2 rows are pending" in ended.err


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        (PauseFlags(), {}),
        (PauseFlags(workers="3"), {"workers": 3, "ray": None}),
        (PauseFlags(ray="auto"), {"ray": "auto", "workers": 0}),
        (PauseFlags(ray="auto", workers="3"), {"ray": "auto", "workers": 3}),
        (PauseFlags(ray="auto", workers="auto"), {"ray": "auto", "workers": 0}),
    ],
)
def test_a_resume_moves_to_the_machines_that_are_named(flags: PauseFlags, values: dict[str, object]) -> None:
    # Workers without a cluster are this machine's; a cluster without a number has its own.
    assert pause_values(flags) == values


def test_a_refused_key_pauses_with_4_its_cause_and_its_cure(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one", "two", "three"])
    with running(Profile(require_key="sk-right")) as provider:
        env = endpoint_env(provider)
        paused = plait("batch", "ask", "texts.jsonl", cwd=app, env=env)
        assert (paused.code, paused.out) == (4, "")
        assert "refused the key in OPENAI_API_KEY (401)" in paused.err
        assert "3 rows are pending and nothing is lost: plait resume " in paused.err
        ended = plait("resume", env=env | {"OPENAI_API_KEY": "sk-right"})
        assert ended.code == 0, ended.err
        assert len(lines_of(ended.out)) == 3


def test_errors_only_runs_the_failed_rows_of_the_newest_batch_that_has_some(tmp_path: Path) -> None:
    app = app_with(tmp_path, TEXTS)
    plait("batch", "count", "texts.jsonl", "--id", "id", "--out", "o.jsonl", cwd=app)
    source = (app / "count.py").read_text().replace('"bad"', '"worse"')
    (app / "count.py").write_text(source)
    changed = plait("resume", "--errors-only")
    assert changed.code == 2
    assert "count.py" in changed.err
    assert "--force" in changed.err
    ended = plait("resume", "--errors-only", "--force")
    assert ended.code == 0, ended.err
    assert ended.err.count("counting") == 1
    assert [row["error"] for row in lines_of((app / "o.jsonl").read_text())] == [None] * 5


def test_a_resume_may_name_its_own_out_again_and_keeps_what_it_is_given(tmp_path: Path) -> None:
    app = app_with(tmp_path, TEXTS)
    assert plait("batch", "count", "texts.jsonl", "--id", "id", cwd=app).code == 1
    (app / "mine.jsonl").write_text("mine\n")
    taken = plait("resume", "--errors-only", "--out", "mine.jsonl", cwd=app)
    assert taken.code == 2
    assert "mine.jsonl exists" in taken.err
    for words in (["--out", "o.jsonl"], ["--out", "./o.jsonl"], []):
        again = plait("resume", str(only_batch()["id"]), *words, "--errors-only", cwd=app)
        assert (again.code, again.out) == (1, ""), again.err
        assert "wrote " in again.err
    (app / "count.py").write_text((app / "count.py").read_text().replace('"bad"', '"worse"'))
    changed = plait("resume", str(only_batch()["id"]), "--errors-only", "--out", "o.jsonl", cwd=app)
    assert changed.code == 2
    assert "found changes" in changed.err
    assert (app / "mine.jsonl").read_text() == "mine\n"


async def test_every_command_looks_where_the_env_of_the_app_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLAIT_HOME")
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    app = app_with(tmp_path / "app", TEXTS)
    manifest = json.loads((app / "langgraph.json").read_text()) | {"env": {"PLAIT_HOME": str(tmp_path / "home")}}
    (app / "langgraph.json").write_text(json.dumps(manifest))
    assert plait("batch", "count", "texts.jsonl", "--id", "id", cwd=app).code == 1
    (app / "count.py").write_text((app / "count.py").read_text().replace('"bad"', '"worse"'))
    resumed = plait("resume", "--errors-only", "--force", cwd=app)
    assert resumed.code == 0, resumed.err
    (found,) = json.loads(plait("batches", "--json", cwd=app).out)
    assert found["done"] > 0
    assert plait("export", found["id"], "o.jsonl", cwd=app).code == 0
    monkeypatch.chdir(app)
    assert [row async for row in python_resume(found["id"])] == []  # it is there, and has ended
    pruned = plait("prune", "--older-than", "0.001s", "--dry-run", cwd=app)
    assert (pruned.code, found["id"] in pruned.out) == (0, True), pruned.err


def test_resume_of_what_is_not_there_says_what_is(tmp_path: Path) -> None:
    nothing = plait("resume")
    assert (nothing.code, nothing.err) == (
        2,
        "plait: there is no unfinished batch; `plait batches` lists all there are\n",
    )
    app = app_with(tmp_path, ["one"])
    plait("batch", "count", "texts.jsonl", cwd=app)
    batch = str(only_batch()["id"])
    wrong = plait("resume", f"{batch[:-1]}?")
    assert wrong.code == 2
    assert f"did you mean {batch}?" in wrong.err


def test_speedup_prints_both_times_and_the_factor_and_keeps_no_batch(tmp_path: Path) -> None:
    app = app_with(tmp_path, ["one", "bad", "two"])
    with running(Profile(latency_s=0.1)) as provider:
        ended = plait("speedup", "ask", "texts.jsonl", cwd=app, env=endpoint_env(provider))
        assert provider.counters.received == 5  # one to warm up, two rows twice
    assert ended.code == 1
    assert ended.out.startswith("3 rows of ask: ")
    assert " s one after another, " in ended.out
    assert ended.out.endswith(" times as fast\n")
    assert "plait: 2 of 6 runs failed" in ended.err
    assert "2 x ValueError" in ended.err
    assert plait("batches").out.startswith("there are no batches in ")


def test_help_says_where_a_single_calls_deadline_is_set_and_groups_the_options() -> None:
    ended = plait("batch", "--help", env={"COLUMNS": "120"})
    assert ended.code == 0
    places = [ended.out.index(f"─ {panel} ─") for panel in ("Output", "Rows", "When it pauses or gives up", "Limits")]
    assert places == sorted(places)
    assert "(A single call's: PLAIT_DEADLINE_S.)" in ended.out
