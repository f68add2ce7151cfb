"""The performance pages are what the generator makes of the kept results; goals say what they could not read."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.__main__ import ALL, PARTS, main
from benchmarks.measure import Note, noting, print_ratios
from benchmarks.page import BadPage, fill, generate, wanted
from benchmarks.page_goals import Goal, Unreadable, goals_table, read_goals
from benchmarks.page_losses import losses
from benchmarks.page_pictures import Bar, Target, bars
from benchmarks.records import BenchmarkFailed, Result, observe, read_results, write_notes

ROUNDS = Result(
    "costs",
    "2026-11-21 21:55",
    93,
    "a machine",
    {"plait": "0.1.0"},
    (0.4, 1.2),
    ("AsyncOpenAI  1.00 ms", "added  4.20 ms (4.00 to 5.00)", "refusals 7 (6 to 9)", "refusals 21 (6 to 9)"),
    (
        Note("AsyncOpenAI, default client", "ms", (1.0, 1.2, 0.8)),
        Note("plait.batch, limiter, journal, store", "ms", (1.5, 1.5, 1.6)),
        Note("plait.run, limiter", "ms", (1.1, 1.1, 1.1)),
        Note("LangGraph abatch", "ms", (3.0, 3.0, 3.0)),
        Note("journal and store", "ms above plait.run", (0.4, 0.4, 0.5)),
    ),
)


def test_the_committed_pages_are_what_the_generator_makes_of_the_committed_results() -> None:
    stale = [
        each.path.name
        for each in generate(read_results())
        if not each.path.exists() or each.path.read_text(encoding="utf-8") != each.text
    ]
    assert not stale, f"run `python -m benchmarks page`: {stale} differ"


def test_every_benchmark_that_pages_and_goals_name_can_be_run() -> None:
    names = wanted()
    assert set(names) <= set(ALL) | set(PARTS)
    assert names[-1] == "capacity"


def test_every_goal_has_one_bound_one_reading_and_words_of_its_own() -> None:
    goals = read_goals()
    for goal in goals:
        assert (goal.most is None) != (goal.least is None), goal
        assert sum(map(bool, (goal.ratio, goal.noted, goal.line))) == 1, goal
    assert len({(goal.part, goal.result, goal.words) for goal in goals}) == len(goals)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    goal = Goal("issue 8", "a row", "costs", most=1.5, ratio=(ROUNDS.notes[1].subject, ROUNDS.notes[0].subject))
    assert goal.value(ROUNDS) == 1.5
    assert goal.met(1.5)
    assert goal.met(1.504)
    assert not goal.met(1.51)


def test_a_line_gives_its_first_number_or_the_worst_of_several() -> None:
    first = Goal("limits", "refusals", "costs", most=20, line=r"refusals (\d+)")
    assert first.value(ROUNDS) == 7
    assert replace(first, pick="max").value(ROUNDS) == 21
    table = goals_table([first, replace(first, pick="max"), replace(first, result="elsewhere")], {"costs": ROUNDS})
    assert "1 of 2 met, 1 missed, 1 not measured." in table
    assert "| 21.00 | **missed** | `costs` |" in table


def test_a_goal_that_finds_nothing_says_what_it_expected() -> None:
    with pytest.raises(Unreadable, match="expected a line like"):
        Goal("limits", "words", "costs", most=1, line="nothing of the kind ([0-9])").value(ROUNDS)
    with pytest.raises(Unreadable, match=r"expected a note of 'nobody'.*found \['AsyncOpenAI, default client'"):
        Goal("limits", "words", "costs", most=1, noted="nobody").value(ROUNDS)


def test_a_page_with_an_unknown_directive_is_refused() -> None:
    with pytest.raises(BadPage, match=r"expected one of table.*found \{tabel costs\}"):
        fill("# Title\n\n{tabel costs}\n", {}, "page.md")
    with pytest.raises(BadPage, match=r"expected a picture of .*cpu.*; found cup"):
        fill("{picture cup: Bars}\n", {}, "page.md")


def test_a_table_stands_under_its_command_with_time_and_load() -> None:
    text = fill("{table costs}\n\n{picture cpu: Bars}\n\n{table row}\n", {"costs": ROUNDS}, "page.md")
    assert "`python -m benchmarks costs`, 2026-11-21 21:55 UTC, 93 s, load 0.4 to 1.2:\n\n```text\nAsyncOpenAI" in text
    assert "![Bars](pictures/performance-cpu.svg)" in text
    assert "`python -m benchmarks row`: not measured yet." in text


def test_losses_name_the_peers_that_need_less_and_the_goals_that_are_missed() -> None:
    text = losses({"costs": ROUNDS})
    assert "AsyncOpenAI, default client 1.00 ms; plait.batch, limiter, journal, store 1.50 ms." in text
    assert "abatch 3" not in text
    assert "1.50x, where <= 1.25x was wanted (`costs`)" in text


def test_a_picture_has_a_bar_a_subject_each_as_long_as_its_value() -> None:
    rows = [Bar("a < b", 1.0, "1.00", 0.9, 1.1), Bar("plait", 2.0, "2.00", ours=True)]
    svg = ElementTree.fromstring(bars("A & B", rows, [Target(1.5, "the target")]))
    space = "{http://www.w3.org/2000/svg}"
    first, second = svg.findall(f"{space}rect")
    assert float(second.attrib["width"]) == pytest.approx(2 * float(first.attrib["width"]), abs=0.1)
    assert [first.attrib["class"], second.attrib["class"]] == ["bar", "ours"]
    shown = [each.text for each in svg.iter(f"{space}text")]
    assert shown == ["A & B", "a < b", "1.00", "plait", "2.00", "the target"]
    edge = float(svg.attrib["width"])
    assert all(float(each.attrib["x"]) <= edge for each in svg.iter(f"{space}text"))


def test_ratios_that_are_printed_are_noted_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"peer": [0.001, 0.002], "ours": [0.002, 0.002]}
    with noting() as notes:
        print_ratios(found, "peer", unit="ms", scale=1000)
        print_ratios(found, "ours", unit="ms", scale=1000)
    print_ratios(found, "peer", unit="ms", scale=1000)
    assert [(each.subject, each.measure, each.values) for each in notes] == [
        ("peer", "ms", (1.0, 2.0)),
        ("ours", "ms", (2.0, 2.0)),
    ]
    assert "the peer" in capsys.readouterr().out


def test_a_benchmark_is_observed_with_what_it_prints_and_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notes.json"
    write_notes([Note("plait", "ms", (1.23456, 20000.4))], file)
    found = observe("row", [sys.executable, "-c", "print('first'); print('second')"], file)
    assert found.lines == ("first", "second")
    assert found.notes == (Note("plait", "ms", (1.235, 20000.0)),)
    assert found.figure("plait", "m").median == pytest.approx(10000.6175)
    assert capsys.readouterr().out == "first\nsecond\n"
    with pytest.raises(BenchmarkFailed, match="row ended with exit code 3"):
        observe("row", [sys.executable, "-c", "raise SystemExit(3)"], file)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(json.dumps(asdict(ROUNDS)))
    assert read_results(tmp_path) == {"costs": ROUNDS}


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed"]) == 2
    assert "found speed" in capsys.readouterr().err
