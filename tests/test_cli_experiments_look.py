"""Looking at experiments: plait compare, plait experiments, plait report, their tables and their figures."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import pytest
from langgraph.graph import StateGraph
from rich.console import Console

import plait
from plait.batches import BatchOptions
from plait.cli.exits import USAGE
from plait.cli.experiments import figures
from plait.cli.experiments.compare import Options as CompareOptions
from plait.cli.experiments.compare import show_comparison
from plait.cli.experiments.listing import show_experiments
from plait.cli.experiments.report import Options as ReportOptions
from plait.cli.experiments.report import show_report
from plait.cli.experiments.tables import Facts, Page, Sheet, Title, cell
from plait.errors import BatchPaused, InputError, SettingsError
from plait.experiments import Definition, Experiment, compare, evaluate
from plait.experiments import read as read_experiment
from plait.experiments.findings import Interval
from plait.runs import Graph
from plait.settings import Settings, from_env
from plait.simulator import Simulator
from tests.command import on_terminal
from tests.command import plait as command

TOPICS = [f"t{number}" for number in range(12)]
CHANGED = "write well "


class Input(TypedDict):
    topic: str


class Story(Input):
    plan: str
    story: str


def story(prompt: str) -> Graph:
    """Two nodes of one call each; a topic that begins with bad fails in the first."""

    async def plan(state: Input) -> dict[str, str]:
        if state["topic"].startswith("bad"):
            raise ValueError("no such topic \x1b[2J https://me:secret@example.com")
        message = await plait.chat_model(temperature=0.9).ainvoke(f"plan {state['topic']}")
        return {"plan": message.text}

    async def write(state: Story) -> dict[str, str]:
        message = await plait.chat_model(temperature=0.9).ainvoke(prompt + state["plan"])
        return {"story": message.text}

    builder = StateGraph(Story, input_schema=Input).add_node(plan).add_node(write)
    return builder.add_edge("__start__", "plan").add_edge("plan", "write").compile(name="story")


def passes(inputs: dict[str, str], outputs: dict[str, str]) -> bool:
    """A planted improvement: 2 of 12 before; after it all but t0, which it loses."""
    number = int(inputs["topic"][1:])
    return number != 0 if CHANGED in outputs["story"] else number < 2


async def judge(outputs: dict[str, str]) -> float:
    message = await plait.chat_model().ainvoke(f"judge {outputs['story']}")
    return len(message.text) / 100


def tone(outputs: dict[str, str]) -> str:
    return "warm\x1b[2J" if CHANGED in outputs["story"] else "cold"


def picky(inputs: dict[str, str]) -> float:
    if inputs["topic"] == "t3":
        raise KeyError("no opinion")
    return 1.0


def settings_of(simulator: Simulator, home: Path) -> Settings:
    return from_env(
        {
            "OPENAI_BASE_URL": simulator.base_url,
            "OPENAI_API_KEY": "sk-test",
            "PLAIT_MODEL": "openai:gpt-4.1-mini",
            "PLAIT_HOME": str(home),
        }
    )


def definition(prompt: str, topics: list[str], folder: Path) -> Definition:
    return Definition(
        name="story-quality",
        workflow=story(prompt),
        dataset=[{"topic": topic, "id": topic} for topic in topics],
        folder=folder,
        evaluators=(passes, judge, tone, picky),
        thresholds={"passes": ">= 0.8", "errors": "0"},
    )


async def make(home: Path) -> None:
    async with Simulator() as simulator:
        settings = settings_of(simulator, home)
        topics = [*TOPICS, "bad one"]
        await evaluate(definition("write ", topics, home), name="before", settings=settings)
        await evaluate(definition(CHANGED, topics, home), name="after", reuse="before", settings=settings)
        await evaluate(definition(CHANGED, TOPICS[:8], home), name="fewer", reuse="before", settings=settings)
        with pytest.raises(BatchPaused):
            await evaluate(
                definition(CHANGED, topics, home),
                name="half",
                options=BatchOptions(budget_tokens=150),
                settings=settings,
            )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the experiments before, after, fewer and half; only read."""
    home = tmp_path_factory.mktemp("experiments")
    asyncio.run(make(home))
    return home


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAIT_HOME", str(made))
    monkeypatch.delenv("COLUMNS", raising=False)
    return made


def read(home: Path, name: str) -> Experiment:
    return read_experiment(name, settings=from_env({"PLAIT_HOME": str(home)}))


def line_with(text: str, *words: str) -> str:
    """The one line that has all of them."""
    found = [line for line in text.splitlines() if all(word in line for word in words)]
    assert len(found) == 1, (words, found, text)
    return " ".join(found[0].split())


def section(text: str, title: str) -> list[str]:
    """The lines below a title."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(title)) + 1
    return lines[begin : lines.index("", begin) if "" in lines[begin:] else None]


# --- compare -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_compare_says_the_verdict_first_then_figures_flips_costs_nodes_and_notes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show_comparison(CompareOptions(before="before", after="after")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lost = "1 of 13 examples could not be compared: after failed on 1 and before failed on 1."
    assert out.startswith(f"{lost} Of the rest: after is better in passes (+0.75)")
    found = line_with(out, "passes", "better", "points")
    assert found.startswith("passes better 16.7 % 91.7 % +75.0 points")
    assert found.endswith("10/1/1")
    assert line_with(out, "picky", "no difference").endswith("1.00 1.00 0.00 0/11/0")
    assert line_with(out, "calls replayed for free").endswith("0 12")
    assert line_with(out, "plan", "12 -> 0", "0 -> 12").startswith("plan 13 12 -> 0 0 -> 12 $0.")
    assert "12 of 36 calls of after were replayed from before" in out
    order = ["after is better", "\nscores\n", "\npasses: 11 of", "\nwhat it cost\n", "\nnodes\n", "\nnotes\n"]
    assert [out.index(each) for each in order] == sorted(out.index(each) for each in order)
    assert "\x1b" not in out


@pytest.mark.usefixtures("home")
def test_few_examples_that_flipped_still_show_both_directions(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_comparison(CompareOptions(before="before", after="after", examples=2)) == 0
    out = capsys.readouterr().out
    assert "passes: 11 of 12 examples changed, 2 shown" in out
    shown = [" ".join(line.split()) for line in section(out, "passes: 11 of")[1:]]
    assert shown == ["t0 passed -> failed worse t0", "t2 failed -> passed better t2"]
    assert "cold -> warm[2J" in out
    assert show_comparison(CompareOptions(before="before", after="after", examples=0)) == 0
    assert "passes: 11 of" not in capsys.readouterr().out


def test_a_worse_experiment_is_no_failure_of_compare(home: Path) -> None:
    ended = command("compare", "after", "before", env={"PLAIT_HOME": str(home)})
    assert ended.code == 0, ended.err
    assert "Of the rest: before is worse in passes (-0.75)" in ended.out


def test_other_examples_are_refused_with_the_difference_unless_they_intersect(home: Path) -> None:
    ended = command("compare", "before", "fewer", env={"PLAIT_HOME": str(home)})
    assert ended.code == USAGE
    assert "5 only in before (t8, t9, t10, t11, bad one)" in ended.err
    assert "--intersect" in ended.err
    ended = command("compare", "before", "fewer", "--intersect", env={"PLAIT_HOME": str(home)})
    assert ended.code == 0, ended.err
    assert "over 8 examples of both; left out: 5 only in before" in ended.out


def test_the_json_of_compare_is_the_comparison_of_python(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_comparison(CompareOptions(before="before", after="after", as_json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    found = compare(read(home, "before"), read(home, "after"))
    assert told["verdict"] == found.verdict
    assert [metric["p_adjusted"] for metric in told["metrics"]] == [metric.p_adjusted for metric in found.metrics]
    assert told["metrics"][0]["changes"][0] == {"example_id": "t0", "before": 1.0, "after": 0.0}


@pytest.mark.usefixtures("home")
def test_compare_writes_an_html_file_too_and_replaces_none_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.html"
    assert show_comparison(CompareOptions(before="before", after="after", html=file)) == 0
    out, err = capsys.readouterr()
    assert "Of the rest: after is better" in out
    assert err.startswith(f"wrote {file} (")
    assert "after is better in passes" in file.read_text()
    with pytest.raises(SettingsError, match="--force"):
        show_comparison(CompareOptions(before="before", after="after", html=file))
    file.write_text("older")
    assert show_comparison(CompareOptions(before="before", after="after", html=file, force=True)) == 0
    assert "after is better in passes" in file.read_text()


@pytest.mark.parametrize(
    ("html", "force", "expected"),
    [("report.pdf", False, "ending in .html"), ("no/r.html", False, "make it first"), (None, True, "expected --html")],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(
    html: str | None, force: bool, expected: str, tmp_path: Path
) -> None:
    file = tmp_path / html if html else None
    with pytest.raises((SettingsError, InputError), match=expected):
        show_comparison(CompareOptions(before="x", after="y", html=file, force=force))
    with pytest.raises((SettingsError, InputError), match=expected):
        show_report(ReportOptions(name="x", html=file, force=force))


@pytest.mark.usefixtures("home")
def test_a_negative_number_of_examples_is_refused() -> None:
    with pytest.raises(InputError, match="--examples: expected 0 or more, found -1"):
        show_comparison(CompareOptions(before="before", after="after", examples=-1))


# --- experiments ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_experiments_are_listed_newest_first_with_scores_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_experiments(as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["experiment", "half", "fewer", "after", "before"]
    assert "passes 91.7 %, judge 0." in lines[3]
    assert "passes 16.7 %" in lines[4]
    assert "story-quality (story)" in lines[4]
    assert "openai:gpt-4.1-mini" in lines[4]
    assert lines[4].split()[:4] == ["before", "finished", "12", "1"]
    assert "paused" in lines[1]


def test_the_list_tells_programs_the_same_as_the_report(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_experiments(as_json=True) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert show_report(ReportOptions(name="after", against="none", as_json=True)) == 0
    report = json.loads(capsys.readouterr().out)
    means = {metric["key"]: metric["mean"] for metric in report["metrics"] if metric["mean"] is not None}
    assert listed["after"]["scores"] == pytest.approx(means)
    assert listed["after"]["cost_usd"] == pytest.approx(report["totals"]["cost_usd"])
    assert [failed["example"] for failed in report["failed_runs"]] == ["bad one"]
    assert [failed["failure"]["evaluator"] for failed in report["evaluator_failures"]] == ["picky"]
    assert [check["met"] for check in report["thresholds"]] == [True, False]
    assert listed["after"]["reused"] == "before"
    assert listed["after"]["folder"] == report["folder"] == str(read(home, "after").place)


def test_without_experiments_the_list_says_how_to_begin_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    assert show_experiments(as_json=False) == 0
    assert "plait eval EXPERIMENT begins one" in capsys.readouterr().out
    assert show_experiments(as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_scores_of_more_runs_than_a_list_may_read_are_left_to_the_report(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "copy"))
    shutil.copytree(made, tmp_path / "copy")
    large = read(made, "after")
    with closing(sqlite3.connect(tmp_path / "copy" / "batches" / large.id / "batch.db")) as database:
        row = database.execute("SELECT * FROM results WHERE position = 0").fetchone()
        marks = ", ".join("?" * len(row))
        copies = ((position, *row[1:]) for position in range(13, 10_001))
        database.executemany(f"INSERT INTO results VALUES ({marks})", copies)
        database.commit()
    assert show_experiments(as_json=False) == 0
    out = capsys.readouterr().out
    assert "passes" not in line_with(out, "after ")
    assert "passes 16.7 %" in line_with(out, "before ")
    assert f"the scores of 1 experiment; plait report {large.id} shows them" in out


# --- report --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_report_says_what_it_was_run_with_its_scores_thresholds_errors_and_nodes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show_report(ReportOptions(name="before")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("before  finished\n")
    assert line_with(out, "definition") == "definition story-quality"
    assert line_with(out, "model", "openai") == "model openai:gpt-4.1-mini"
    assert line_with(out, "passes", "share") == "passes 16.7 % 4.7 to 44.8 % 12 1 share"
    assert "intervals: Wilson of passes" in out
    assert "tone: cold 100.0 %" in out
    assert "passes: 0.166667, >= 0.8 is not met" in out
    assert "errors: 2, <= 0 is not met" in out
    assert line_with(out, "1 x ValueError") == (
        "1 x ValueError, as bad one: node 'plan' raised ValueError: no such topic [2J https://***@example.com"
    )
    assert "1 x picky: KeyError: 'no opinion'" in out
    assert "plait resume story-" in line_with(out, "--errors-only")
    assert len(section(out, "slowest")) == 4
    assert [line.split()[:4] for line in section(out, "nodes")[1:]] == [
        ["plan", "13", "12", "0"],
        ["write", "12", "12", "0"],
    ]
    assert "\x1b" not in out


@pytest.mark.usefixtures("home")
def test_report_compares_with_the_experiment_whose_answers_it_reused(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_report(ReportOptions(name="after")) == 0
    out, err = capsys.readouterr()
    assert err.startswith("compared with before, whose answers it reused")
    assert "\nagainst before\n  1 of 13 examples could not be compared" in out
    assert "Of the rest: after is better in passes" in " ".join(out.split())
    assert "plait compare before after" in out
    assert show_report(ReportOptions(name="after", against="none")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "against" not in out
    assert show_report(ReportOptions(name="fewer")) == 0
    out, err = capsys.readouterr()
    assert err.startswith("not compared with before, whose answers it reused: cannot compare")
    assert "against" not in out


def test_report_goes_on_without_the_experiment_it_reused_where_that_is_gone(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "copy"))
    shutil.copytree(made, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "batches" / read(made, "before").id)
    assert show_report(ReportOptions(name="after")) == 0
    out, err = capsys.readouterr()
    assert out.startswith("after  finished")
    assert err.startswith("not compared with before, whose answers it reused: there is no experiment 'before'")


@pytest.mark.usefixtures("home")
def test_report_against_an_experiment_over_other_examples_says_what_to_do() -> None:
    with pytest.raises(InputError, match="plait compare before fewer --intersect --html FILE"):
        show_report(ReportOptions(name="fewer", against="before"))


@pytest.mark.usefixtures("home")
def test_report_writes_the_html_file_and_says_where_and_how_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.html"
    assert show_report(ReportOptions(name="after", html=file)) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1].startswith(f"wrote {file} (")
    assert "after is better in passes" in file.read_text()
    assert show_report(ReportOptions(name="after", html=file, against="none", force=True)) == 0
    assert "after is better in passes" not in file.read_text()


def test_an_experiment_that_paused_is_shown_with_what_it_has(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = read(home, "half")
    assert half.status == "paused"
    assert 0 < len(half.runs) < 13
    assert show_report(ReportOptions(name="half")) == 0
    out = capsys.readouterr().out
    assert out.startswith("half  paused\n")
    assert f"It is paused: what follows is of the {len(half.runs):,} of 13 runs that ended." in out
    assert f"plait resume {half.id}\n" in out


def test_unknown_names_bring_those_that_come_near(home: Path) -> None:
    ended = command("report", "befor", env={"PLAIT_HOME": str(home)})
    assert ended.code == USAGE
    assert "did you mean before?" in ended.err
    assert ended.out == ""


def test_without_scipy_one_line_names_the_extra(home: Path, tmp_path: Path) -> None:
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy" / "__init__.py").write_text("raise ImportError('not installed')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = command("report", "before", env={"PLAIT_HOME": str(home), "PYTHONPATH": path})
    assert ended.code == USAGE
    assert "pip install 'plait[eval]'" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert ended.out == ""


# --- terminals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 60, 40])
def test_on_narrow_terminals_every_figure_of_the_pipe_is_still_there(
    width: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_comparison(CompareOptions(before="before", after="after")) == 0
    whole = capsys.readouterr().out
    with on_terminal("compare", "before", "after", size=(width, 24), env={"PLAIT_HOME": str(home)}) as terminal:
        shown = terminal.read_to_end()
    assert max(map(len, shown.splitlines())) <= width
    assert len(shown.splitlines()) > len(whole.splitlines())
    # A word longer than the line is folded.
    folded = "".join(shown.split())
    assert not [word for word in whole.split() if word not in folded]


def test_colours_only_on_terminals_that_want_them(home: Path) -> None:
    env = {"PLAIT_HOME": str(home)}
    with on_terminal("compare", "before", "after", env=env) as terminal:
        terminal.read_to_end()
        assert b"\x1b[32mbetter" in terminal.raw
    with on_terminal("compare", "before", "after", env=env | {"NO_COLOR": "1"}) as terminal:
        terminal.read_to_end()
        assert b"\x1b[3" not in terminal.raw
        assert b"better" in terminal.raw


def shown(page: Page, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, markup=False).print(page)
    return file.getvalue().splitlines()


SHEET = Sheet(
    ("name", "first", "second", "never"),
    [
        [cell("alpha"), cell("1,000"), cell("a long text of some words"), cell("")],
        [cell("beta"), cell("2"), cell(""), cell("")],
    ],
    words=(0, 2),
)


def test_a_table_that_fits_has_a_line_a_row_and_no_empty_column() -> None:
    assert shown(Page([Title("all"), SHEET]), 60) == [
        "",
        "all",
        "  name   first  second",
        "  alpha  1,000  a long text of some words",
        "  beta       2",
    ]


def test_columns_without_room_stand_below_their_row() -> None:
    assert shown(Page([SHEET]), 30) == [
        "  name   first",
        "  alpha  1,000",
        "    second a long text of",
        "      some words",
        "  beta       2",
    ]


def test_facts_fold_beside_their_names_and_control_characters_are_left_out() -> None:
    page = Page([Facts({"model": "a\x1b[2Jb", "context": "one two three four", "none": ""})])
    assert shown(page, 25) == ["  model    a[2Jb", "  context  one two three", "           four"]


# --- figures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (0.75, "0.750"),
        (12.345, "12.3"),
        (5120.4, "5,120"),
        (-0.00002044, "-0.0000204"),
        (1e-15, "1.00e-15"),
        (float("nan"), "?"),
        (None, "?"),
    ],
)
def test_numbers_have_three_digits(value: float | None, expected: str) -> None:
    assert figures.number(value) == expected


def test_differences_have_signs_and_the_decimals_of_what_they_are_of() -> None:
    assert figures.change(0.25, "share") == "+25.0 points"
    assert figures.change(-0.05, "mean", mean=0.45) == "-0.050"
    assert figures.change(0.0004, "mean", mean=0.9) == "+0.0004"
    assert figures.change(0.0, "mean", mean=0.9) == "0.000"
    assert figures.change(1.5, "mean", mean=5120.0) == "+2"
    assert figures.change(None, "mean") == ""
    assert figures.change_interval(Interval(-0.05, 0.3, "t"), "mean") == "-0.050 to +0.300"
    assert figures.change_interval(Interval(-0.05, 0.3, "t"), "share") == "-5.0 to +30.0"
    assert figures.interval(Interval(0.61, 0.92, "Wilson"), "share") == "61.0 to 92.0 %"


def test_times_costs_and_probabilities_read_as_people_write_them() -> None:
    times = [figures.seconds(value) for value in (0.0123, 0.172, 9.5, 12.34, 200, None)]
    assert times == ["0.012 s", "0.17 s", "9.50 s", "12.3 s", "3 min 20 s", "?"]
    costs = [figures.dollars(value) for value in (0.0, 0.0000212, 0.0042, 1.5, None)]
    assert costs == ["$0.00", "$0.000021", "$0.0042", "$1.50", "?"]
    assert [figures.probability(value) for value in (0.0004, 0.0312, 0.41, None)] == ["< 0.001", "0.031", "0.41", ""]
